"""Keys: which run a key names."""

import pytest
from msgspec import Raw

from headway.engine.idempotency import NEVER_EXECUTED, NamedRun, RunNames
from headway.errors import StreamNotFound
from headway.events import Accepted, Claimed, Completed, Entry
from headway.journal import Journal, open_journal
from headway.settings import Retention
from headway.testing import FakeClock

pytestmark = pytest.mark.anyio


async def accepted(journal: Journal, stream: str) -> Claimed:
    await journal.append(stream, [Accepted("tools/call")], after=0)
    return Claimed(stream, "fingerprint")


def named(claimed: Claimed, *, is_gone: bool = False) -> NamedRun:
    return NamedRun(claimed.stream, claimed.fingerprint, is_gone)


async def test_a_run_that_was_not_begun_has_no_key() -> None:
    """Its request was lost while it claimed the key; who comes again is not to get its end."""
    async with open_journal("memory:") as journal:
        keys = RunNames(journal)
        lost, mine = await accepted(journal, "run/1"), await accepted(journal, "run/2")
        await journal.append_shared("key", lost)
        assert await keys.find_run("key") == named(lost)
        await journal.append("run/1", [NEVER_EXECUTED], after=1)
        assert await keys.find_run("key") is None
        assert await keys.claim_name("key", mine) == named(mine)
        assert await keys.find_run("key") == named(mine)


async def test_a_key_whose_run_has_ended_in_the_meantime_is_not_claimed_again() -> None:
    """Another process was quick: the key was free when it was looked for, and is over now."""
    async with open_journal("memory:") as journal:
        keys = RunNames(journal)
        quick, mine = await accepted(journal, "run/1"), await accepted(journal, "run/2")
        assert await keys.find_run("key") is None
        assert await keys.claim_name("key", quick) == named(quick)
        await journal.append("run/1", [Completed(Raw(b"{}"))], after=1)
        await keys.release_name("key")
        assert await keys.claim_name("key", mine) == named(quick)
        assert await keys.find_run("key") == named(quick)


async def test_a_key_whose_run_was_dropped_says_that_it_was_executed() -> None:
    async with open_journal("memory:") as journal:
        keys = RunNames(journal)
        gone, mine = await accepted(journal, "run/1"), await accepted(journal, "run/2")
        await keys.claim_name("key", gone)
        await journal.append("run/1", [Completed(Raw(b"{}"))], after=1)
        await keys.release_name("key")
        await journal.drop("run/1")
        assert await keys.find_run("key") == named(gone, is_gone=True)
        assert await keys.claim_name("key", mine) == named(gone, is_gone=True)
        assert not await keys.is_first("key", "run/2")


async def test_who_lost_the_race_for_a_key_is_not_executed_when_the_winner_is_dropped() -> None:
    """It still waits in a queue, for nobody has withdrawn it yet."""
    async with open_journal("memory:") as journal:
        keys = RunNames(journal)
        first, late = await accepted(journal, "run/1"), await accepted(journal, "run/2")
        for claim in (first, late):
            await journal.append_shared("key", claim)
        assert await keys.is_first("key", "run/1")
        await journal.append("run/1", [Completed(Raw(b"{}"))], after=1)
        await journal.drop("run/1")
        assert not await keys.is_first("key", "run/2")
        assert await keys.find_run("key") == named(first, is_gone=True)


async def test_a_claim_that_was_taken_back_names_nothing_also_when_its_run_is_gone() -> None:
    async with open_journal("memory:") as journal:
        keys = RunNames(journal)
        lost, mine = await accepted(journal, "run/1"), await accepted(journal, "run/2")
        await keys.claim_name("key", lost)
        await journal.append("run/1", [NEVER_EXECUTED], after=1)
        keys.withdraw_soon("key", "run/1")
        await keys.stop()
        await journal.drop("run/1")
        assert await keys.find_run("key") is None
        assert await keys.claim_name("key", mine) == named(mine)


async def test_a_key_that_names_nothing_is_let_go_of_when_it_is_old() -> None:
    clock = FakeClock()
    async with open_journal("memory:", clock=clock) as journal:
        keys = RunNames(journal)
        await keys.claim_name("key/a/1", await accepted(journal, "run/1"))
        await journal.append("run/1", [NEVER_EXECUTED], after=1)
        await keys.sweep()
        mine = await accepted(journal, "run/2")
        assert await keys.claim_name("key/a/1", mine) == named(mine)
        await journal.append("run/2", [NEVER_EXECUTED], after=1)
        await clock.advance(journal.retention.ttl * 1.1, step=600)
        await keys.sweep()
        head = await journal.head("key/a/1")
        assert head is None or head.ended


async def test_a_key_whose_beginning_is_gone_counts_as_used() -> None:
    async with open_journal("memory:", retention=Retention(stream_entries=8)) as journal:
        keys = RunNames(journal)
        for number in range(20):
            await journal.append_shared("key", await accepted(journal, f"run/{number}"))
            await journal.append(f"run/{number}", [NEVER_EXECUTED], after=1)
        found = await keys.find_run("key")
        assert found is not None
        assert found.is_gone
        assert not await keys.is_first("key", "run/19")


async def test_a_key_that_is_claimed_as_it_is_looked_for_is_not_taken_for_one_that_was_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of many who call with one key at once, some look between its absence and its first claim."""
    async with open_journal("memory:") as journal:
        keys = RunNames(journal)
        quick = await accepted(journal, "run/1")
        kept = journal.read_all_kept

        async def a_moment_too_early(stream: str) -> list[Entry]:
            monkeypatch.setattr(journal, "read_all_kept", kept)
            await journal.append_shared("key", quick)
            raise StreamNotFound(stream)

        monkeypatch.setattr(journal, "read_all_kept", a_moment_too_early)
        assert await keys.find_run("key") == named(quick)
