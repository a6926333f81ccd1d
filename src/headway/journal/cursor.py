"""A reader's place in a stream, and the loop that joins reading and waiting: written once."""

import asyncio
import logging
from functools import lru_cache
from typing import Protocol

from headway.clock import Clock
from headway.errors import EntriesTrimmed, JournalUnavailable, StreamDamaged, StreamNotFound
from headway.events import TERMINAL, Entry
from headway.journal.store import Head
from headway.journal.stream_buffer import StreamBuffer
from headway.journal.wakeups import Wakeups

logger = logging.getLogger(__name__)

PAGE_ENTRIES = 256
"""Entries a cursor hands out at a time, so that one reader holds a bounded batch."""


READ_RETRY_DELAY = 1.0
"""Seconds until a storage that could not be read is asked again."""


class CursorSource(Protocol):
    """What a cursor needs of a journal."""

    closed: bool
    clock: Clock
    wakeups: Wakeups

    async def read(self, stream: str, *, after: int = 0, limit: int = PAGE_ENTRIES) -> list[Entry]:
        """As `Journal.read`."""
        ...

    async def head(self, stream: str) -> Head | None:
        """As `Journal.head`."""
        ...

    def buffer_of(self, stream: str) -> StreamBuffer | None:
        """As `Journal.tail`."""
        ...


class Cursor:
    """A reader's place in one stream: `after` is the last `seq` seen.

    For one task at a time; `nudge` may be called by any other on the same loop.
    """

    __slots__ = ("_buffer", "_nudged", "_source", "_waiter", "after", "done", "stream")

    def __init__(
        self, source: CursorSource, tail: StreamBuffer | None, stream: str, after: int
    ) -> None:
        self._source = source
        self._buffer = tail
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
            Conflict: Another process has taken the stream over from this one.
            JournalUnavailable: The storage cannot be read, or the journal was closed.
        """
        while not self.done:
            tail, seen = self._buffer, 0
            if tail is not None and self.after >= tail.base:
                entries = tail.page(self.after, PAGE_ENTRIES)
                over = tail.ended and self.after + len(entries) >= tail.last
            else:
                seen = self._source.wakeups.mark_seen(self.stream)
                entries, over = await self._read_stored()
            if entries:
                self.after = entries[-1].seq
                self.done = over or type(entries[-1].event) in TERMINAL
                return entries
            if over:
                self.done = True
            elif tail is not None and tail.failure is not None:
                raise tail.failure
            elif self._nudged:
                self._nudged = False
                return []
            else:
                await self._wait_for_change(tail, seen)
        return []

    def nudge(self) -> None:
        """Make the current or the following wait of `next` return empty-handed."""
        self._nudged = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _read_stored(self) -> tuple[list[Entry], bool]:
        entries = await self._source.read(self.stream, after=self.after)
        if entries:
            return entries, False
        head = await self._source.head(self.stream)
        if head is None:
            raise StreamNotFound(self.stream)
        if head.last > self.after:  # between the two looks
            return await self._source.read(self.stream, after=self.after), False
        return [], head.ended

    async def _wait_for_change(self, tail: StreamBuffer | None, seen: int) -> None:
        if self._source.closed:
            raise JournalUnavailable("the journal is closed")
        self._waiter = waiter = asyncio.get_running_loop().create_future()
        # This process may write the stream since this reader came. What it writes is noticed when
        # the storage has it, which is before it can be read here.
        local = tail or self._source.buffer_of(self.stream)
        if local is not None:
            local.waiters = [*(local.waiters or ()), waiter]
        if tail is None:
            if local is not None and local.visible > self.after:
                waiter.set_result(None)
            else:
                self._source.wakeups.add_waiter(self.stream, waiter, seen)
        try:
            await waiter
        finally:
            # Nudged or cancelled, it would stay in the lists until the next entry.
            if tail is None:
                self._source.wakeups.remove_waiter(self.stream, waiter)
            if local is not None and local.waiters and waiter in local.waiters:
                local.waiters.remove(waiter)
            self._waiter = None


async def next_available(source: CursorSource, cursor: Cursor) -> list[Entry]:
    """Return the next entries that there still are, whatever became of those before them.

    For whoever hears what others ask of him, and must not stop hearing: what was dropped before it
    was read is passed over, and a storage that is away is waited for. Empty where `Cursor.next` is,
    and after each of these.

    Raises:
        StreamNotFound: No such stream.
        Conflict: Another process has taken the stream over from this one.
        JournalUnavailable: The journal was closed.
    """
    try:
        return await cursor.next()
    except EntriesTrimmed as error:
        lost = error.first - 1 - cursor.after
        logger.warning("%s: %d entries were dropped before they were heard", cursor.stream, lost)
        cursor.after = error.first - 1
    except (JournalUnavailable, StreamDamaged) as error:
        if source.closed:
            raise
        _warn_once(cursor.stream, str(error))
        await source.clock.sleep(READ_RETRY_DELAY)
    return []


@lru_cache(maxsize=1000)
def _warn_once(stream: str, why: str) -> None:
    """Log it once, however often it is tried again."""
    logger.warning("%s is not heard until it can be read: %s", stream, why)


async def read_all_kept(source: CursorSource, stream: str) -> list[Entry]:
    """Return all entries that there are of a stream at the moment; the oldest may be gone.

    They are without gaps: before one that is gone there is none.

    Raises:
        StreamNotFound: No such stream.
    """
    entries: list[Entry] = []
    after, last = 0, 1
    while after < last:
        head = await source.head(stream)
        if head is None:
            raise StreamNotFound(stream)
        last, after = head.last, max(after, head.first - 1)
        try:
            page = await source.read(stream, after=after)
        except EntriesTrimmed as error:
            entries, after = [], error.first - 1
            continue
        if not page:
            break
        entries += page
        after = page[-1].seq
    if not entries:
        raise StreamNotFound(stream)
    return entries
