"""The journal: numbered entries of all streams, written once, read by anyone from any place.

This module must not know what a run or a session is, nor which storage is behind it.

The idea needed to read it: **the tail is what this process wrote, the store is what lasts.**
Every stream written here has a `Tail` in memory. An append lands in the tail at once and in
the store with the next group commit; cursors read from the tail and go to the store only for
what the tail no longer has, or for streams of other processes. A wake-up is a hint, a read is
the truth: a cursor always asks for "what is after n", so nothing can fall between replay and
live, and nothing comes twice.

A terminal entry is the exception to "at once": it becomes visible when the store has it, so
that nobody sees a result that a crash could still take back.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from headway.clock import Clock, Timer
from headway.errors import (
    Conflict,
    EntriesTrimmed,
    JournalError,
    JournalUnavailable,
    StreamEnded,
    StreamNotFound,
)
from headway.events import TERMINAL, Entry, Event, size_of
from headway.settings import Retention

logger = logging.getLogger(__name__)

STREAM_OVERHEAD = 512
"""Bytes charged for a stream besides its entries."""

PAGE = 256
"""Entries a cursor hands out at a time, so that one reader holds a bounded batch."""

POLL = 0.05
"""Seconds between looks for other processes' writes, while somebody waits for them."""

SWEEP = 30.0
"""Seconds between searches for expired streams."""

RETRY_DELAYS = (0.1, 0.5, 2.0, 5.0)
"""Seconds until a failed write is tried again; the last one repeats."""


@dataclass(frozen=True, slots=True)
class Head:
    """What is known of a stream without reading it."""

    first: int
    """The oldest entry kept; `last + 1` when none is."""
    last: int
    ended: bool


@dataclass(frozen=True, slots=True)
class Write:
    """Entries of one stream for the store: they follow `after`, in order."""

    stream: str
    after: int
    entries: list[Entry]
    ended: bool


class Store(Protocol):
    """Storage behind a journal. All methods run on the event loop and may wait."""

    async def open(self) -> None:
        """Make ready, or raise `SetupError`/`JournalUnavailable` saying what to do."""
        ...

    async def close(self) -> None:
        """Let go of everything; nothing is written after this."""
        ...

    async def write(self, writes: Sequence[Write]) -> dict[str, JournalError]:
        """Commit all writes together; return the streams refused, with `Conflict` or
        `StreamEnded`. A stream's write is taken whole or not at all, only where `after` is
        the stream's last `seq`.

        Raises:
            JournalUnavailable: Nothing was written; the same call may be made again.
        """
        ...

    async def read(self, stream: str, after: int, limit: int) -> list[Entry]:
        """Up to `limit` entries above `after`, in order.

        Raises:
            StreamNotFound: No such stream.
            EntriesTrimmed: The entry `after + 1` existed and is gone.
        """
        ...

    async def head(self, stream: str) -> Head | None:
        """The stream's head, or None."""
        ...

    async def streams(self, prefix: str) -> list[str]:
        """The streams whose names start with `prefix`, oldest first."""
        ...

    async def drop(self, streams: Sequence[str]) -> None:
        """Forget streams."""
        ...

    async def expire(self, now: float) -> None:
        """Drop what retention does not keep at `now` (seconds since 1970)."""
        ...

    async def changed(self) -> bool:
        """Whether another process may have written since the last call."""
        ...


class Tail:
    """The part of a stream that this process wrote and still holds."""

    __slots__ = (
        "base", "ended", "entries", "failure", "last", "pending", "recorded",
        "settled", "size", "stored", "stream", "visible", "waiters",
    )  # fmt: skip

    def __init__(self, stream: str, base: int, *, recorded: bool) -> None:
        self.stream = stream
        self.recorded = recorded
        self.entries: list[Entry] = []
        self.base = base  # the seq before entries[0]
        self.last = base
        self.visible = base  # readers see up to here
        self.stored = base  # the store has up to here
        self.ended = False
        self.size = STREAM_OVERHEAD
        self.pending: list[Entry] = []
        self.failure: JournalError | None = None
        self.waiters: list[asyncio.Future[None]] = []
        self.settled: list[asyncio.Future[None]] = []

    def wake(self) -> None:
        """Let waiting cursors look again."""
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def page(self, after: int, limit: int) -> list[Entry]:
        """Visible entries above `after`, which is not below `base`."""
        start = after - self.base
        return self.entries[start : min(start + limit, self.visible - self.base)]


