"""What the journal promises between its tails and a storage: order, failure and ending."""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from tests.kit.waits import PATIENCE, within

from headway.clock import Clock
from headway.errors import (
    Conflict,
    JournalError,
    JournalUnavailable,
    StreamEnded,
    StreamNotFound,
)
from headway.events import (
    Accepted,
    Completed,
    Entry,
    Event,
    Log,
    Part,
    Progress,
    Started,
    encode_json,
)
from headway.journal import Head, Journal, Write, open_journal
from headway.journal.polling import Polling
from headway.journal.store import OnChange, Watch
from headway.journal.stream_buffer import StreamBuffer
from headway.settings import Retention
from headway.testing import FakeClock

END: Event = Completed(encode_json(None))

pytestmark = pytest.mark.anyio


class GatedStore:
    """Keeps entries in lists. Writes wait at a gate and fail when told to."""

    def __init__(self) -> None:
        self.kept: dict[str, list[Entry]] = {}
        self.held, self.dropped = 0, dict[str, int]()
        self.gate = asyncio.Event()
        self.gate.set()
        self.arrived = asyncio.Event()
        self.failing = False
        self.refusals: dict[str, JournalError] = {}
        self.commits = 0
        self.remote = False
        self.reading = asyncio.Event()
        self.may_read = asyncio.Event()
        self.may_read.set()

    async def open(self) -> None: ...
    async def close(self) -> None: ...

    async def write(self, writes: Sequence[Write]) -> dict[str, JournalError]:
        self.arrived.set()
        await self.gate.wait()
        if self.failing:
            raise JournalUnavailable("the disk is full")
        self.commits += 1
        for write in writes:
            if write.stream not in self.refusals:
                self.kept.setdefault(write.stream, []).extend(write.entries)
        return self.refusals

    async def read(self, stream: str, after: int, limit: int) -> list[Entry]:
        if stream not in self.kept:
            raise StreamNotFound(stream)
        found = self.kept[stream][after : after + limit]
        self.reading.set()
        await self.may_read.wait()
        return found

    async def head(self, stream: str) -> Head | None:
        kept = self.kept.get(stream)
        return Head(1, len(kept), kept[-1].event == END) if kept else None

    async def heads(self, streams: Sequence[str]) -> dict[str, Head]:
        found = {stream: await self.head(stream) for stream in streams}
        return {stream: head for stream, head in found.items() if head is not None}

    async def streams(self, prefix: str, *, unfinished: bool = False) -> list[str]:
        return [
            stream
            for stream, kept in self.kept.items()
            if stream.startswith(prefix) and not (unfinished and kept[-1].event == END)
        ]

    async def count_bytes(self) -> int:
        return self.held

    async def count(self, prefix: str, *, every: bool = False) -> int:
        await self.may_read.wait()
        if self.failing:
            raise JournalUnavailable("the disk is full")
        return len(await self.streams(prefix, unfinished=not every))

    async def drop(self, streams: Sequence[str]) -> None:
        for stream in streams:
            self.kept.pop(stream, None)

    async def expire(self, now: float) -> None: ...

    def watch(self, notice: OnChange, clock: Clock) -> Watch:
        return Polling(self.changed, notice, clock)

    async def changed(self) -> bool:
        changed, self.remote = self.remote, False
        return changed


@pytest.fixture
async def store() -> GatedStore:
    return GatedStore()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def journal(store: GatedStore, clock: FakeClock) -> AsyncIterator[Journal]:
    async with asyncio.timeout(PATIENCE), Journal(store, clock=clock) as journal:
        yield journal


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_terminal_entry_is_invisible_until_it_is_stored(
    journal: Journal, store: GatedStore
) -> None:
    await journal.append("run", [Started()], after=0)
    store.gate.clear()
    journal.append_nowait("run", Progress(1), after=1)
    journal.append_nowait("run", END, after=2)
    cursor = journal.open_cursor("run")
    assert [entry.seq for entry in await cursor.next()] == [1, 2]
    waiting = asyncio.create_task(cursor.next())
    await turns()
    assert not waiting.done()
    assert await journal.head("run") == Head(1, 2, ended=False)
    store.gate.set()
    assert [entry.seq for entry in await waiting] == [3]
    assert cursor.done


