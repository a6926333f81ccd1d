"""Every backend keeps every clause, and the checker finds the journals that do not."""

from collections.abc import Iterable

import pytest
from tests.journal.conftest import Make

from headway.clock import Clock
from headway.events import Entry, Event
from headway.journal import Journal
from headway.journal.memory import memory_journal
from headway.settings import Retention
from headway.testing import CLAUSES, Clause, FakeClock, check_clause, check_journal

SMALL = Retention(ttl=600, max_bytes=200_000, stream_entries=300, stream_bytes=40_000)

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("clause", CLAUSES, ids=lambda clause: clause.__name__)
async def test_every_clause_holds(make: Make, clause: Clause) -> None:
    async with make() as journal:
        await check_clause(clause, journal)


@pytest.mark.parametrize("clause", CLAUSES, ids=lambda clause: clause.__name__)
async def test_every_clause_holds_with_little_room_and_time_in_hand(
    make: Make, clause: Clause
) -> None:
    async with make(SMALL, FakeClock()) as journal:
        await check_clause(clause, journal)


async def test_a_whole_journal_is_checked_in_one_call(make: Make) -> None:
    await check_journal(lambda: make(SMALL, FakeClock()))


class _Lax(Journal):
    """Takes every append as if it named the right place."""

    async def append(
        self, stream: str, events: Iterable[Event], *, after: int, recorded: bool = True
    ) -> int:
        head = await self.attach_stream(stream, recorded=recorded)
        return await super().append(stream, events, after=head.last, recorded=recorded)


class _Forgetful(Journal):
    """Loses the first entry of every page, as a replay with a gap would."""

    async def read(self, stream: str, *, after: int = 0, limit: int = 256) -> list[Entry]:
        return (await super().read(stream, after=after, limit=limit))[1:]


class _Silent(Journal):
    """Never wakes anybody."""

    def append_nowait(self, stream: str, event: Event, *, after: int, recorded: bool = True) -> int:
        tail = self.buffer_of(stream)
        waiters, held = ([], None) if tail is None else (tail.waiters, tail)
        if held is not None:
            held.waiters = []
        seq = super().append_nowait(stream, event, after=after, recorded=recorded)
        if held is not None:
            held.waiters = waiters
        return seq


class _Hoarding(Journal):
    """Keeps everything."""

    def __init__(self, *, retention: Retention, clock: Clock) -> None:
        super().__init__(retention=Retention(), clock=clock)
        self.own, self.retention = self.retention, retention

    def append_nowait(self, stream: str, event: Event, *, after: int, recorded: bool = True) -> int:
        told, self.retention = self.retention, self.own
        try:
            return super().append_nowait(stream, event, after=after, recorded=recorded)
        finally:
            self.retention = told


@pytest.mark.parametrize(
    ("kind", "broken"),
    [
        (_Lax, "an append behind any other entry than the last is refused"),
        (_Forgetful, "entries are numbered without gaps"),
        (_Silent, "a cursor opened before the first entry sees all of them once"),
        (_Hoarding, "a read below the oldest entry kept tells what is left"),
    ],
)
async def test_the_checker_names_the_clause_that_is_broken(
    kind: type[Journal], broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headway.testing.journal_contract.CLAUSE_TIMEOUT", 3.0)
    with pytest.raises(AssertionError, match=f"broken: {broken}"):
        await check_journal(lambda: kind(retention=SMALL, clock=FakeClock()))


async def test_a_memory_journal_is_what_the_url_gives() -> None:
    async with memory_journal(retention=SMALL) as journal:
        assert journal.retention is SMALL