class Journal:
    """All streams of one storage: append, read, follow.

    With no store the tails are all there is: that is the `memory:` journal.

    Names of streams are the caller's. One process at a time should write a stream; the
    others' appends are refused with `Conflict`, here or at the latest by `settle`.
    """

    def __init__(
        self,
        store: Store | None = None,
        *,
        retention: Retention | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.retention = retention or Retention()
        self.clock = clock or Clock()
        self._store = store
        self._tails: dict[str, Tail] = {}
        self._ended: deque[tuple[float, Tail]] = deque()  # of those that no store has
        self._size = 0
        self._dirty: dict[str, Tail] = {}
        self._work: asyncio.Event | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._remote: list[asyncio.Future[None]] = []
        self.closed = False
        self.remote_version = 0
        """Grows whenever another process may have written."""
        self._polling: Timer | None = None

    # Opening and closing

    async def open(self) -> None:
        """Make the journal ready on the running loop.

        Raises:
            SetupError: The storage cannot be used as it is; the text says what to do.
        """
        self._work = asyncio.Event()
        if self._store is not None:
            await self._store.open()
            self._tasks.append(asyncio.create_task(self._write_all()))
        self._tasks.append(asyncio.create_task(self._sweep_all()))

    async def close(self) -> None:
        """Write what is pending, then let go of the storage.

        Cursors still waiting, and calls of `settle`, raise `JournalUnavailable`.
        """
        # All at once: with a storage that fails, one after the other would take for ever.
        unsettled = [stream for stream, tail in self._tails.items() if tail.pending]
        await asyncio.gather(*(self._settle_quietly(stream) for stream in unsettled))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        self.closed = True
        for tail in self._tails.values():
            tail.wake()
            _resolve(tail, JournalUnavailable("the journal is closed"))
        self._wake_remote()
        if self._polling is not None:
            self._polling.cancel()
        if self._store is not None:
            await self._store.close()

    async def __aenter__(self) -> "Journal":
        await self.open()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    # Writing

    async def append(
        self, stream: str, events: Iterable[Event], *, after: int, recorded: bool = True
    ) -> int:
        """Add events behind entry `after` (0: a new stream), durably, and return the last `seq`.

        `recorded=False` on the first append keeps the stream out of the storage: it lives
        and dies with this process.

        Cancellation: the entries may have been written.

        Raises:
            Conflict: `after` is not the stream's last entry.
            StreamEnded: The stream has its terminal entry.
            JournalUnavailable: The storage cannot be written now.
        """
        known = stream in self._tails
        head = await self.attach(stream, recorded=recorded)
        if head.ended:
            raise StreamEnded(stream)
        if after != head.last:
            if not known:
                self._remove(self._tails[stream])  # a refused append begins no stream
            raise Conflict(stream, after=after, last=head.last)
        for event in events:
            after = self.append_nowait(stream, event, after=after, recorded=recorded)
        await self.settle(stream)
        return after

    async def attach(self, stream: str, *, recorded: bool = True) -> Head:
        """Make ready to append to a stream that may exist in the storage; return its head.

        A new stream can be followed from here on, before its first entry.
        """
        tail = self._tails.get(stream)
        if tail is None:
            head = None
            if self._store is not None and recorded:
                head = await self._store.head(stream)
            if head is not None and head.ended and stream not in self._tails:
                return head  # nothing will follow, so nothing need be kept in memory
            tail = self._tails.get(stream) or self._new_tail(stream, head, recorded=recorded)
        return Head(tail.base + 1, tail.last, tail.ended)

    def append_nowait(self, stream: str, event: Event, *, after: int, recorded: bool = True) -> int:
        """Add one event behind entry `after` and return its `seq`, without waiting.

        Readers in this process see it at once (a terminal one: once it is stored), the
        storage has it with the next group commit. For streams begun or attached here.

        Raises:
            Conflict: `after` is not the stream's last entry.
            StreamEnded: The stream has its terminal entry.
        """
        tail = self._tails.get(stream)
        if tail is None:
            if after != 0:
                raise Conflict(stream, after=after, last=0)
            tail = self._new_tail(stream, None, recorded=recorded)
        if tail.failure is not None:
            raise tail.failure
        if tail.ended:
            raise StreamEnded(stream)
        if after != tail.last:
            raise Conflict(stream, after=after, last=tail.last)
        seq = after + 1
        entry = Entry(seq, self.clock.time(), event)
        tail.entries.append(entry)
        tail.last = seq
        size = size_of(event)
        tail.size += size
        self._size += size
        ended = type(event) in TERMINAL
        if ended:
            tail.ended = True
        if self._store is not None and tail.recorded:
            tail.pending.append(entry)
            self._dirty[stream] = tail
            if self._work is not None:
                self._work.set()
            if not ended:
                tail.visible = seq
        else:
            tail.stored = tail.visible = seq
            if ended:
                self._ended.append((entry.time + self.retention.ttl, tail))
        if tail.waiters:
            tail.wake()
        if tail.size > self.retention.stream_bytes or (
            seq - tail.base > self.retention.stream_entries
        ):
            self._trim(tail)
        if self._size > self.retention.max_bytes:
            self._make_room()
        return seq

    async def settle(self, stream: str) -> None:
        """Return when everything appended to `stream` so far is in the storage.

        Raises:
            Conflict, StreamEnded: The storage refused it: another process wrote the stream.
            JournalUnavailable: The storage cannot be written now. The entries are kept and
                tried again, and readers in this process see them.
        """
        tail = self._tails.get(stream)
        if tail is None or not tail.pending:
            if tail is not None and tail.failure is not None:
                raise tail.failure
            return
        done = asyncio.get_running_loop().create_future()
        tail.settled.append(done)
        await done

    async def drop(self, stream: str) -> None:
        """Forget a stream. Cursors on it find its end."""
        tail = self._tails.get(stream)
        self._dirty.pop(stream, None)
        if tail is not None:
            self._remove(tail)
            tail.ended = True
            tail.visible = tail.last
            tail.pending.clear()
            tail.wake()
            _resolve(tail, None)  # as if dropped a moment later
        if self._store is not None and (tail is None or tail.recorded):
            await self._store.drop([stream])

    # Reading

    async def head(self, stream: str) -> Head | None:
        """What is kept of a stream, or None where there is no such stream."""
        tail = self._tails.get(stream)
        if tail is None:
            return await self._store.head(stream) if self._store is not None else None
        stored = None
        if tail.recorded and self._store is not None and tail.base:
            stored = await self._store.head(stream)
        first = min(stored.first, tail.base + 1) if stored else tail.base + 1
        return Head(first, tail.visible, tail.ended and tail.visible == tail.last)

    async def read(self, stream: str, *, after: int = 0, limit: int = PAGE) -> list[Entry]:
        """Up to `limit` entries above `after`, in order, without waiting for new ones.

        Raises:
            StreamNotFound: No such stream.
            EntriesTrimmed: The entry `after + 1` existed and is gone.
        """
        tail = self._tails.get(stream)
        if tail is not None and after >= tail.base:
            return tail.page(after, limit)
        if self._store is not None and (tail is None or tail.recorded):
            return await self._store.read(stream, after, limit)
        if tail is None:
            raise StreamNotFound(stream)
        raise EntriesTrimmed(stream, first=tail.base + 1)

    def cursor(self, stream: str, *, after: int = 0) -> "Cursor":
        """A reader's place, behind entry `after`."""
        return Cursor(self, stream, after)

    async def follow(self, stream: str, *, after: int = 0) -> AsyncIterator[Entry]:
        """Yield a stream's entries in order, waiting for new ones, until its terminal entry.

        Each entry above `after` is yielded exactly once, whichever process wrote it and
        whether before or after this call. A slow consumer delays nobody.

        Cancellation: loses nothing. Follow again after the last `entry.seq` handled.

        Raises:
            StreamNotFound: No such stream.
            EntriesTrimmed: Entries above the cursor are gone; go on after `error.first - 1`.
        """
        cursor = self.cursor(stream, after=after)
        while not cursor.done:
            for entry in await cursor.next():
                yield entry

    async def streams(self, prefix: str = "") -> list[str]:
        """The names of all streams that start with `prefix`, oldest first."""
        known = await self._store.streams(prefix) if self._store is not None else []
        seen = set(known)
        for name, tail in self._tails.items():
            if name.startswith(prefix) and name not in seen and tail.last:
                known.append(name)
        return known

    # What keeps it within bounds

    def _new_tail(self, stream: str, head: Head | None, *, recorded: bool) -> Tail:
        tail = Tail(stream, head.last if head else 0, recorded=recorded)
        tail.ended = head.ended if head else False
        self._tails[stream] = tail
        self._size += tail.size
        return tail

    def _trim(self, tail: Tail) -> None:
        """Forget the oldest quarter of a tail; the store still has what it stored."""
        durable = self._store is not None and tail.recorded
        count = len(tail.entries) // 4
        if durable:
            count = min(count, tail.stored - tail.base)
        dropped = tail.entries[:count]
        del tail.entries[:count]
        tail.base += count
        size = sum(size_of(entry.event) for entry in dropped)
        tail.size -= size
        self._size -= size

    def _make_room(self) -> None:
        """Drop the streams that ended first until the rest fits."""
        while self._ended and self._size > self.retention.max_bytes:
            self._remove(self._ended.popleft()[1])

    def _remove(self, tail: Tail) -> None:
        # Dropped and begun again, a stream has another tail by now.
        if self._tails.get(tail.stream) is tail:
            del self._tails[tail.stream]
            self._size -= tail.size

    async def _sweep_all(self) -> None:
        while True:
            await self.clock.sleep(SWEEP)
            now = self.clock.time()
            while self._ended and self._ended[0][0] <= now:
                self._remove(self._ended.popleft()[1])
            if self._store is not None:
                with _quietly("expired streams were not dropped"):
                    await self._store.expire(now)

    # Storing

    async def _settle_quietly(self, stream: str) -> None:
        with _quietly("the last entries of %s were not stored", stream):
            await self.settle(stream)

    async def _write_all(self) -> None:
        """Hand what is pending to the store, one group commit after the other."""
        assert self._store is not None
        assert self._work is not None
        failures = 0
        while True:
            await self._work.wait()
            self._work.clear()
            dirty, self._dirty = self._dirty, {}
            writes = [
                Write(tail.stream, tail.stored, list(tail.pending), tail.ended)
                for tail in dirty.values()
                if tail.pending
            ]
            if not writes:
                continue
            try:
                refused = await self._store.write(writes)
            except JournalUnavailable as error:
                if failures == 0:
                    logger.error("the journal cannot be written: %s", error)
                self._release(dirty, error)
                await self.clock.sleep(RETRY_DELAYS[min(failures, len(RETRY_DELAYS) - 1)])
                failures += 1
                continue
            if failures:
                logger.warning("the journal can be written again")
                failures = 0
            for write in writes:
                self._stored(dirty[write.stream], write, refused.get(write.stream))

    def _release(self, dirty: dict[str, Tail], error: JournalUnavailable) -> None:
        """The store failed: keep the entries for later, but let readers and writers go on."""
        self._dirty = {**dirty, **self._dirty}
        assert self._work is not None
        self._work.set()
        for tail in dirty.values():
            tail.visible = tail.last
            tail.wake()
            _resolve(tail, error)

    def _stored(self, tail: Tail, write: Write, refusal: JournalError | None) -> None:
        if refusal is not None:
            # Another process owns the stream: what was appended here never happened.
            tail.failure = refusal
            tail.pending.clear()
            self._remove(tail)
            tail.wake()
            _resolve(tail, refusal)
            return
        del tail.pending[: len(write.entries)]
        tail.stored = write.entries[-1].seq
        if not tail.pending:
            tail.visible = tail.last
            tail.wake()
            _resolve(tail, None)
            if tail.ended:
                # The store serves it from here on; cursors that hold the tail finish with it.
                self._remove(tail)

    # Other processes

    def watch_remote(self, waiter: "asyncio.Future[None]", seen: int) -> None:
        """Resolve `waiter` when another process may have written since `remote_version` was
        `seen`, which is read before the entries are: a change may fall in between.
        """
        if seen != self.remote_version or self.closed:
            waiter.set_result(None)
            return
        self._remote.append(waiter)
        if self._polling is None:
            self._polling = self.clock.call_later(POLL, self._poll)

    def _poll(self) -> None:
        self._polling = None
        self._tasks[:] = [task for task in self._tasks if not task.done()]
        self._tasks.append(asyncio.create_task(self._poll_once()))

    async def _poll_once(self) -> None:
        assert self._store is not None
        changed = True
        with _quietly("other processes' entries cannot be seen"):
            changed = await self._store.changed()
        self._remote = [waiter for waiter in self._remote if not waiter.done()]
        if changed:
            self._wake_remote()
        if self._remote and self._polling is None:
            self._polling = self.clock.call_later(POLL, self._poll)

    def _wake_remote(self) -> None:
        self.remote_version += 1
        waiters, self._remote = self._remote, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


class Cursor:
    """A reader's place in one stream: `after` is the last `seq` seen.

    For one task at a time; `nudge` may be called by any other on the same loop.
    """

    __slots__ = ("_journal", "_nudged", "_tail", "_waiter", "after", "done", "stream")

    def __init__(self, journal: Journal, stream: str, after: int) -> None:
        self._journal = journal
        self._tail = journal._tails.get(stream)  # pyright: ignore[reportPrivateUsage]
        self._waiter: asyncio.Future[None] | None = None
        self._nudged = False
        self.stream = stream
        self.after = after
        self.done = False
        """The stream has ended and everything was handed out."""

    async def next(self) -> list[Entry]:
        """The entries behind the cursor, waiting until there are some.

        Empty when the stream has ended (`done`) or the cursor was nudged.

        Raises:
            StreamNotFound: No such stream.
            EntriesTrimmed: The next entry is gone; set `after` to `error.first - 1` to go on.
            JournalUnavailable: The storage cannot be read, or the journal was closed.
        """
        while not self.done:
            tail, seen = self._tail, self._journal.remote_version
            if tail is not None and self.after >= tail.base:
                entries = tail.page(self.after, PAGE)
                over = tail.ended and self.after + len(entries) >= tail.last
            else:
                entries, over = await self._read_stored()
            if entries:
                self.after = entries[-1].seq
                self.done = over or type(entries[-1].event) in TERMINAL
                return entries
            if over or (tail is not None and tail.failure is not None):
                self.done = True
            elif self._nudged:
                self._nudged = False
                return []
            else:
                await self._wait(tail, seen)
        return []

    def nudge(self) -> None:
        """Make the current or the following wait of `next` return empty-handed."""
        self._nudged = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _read_stored(self) -> tuple[list[Entry], bool]:
        entries = await self._journal.read(self.stream, after=self.after)
        if entries:
            return entries, False
        head = await self._journal.head(self.stream)
        if head is None:
            raise StreamNotFound(self.stream)
        return [], head.ended and self.after >= head.last

    async def _wait(self, tail: Tail | None, seen: int) -> None:
        if self._journal.closed:
            raise JournalUnavailable("the journal is closed")
        self._waiter = asyncio.get_running_loop().create_future()
        if tail is not None:
            tail.waiters.append(self._waiter)
        else:
            self._journal.watch_remote(self._waiter, seen)
        try:
            await self._waiter
        finally:
            # Nudged or cancelled, it would stay in the list until the next entry.
            if tail is not None and self._waiter in tail.waiters:
                tail.waiters.remove(self._waiter)
            self._waiter = None


def _resolve(tail: Tail, error: JournalError | None) -> None:
    settled, tail.settled = tail.settled, []
    for done in settled:
        if done.done():
            continue
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)


class _quietly:
    """Log a journal's failure where nobody is waiting for the outcome."""

    def __init__(self, message: str, *args: object) -> None:
        self._message, self._args = message, args

    def __enter__(self) -> None:
        pass

    def __exit__(self, _type: object, error: BaseException | None, _trace: object) -> bool:
        if isinstance(error, JournalError):
            logger.warning(self._message + ": %s", *self._args, error)
            return True
        return False
