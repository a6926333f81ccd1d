"""A reader's position in a stream, and the loop that joins reading and waiting: written once.

How a cursor waits (`Cursor.next`). The reader's stream is written by this process (left), or by
another one (right):

```
          ┌───────────── has this process the buffer, and is `after` in it? ─────────────┐
          │ yes                                                                       no │
   read the buffer                                        note the notices' number: mark_seen
          │                                                                 read the storage
          ├── entries? return them                        entries? return them ──────────┤
          ├── ended? done                                                 ended? done ───┤
          │                                                                              │
   wait until the buffer grows:                           wait until another process wrote:
   `buffer.waiters`                                       `wakeups.add_waiter(…, seen)`, which
          │                                               does not wait if the number has grown
          └───────────────────────────── read again ─────────────────────────────────────┘
```

`nudge` ends the wait, too: then `next` returns an empty list.
"""

import asyncio
from collections.abc import Callable
from functools import lru_cache
from typing import Protocol

from headway.clock import Clock
from headway.errors import EntriesTrimmed, JournalUnavailable, StreamDamaged, StreamNotFound
from headway.events import TERMINAL, Entry
from headway.journal.store import Head
from headway.journal.stream_buffer import StreamBuffer
from headway.journal.wakeups import Wakeups
from headway.log_lines import quiet_logger

logger = quiet_logger(__name__)

PAGE_ENTRIES = 256
"""Entries a cursor hands out at a time, so that one reader holds a bounded batch."""


READ_RETRY_DELAY = 1.0
"""Seconds until a storage that could not be read is asked again."""


class CursorSource(Protocol):
    """The part of a journal that a cursor needs."""

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
        """As `Journal.buffer_of`."""
        ...