async def test_entries_that_nobody_waits_for_are_written_with_those_that_somebody_does(
    journal: Journal, store: GatedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headway.journal.group_commit.COMMIT_INTERVAL", 1e9)
    await journal.append("run", [Started()], after=0)
    assert store.commits == 1  # it was waited for
    for seq in range(1, 4):
        journal.append_nowait("run", Progress(seq), after=seq)
        journal.append_nowait(f"other {seq}", Accepted("tools/call", "t", "o"), after=0)
        await turns()
    assert store.commits == 1
    assert (await journal.open_cursor("run").next())[
        -1
    ].seq == 4  # who reads here waits for nothing
    seen: list[Event] = [Part(encode_json(1)), Log("info", encode_json("text")), END]
    for commits, event in enumerate(seen, 2):
        journal.append_nowait("run", event, after=commits + 2)
        await turns()
        assert (store.commits, len(store.kept["run"])) == (commits, commits + 3)
    assert all(len(store.kept[f"other {seq}"]) == 1 for seq in range(1, 4))


async def test_what_is_posted_while_a_write_is_under_way_goes_with_the_next_one(
    journal: Journal, store: GatedStore
) -> None:
    store.gate.clear()
    posted = [asyncio.create_task(journal.append_shared("board", Progress(n))) for n in range(50)]
    await store.arrived.wait()
    posted[7].cancel()
    await turns()
    store.gate.set()
    seqs = await asyncio.gather(*posted[:7], *posted[8:])
    assert store.commits <= 3
    values = {entry.seq: entry.event for entry in store.kept["board"]}
    assert [values[seq] for seq in seqs] == [Progress(n) for n in range(50) if n != 7]


async def test_nothing_is_posted_after_a_terminal_entry(
    journal: Journal, store: GatedStore
) -> None:
    store.gate.clear()
    said: list[Event] = [Progress(1), Progress(2), END, Progress(3)]
    posted = [asyncio.create_task(journal.append_shared("board", event)) for event in said]
    await store.arrived.wait()
    await turns()
    store.gate.set()
    ends = await asyncio.gather(*posted, return_exceptions=True)
    assert ends[:3] == [1, 2, 3]
    assert isinstance(ends[3], StreamEnded)


async def test_what_is_posted_and_cannot_be_stored_spoils_nothing_else(tmp_path: Path) -> None:
    async with asyncio.timeout(PATIENCE), open_journal(f"sqlite:///{tmp_path}/j.db") as journal:
        odd = Progress(object())  # type: ignore[arg-type]
        said: list[Event] = [Progress(1), odd, Progress(2)]
        posted = [asyncio.create_task(journal.append_shared("board", event)) for event in said]
        ends = await asyncio.gather(*posted, return_exceptions=True)
        assert [isinstance(end, JournalError) for end in ends] == [False, True, False]
        assert [e.event for e in await journal.read_all_kept("board")] == [Progress(1), Progress(2)]


async def test_commits_are_a_moment_apart(
    journal: Journal, store: GatedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headway.journal.group_commit.COMMIT_INTERVAL", 0.2)
    await journal.append("run", [Started()], after=0)
    for seq in range(1, 101):
        journal.append_nowait("run", Progress(seq), after=seq)
        await turns()
    while len(store.kept["run"]) < 101:
        store.arrived.clear()
        await store.arrived.wait()
        await turns()
    assert store.commits < 50


async def test_a_posted_entry_is_visible_only_when_it_is_stored(
    journal: Journal, store: GatedStore
) -> None:
    """Another process may be first, and nobody here is to have acted on what was not."""
    store.gate.clear()
    posting = asyncio.create_task(journal.append_shared("key", Progress(1)))
    await store.arrived.wait()
    with pytest.raises(StreamNotFound):
        await journal.read_all_kept("key")
    store.gate.set()
    assert await posting == 1
    assert [entry.event for entry in await journal.read_all_kept("key")] == [Progress(1)]


async def test_an_entry_that_could_not_be_posted_is_not_written_later(
    journal: Journal, store: GatedStore
) -> None:
    store.failing = True
    with pytest.raises(JournalUnavailable):
        await journal.append_shared("key", Progress(1))
    store.failing = False
    assert await journal.append_shared("key", Progress(2)) == 1
    assert [entry.event for entry in store.kept["key"]] == [Progress(2)]


async def test_what_is_appended_during_a_commit_goes_into_the_next_one_together(
    journal: Journal, store: GatedStore
) -> None:
    store.gate.clear()
    journal.append_nowait("a", Started(), after=0)
    await store.arrived.wait()
    for after in range(1, 50):
        journal.append_nowait("a", Progress(after), after=after)
    journal.append_nowait("b", Started(), after=0)
    store.gate.set()
    await asyncio.gather(journal.wait_until_stored("a"), journal.wait_until_stored("b"))
    assert store.commits == 2
    assert (len(store.kept["a"]), len(store.kept["b"])) == (50, 1)


async def test_while_the_storage_fails_work_goes_on_and_nothing_is_lost(
    journal: Journal, store: GatedStore, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    store.failing = True
    journal.append_nowait("run", Started(), after=0)
    with pytest.raises(JournalUnavailable, match="the disk is full"):
        await journal.wait_until_stored("run")
    journal.append_nowait("run", END, after=1)
    await clock.advance(60)
    assert [entry.seq async for entry in journal.follow("run")] == [1, 2]
    store.failing = False
    await clock.advance(5)
    assert [entry.seq for entry in store.kept["run"]] == [1, 2]
    assert [record.levelno for record in caplog.records] == [logging.ERROR, logging.WARNING]


async def test_a_storage_that_fails_for_long_says_that_too_much_waits(
    store: GatedStore, clock: FakeClock
) -> None:
    async with Journal(store, clock=clock, retention=Retention(max_bytes=4000)) as journal:
        store.failing = True
        seq = journal.append_nowait("run", Started(), after=0)
        await clock.advance(10)
        assert not journal.is_behind
        for _ in range(20):
            seq = journal.append_nowait("run", Progress(seq), after=seq)
        await clock.advance(10)
        assert journal.is_behind
        store.failing = False
        await clock.advance(10)
        assert not journal.is_behind
        assert len(store.kept["run"]) == 21


async def test_a_writer_that_lost_its_stream_is_told_so(
    journal: Journal, store: GatedStore
) -> None:
    await journal.append("run", [Started()], after=0)
    store.refusals = {"run": Conflict("run", after=1, last=7)}
    journal.append_nowait("run", Progress(1), after=1)
    with pytest.raises(Conflict):
        await journal.wait_until_stored("run")
    with pytest.raises(Conflict):
        journal.append_nowait("run", Progress(2), after=2)


async def test_closing_writes_what_is_pending(store: GatedStore) -> None:
    async with Journal(store) as journal:
        journal.append_nowait("a", Started(), after=0)
        journal.append_nowait("b", END, after=0)
    assert list(store.kept) == ["a", "b"]


async def test_closing_ends_every_wait(journal: Journal, store: GatedStore) -> None:
    await journal.append("mine", [Started()], after=0)
    store.kept["theirs"] = [Entry(1, 1.0, Started())]
    cursors = [journal.open_cursor(stream, after=1) for stream in ("mine", "theirs")]
    waiting = [asyncio.create_task(cursor.next()) for cursor in cursors]
    await turns()
    await journal.close()
    for task in waiting:
        with pytest.raises(JournalUnavailable, match="closed"):
            await task


async def test_a_change_between_a_read_and_its_wait_is_not_missed(
    journal: Journal, store: GatedStore, clock: FakeClock
) -> None:
    """The poll for another cursor takes the hint while this one is still reading."""
    store.kept["theirs"] = [Entry(1, 1.0, Started())]
    other = asyncio.create_task(journal.open_cursor("theirs", after=1).next())
    await turns()
    store.may_read.clear()
    store.reading.clear()
    waiting = asyncio.create_task(journal.open_cursor("theirs", after=1).next())
    await store.reading.wait()
    store.kept["theirs"].append(Entry(2, 2.0, END))
    store.remote = True
    await clock.advance(0.1)
    store.may_read.set()
    await clock.advance(1)
    assert [entry.seq for entry in await waiting] == [2]
    assert [entry.seq for entry in await other] == [2]


async def test_dropping_ends_the_wait_for_the_storage(journal: Journal, store: GatedStore) -> None:
    await journal.append("other", [Started()], after=0)
    store.gate.clear()
    store.arrived.clear()
    journal.append_nowait("other", Progress(1), after=1)
    await store.arrived.wait()  # the writer is busy
    journal.append_nowait("run", Started(), after=0)
    settling = asyncio.create_task(journal.wait_until_stored("run"))
    await turns()
    await journal.drop("run")
    await settling
    store.gate.set()
    await journal.wait_until_stored("other")
    assert "run" not in store.kept


async def test_a_stream_dropped_during_an_outage_does_not_come_back(
    journal: Journal, store: GatedStore, clock: FakeClock
) -> None:
    store.gate.clear()
    store.failing = True
    journal.append_nowait("run", Started(), after=0)
    await store.arrived.wait()
    await journal.drop("run")
    store.gate.set()
    await turns()
    store.failing = False
    await clock.advance(10)
    assert store.kept == {}


async def test_a_stream_begun_again_outlives_the_end_of_the_one_before(clock: FakeClock) -> None:
    async with Journal(clock=clock) as journal:
        await journal.append("run", [END], after=0)
        await journal.drop("run")
        await journal.append("run", [Started()], after=0)
        await clock.advance(journal.retention.ttl + 60)
        assert await journal.append("run", [END], after=1) == 2


async def test_an_ended_stream_leaves_nothing_in_memory(
    journal: Journal, store: GatedStore
) -> None:
    await journal.append("run", [Started(), END], after=0)
    assert (await journal.attach_stream("run")).ended
    with pytest.raises(StreamEnded):
        await journal.append("run", [Started()], after=2)
    assert list(journal._buffers) == []
    assert journal.usage.in_memory == 0


def tails_alive() -> int:
    gc.collect()
    return sum(isinstance(each, StreamBuffer) for each in gc.get_objects())


async def test_of_a_stream_that_was_forgotten_nothing_is_held(clock: FakeClock) -> None:
    before = tails_alive()
    async with open_journal("memory:", clock=clock) as journal:
        for number in range(50):
            await journal.append(f"run/{number}", [Started(), END], after=0)
        await clock.advance(2 * journal.retention.ttl + 60)
        assert await journal.streams("run/") == []
        assert tails_alive() <= before + 1  # the sweep has the last one in its hand


async def test_a_nudged_cursor_leaves_nothing_behind(journal: Journal) -> None:
    await journal.append("run", [Started()], after=0)
    cursor = journal.open_cursor("run", after=1)
    for _ in range(3):
        waiting = asyncio.create_task(cursor.next())
        await turns()
        cursor.nudge()
        assert await waiting == []
    tail = journal.buffer_of("run")
    assert tail is not None
    assert tail.waiters == []


async def test_a_count_neither_waits_long_for_the_storage_nor_fails_with_it(
    journal: Journal, store: GatedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def count() -> int | None:
        return await journal.global_count.count_unfinished("run/", lambda: ["run/here"], 1)

    await journal.append("run/there", [Started()], after=0)
    assert await count() == 2
    store.failing = True
    assert await count() is None
    store.failing = False
    store.may_read.clear()
    monkeypatch.setattr("headway.journal.global_count.COUNT_TIMEOUT", 0.01)
    assert await count() is None


async def test_a_stream_that_begins_during_a_count_is_counted() -> None:
    here = {"run/stored"}

    class Late(GatedStore):
        async def count(self, prefix: str, *, every: bool = False) -> int:
            return 0

        async def streams(self, prefix: str, *, unfinished: bool = False) -> list[str]:
            here.remove("run/stored")  # a moment too late to be named
            here.add("run/new")
            return []

    assert await Journal(Late()).global_count.count_unfinished("run/", lambda: here, 1) == 2


async def test_a_shared_append_whose_task_is_cancelled_before_its_first_step_is_given_up(
    journal: Journal,
) -> None:
    """As by a loop that ends, and cancels all tasks at once."""
    adding = asyncio.create_task(journal.append_shared("a/b", Progress(1.0)))
    await asyncio.sleep(0)
    for task in asyncio.all_tasks() - {asyncio.current_task(), adding}:
        if "_write_all" in repr(task):
            task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await within(adding)
    assert await within(journal.append_shared("a/b", Progress(2.0))) == 1


async def test_looking_goes_on_after_a_look_that_was_cancelled_before_its_first_step() -> None:
    clock, looks, news = FakeClock(), list[None](), list[str | None]()

    class Cancelled(Polling):
        def _start_poll(self) -> None:
            is_first = self._task is None
            super()._start_poll()
            if is_first and self._task is not None:
                self._task.cancel()

    async def look() -> bool:
        looks.append(None)
        return True

    polling = Cancelled(look, news.append, clock)
    polling.add("a/b")
    await clock.advance(1)
    assert looks
    assert news
    polling.close()
