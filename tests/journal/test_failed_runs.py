"""Runs that failed are kept longer than others, and make room like them: over each backend."""

from collections.abc import Sequence

import pytest
from msgspec import Raw
from tests.journal.conftest import Make

from headway.errors import StreamNotFound
from headway.events import (
    Accepted,
    Cancelled,
    Completed,
    Event,
    Failed,
    Interrupted,
    Part,
    encode_json,
    is_failure,
)
from headway.journal import Journal
from headway.settings import Retention
from headway.testing import FakeClock

pytestmark = pytest.mark.anyio

GOOD = Completed(encode_json({"content": [], "isError": False}))
BAD = Completed(encode_json({"content": [{"type": "text", "text": "no"}], "isError": True}))
PIECE = Part(encode_json("x" * 2000))


@pytest.mark.parametrize(
    ("event", "failed"),
    [
        (GOOD, False),
        (BAD, True),
        (Completed(encode_json({"structuredContent": {"isError": True}})), False),
        (Completed(encode_json({"content": [{"text": '{"isError":true}'}]})), False),
        (Completed(encode_json(["isError"])), False),
        (Completed(Raw(b'{"content": [], "isError" : true}')), True),
        (Completed(Raw(b'{"content":[],\n "isError":\n  true\n}')), True),
        (Completed(Raw(b'{"content":[], "isError": false, "x": {"isError": true}}')), False),
        (Failed(-32001, "late"), True),
        (Interrupted("gone"), True),
        (Cancelled("client"), False),
    ],
)
def test_a_failure_is_told_by_its_end(event: Event, failed: bool) -> None:
    assert is_failure(event) is failed


def test_a_result_that_is_no_error_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headway.events._outcomes", None)
    assert is_failure(GOOD) is False


async def write_run(journal: Journal, name: str, *events: Event) -> str:
    stream = f"run/owner/{name}"
    await journal.append(stream, [Accepted("tools/call"), *events], after=0)
    return stream


async def kept_of(journal: Journal, streams: Sequence[str]) -> list[str]:
    kept: list[str] = []
    for stream in streams:
        try:
            await journal.read(stream)
        except StreamNotFound:
            continue
        kept.append(stream)
    return kept


async def pass_time(journal: Journal, seconds: float) -> None:
    """Let time pass, and wait each time until the journal has tidied up: storages work in order,
    and who still tidies up does not notice that it is time again."""
    assert isinstance(journal.clock, FakeClock)
    end = journal.clock.time() + seconds
    while (left := end - journal.clock.time()) > 0:
        await journal.clock.advance(min(left, 15))
        await journal.append(f"sweep:{journal.clock.time()}", [Accepted("x"), GOOD], after=0)


async def test_a_failed_run_is_kept_for_its_own_time(make: Make) -> None:
    retention = Retention(ttl=60, failed=240)
    async with make(retention, FakeClock()) as journal:
        good = await write_run(journal, "good", GOOD)
        bad = [
            await write_run(journal, "tool", BAD),
            await write_run(journal, "late", Failed(-32001, "late")),
            await write_run(journal, "gone", Interrupted("gone")),
        ]
        await pass_time(journal, 150)
        assert await kept_of(journal, [good, *bad]) == bad
        await pass_time(journal, 180)
        assert await kept_of(journal, bad) == []


async def test_less_time_for_failed_runs_than_for_others_means_the_same(make: Make) -> None:
    async with make(Retention(ttl=60, failed=0), FakeClock()) as journal:
        runs = [await write_run(journal, "good", GOOD), await write_run(journal, "bad", BAD)]
        assert await kept_of(journal, runs) == runs
        await pass_time(journal, 150)
        assert await kept_of(journal, runs) == []


async def test_a_failed_run_makes_room_for_results_that_are_newer(make: Make) -> None:
    retention = Retention(ttl=60, failed=7200, max_bytes=60_000)
    async with make(retention, FakeClock()) as journal:
        bad = [await write_run(journal, f"bad {n}", PIECE, BAD) for n in range(8)]
        await pass_time(journal, 150)
        assert await kept_of(journal, bad) == bad
        good = [await write_run(journal, f"good {n}", PIECE, GOOD) for n in range(18)]
        await pass_time(journal, 30)
        kept = await kept_of(journal, [*bad, *good])
        assert kept[-18:] == good
        assert len(kept) < 26  # and it was full


async def test_a_storm_of_failures_goes_by_age_with_the_rest(make: Make) -> None:
    retention = Retention(ttl=600, failed=7200, max_bytes=60_000)
    async with make(retention, FakeClock()) as journal:
        runs: list[str] = []
        for n in range(40):
            runs.append(await write_run(journal, f"{n}", PIECE, BAD if n % 2 else GOOD))
            await pass_time(journal, 1)
        await pass_time(journal, 45)
        kept = await kept_of(journal, runs)
        assert 0 < len(kept) < 40
        assert kept == runs[-len(kept) :]