class Cursor:
    """A reader's position in one stream: `after` is the last `seq` seen.

    For one task at a time; `nudge` may be called by any other on the same loop.
    """

    __slots__ = ("_buffer", "_nudged", "_source", "_waiter", "after", "done", "stream")

    def __init__(
        self, source: CursorSource, buffer: StreamBuffer | None, stream: str, after: int
    ) -> None:
        self._source = source
        self._buffer = buffer
        self._waiter: asyncio.Future[None] | None = None
        self._nudged = False
        self.stream = stream
        self.after = after
        self.done = False
        """Whether the stream has ended and everything was handed out."""

    async def next(self) -> list[Entry]:
        """Return the entries after the cursor, and move it; wait until there are some.

        Empty when the stream has ended (`done`) or the cursor was nudged.

        Cancellation: loses nothing; the cursor has not moved.

        Raises:
            StreamNotFound: No such stream.
            EntriesTrimmed: The next entry is gone; set `after` to `error.first - 1` to go on.
            Conflict: Another process has taken the stream over from this one.
            JournalUnavailable: The storage cannot be read, or the journal was closed.
        """
        while not self.done:
            buffer, seen = self._buffer, 0
            if buffer is not None and self.after >= buffer.base:
                entries = buffer.page(self.after, PAGE_ENTRIES)
                over = buffer.ended and self.after + len(entries) >= buffer.last
            else:
                # The mark is taken before the read: a notice that comes while the storage is read
                # then counts as one after it, and the wait below returns at once.
                seen = self._source.wakeups.mark_seen(self.stream)
                entries, over = await self._read_stored()
            if entries:
                self.after = entries[-1].seq
                self.done = over or type(entries[-1].event) in TERMINAL
                return entries
            if over:
                self.done = True
            # Only when everything here was handed out: entries that readers have seen stay true,
            # although another process owns the stream now.
            elif buffer is not None and buffer.failure is not None:
                raise buffer.failure
            elif self._nudged:
                self._nudged = False
                return []
            else:
                await self._wait_for_change(buffer, seen)
        return []

    def skip_entries(self, is_unwanted: Callable[[Entry], bool]) -> Entry | None:
        """Move past the entries that are here and unwanted; return the last one of the stream.

        The last one is never passed. It is returned where the stream has ended and nothing before
        it is wanted; else None.
        """
        buffer = self._buffer
        if buffer is None or self.after < buffer.base:
            return None
        for entry in buffer.page(self.after, PAGE_ENTRIES):
            if entry.seq == buffer.last and buffer.ended:
                return entry
            if not is_unwanted(entry):
                break
            self.after = entry.seq
        return None

    @property
    def is_at_head(self) -> bool:
        """True when this process writes the stream, and all that it shows was handed out."""
        buffer = self._buffer
        return buffer is not None and self.after >= max(buffer.visible, buffer.base)

    async def wait_for_more(self) -> bool:
        """Wait at the head of a stream that this process writes; the cursor does not move.

        Returns whether there is more; False when nothing more can come, or when it was nudged.

        Raises:
            JournalUnavailable: The journal was closed.
        """
        buffer = self._buffer
        while buffer is not None and self.is_at_head:
            is_over = buffer.ended and buffer.visible == buffer.last
            if is_over or buffer.failure is not None or self._nudged:
                self._nudged = False
                return False
            await self._wait_for_change(buffer, 0)
        return True

    def nudge(self) -> None:
        """Make the current or the following wait of `next` return an empty list."""
        self._nudged = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _read_stored(self) -> tuple[list[Entry], bool]:
        """Return the stored entries after the cursor; without any, whether the stream has ended."""
        entries = await self._source.read(self.stream, after=self.after)
        if entries:
            return entries, False
        head = await self._source.head(self.stream)
        if head is None:
            raise StreamNotFound(self.stream)
        if head.last > self.after:  # written between the two questions
            return await self._source.read(self.stream, after=self.after), False
        return [], head.ended

    async def _wait_for_change(self, buffer: StreamBuffer | None, seen: int) -> None:
        if self._source.closed:
            raise JournalUnavailable("the journal is closed")
        self._waiter = waiter = asyncio.get_running_loop().create_future()
        # This process may have begun to write the stream after this cursor was made. Then there is
        # a buffer that wakes its readers when the storage has an entry, which is early enough:
        # this cursor reads from the storage.
        local = buffer or self._source.buffer_of(self.stream)
        if local is not None:
            local.waiters = [*(local.waiters or ()), waiter]
        if buffer is None:
            if local is not None and local.visible > self.after:
                waiter.set_result(None)
            else:
                self._source.wakeups.add_waiter(self.stream, waiter, seen)
        try:
            await waiter
        finally:
            # Nudged or cancelled, it would stay in the lists until the next entry.
            if buffer is None:
                self._source.wakeups.remove_waiter(self.stream, waiter)
            if local is not None and local.waiters and waiter in local.waiters:
                local.waiters.remove(waiter)
            self._waiter = None


async def next_available(source: CursorSource, cursor: Cursor) -> list[Entry]:
    """Return the next entries that there still are, whatever became of those before them.

    For readers that must not stop reading, as those of an inbox. Entries that were dropped before
    they were read are passed over, and a storage that is away is waited for; after each of these
    the list is empty, as it is where that of `Cursor.next` is.

    Raises:
        StreamNotFound: No such stream.
        Conflict: Another process has taken the stream over from this one.
        JournalUnavailable: The journal was closed.
    """
    try:
        return await cursor.next()
    except EntriesTrimmed as error:
        lost = error.first - 1 - cursor.after
        logger.warning("%s: %d entries were dropped before they were read", cursor.stream, lost)
        cursor.after = error.first - 1
    except (JournalUnavailable, StreamDamaged) as error:
        if source.closed:
            raise
        _warn_once(cursor.stream, str(error))
        await source.clock.sleep(READ_RETRY_DELAY)
    return []


@lru_cache(maxsize=1000)
def _warn_once(stream: str, why: str) -> None:
    """Log a failure once, however often it is tried again."""
    logger.warning("%s cannot be read, and is tried again: %s", stream, why)


async def read_all_kept(source: CursorSource, stream: str) -> list[Entry]:
    """Return all entries that there are of a stream at the moment; the oldest may be gone.

    The entries are numbered without gaps: before one that is gone there is none.

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
            # Trimmed between the two questions: what was read is older, so it goes as well.
            entries, after = [], error.first - 1
            continue
        if not page:
            break
        entries += page
        after = page[-1].seq
    if not entries:
        raise StreamNotFound(stream)
    return entries
