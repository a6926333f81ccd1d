"""Posting: single entries for streams that several processes write.

What one process alone writes may be read there before it is stored, because nobody can come
before it. Here somebody can: an entry exists when the storage has given it its number.
"""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import count, repeat

from headway.clock import Clock
from headway.errors import Conflict, JournalUnavailable, StreamEnded
from headway.events import TERMINAL, Entry, Event
from headway.journal.cursor import PAGE_ENTRIES
from headway.journal.store import Store, Write

APPEND_ATTEMPTS = 10
"""Writers of one stream that find another process quicker try again this often."""


_Added = tuple[Event, "asyncio.Future[int]"]

_OF_ALL = (Conflict, StreamEnded, JournalUnavailable)
"""Why a write is refused whatever is in it."""


class SharedAppend:
    """Adds entries behind whatever is last in a storage."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._waiting: dict[str, deque[_Added]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def begin_streams(self, streams: Mapping[str, Sequence[Event]]) -> None:
        """Begin streams, durably.

        Raises:
            Conflict, StreamEnded: There is such a stream.
            JournalUnavailable: The storage cannot be written now.
        """
        now = self._clock.time()
        writes = [
            Write(stream, 0, [Entry(*each) for each in zip(count(1), repeat(now), events)], False)
            for stream, events in streams.items()
        ]
        for refusal in (await self._store.write(writes)).values():
            raise refusal

    async def append(self, stream: str, event: Event) -> int:
        """Add an event durably, and return its `seq`.

        This process does not compete with itself: what is added while a write is under way goes
        with the next one.

        Cancellation: the entry may have been written.

        Raises:
            StreamEnded: The stream has its terminal entry.
            Conflict: Other processes were quicker again and again.
            JournalUnavailable: The storage cannot be written now; the entry is not kept.
        """
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(stream, deque()).append((event, done))
        if stream not in self._tasks:
            self._tasks[stream] = asyncio.create_task(self._write_all(stream))
        return await done

    async def close(self) -> None:
        """Return when all that was added is written, or cannot be."""
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _write_all(self, stream: str) -> None:
        waiting = self._waiting[stream]
        try:
            while waiting:
                await self._write_some(stream, _take_batch(waiting))
        finally:
            del self._waiting[stream], self._tasks[stream]
            for _, done in waiting:  # it was cancelled
                done.cancel()

    async def _write_some(self, stream: str, some: list[_Added]) -> None:
        try:
            last = await self._append_together(stream, [event for event, _ in some])
        except asyncio.CancelledError:
            for _, done in some:
                done.cancel()
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, who added it is told
            if len(some) > 1 and not isinstance(error, _OF_ALL):
                for one in some:  # what cannot be stored spoils nothing else
                    await self._write_some(stream, [one])
                return
            for _, done in some:
                if not done.done():
                    done.set_exception(error)
            return
        for seq, (_, done) in enumerate(some, last - len(some) + 1):
            if not done.done():
                done.set_result(seq)

    async def _append_together(self, stream: str, events: Sequence[Event]) -> int:
        """Add events behind whatever is last, and return the last one's `seq`."""
        attempts = 0
        while True:
            head = await self._store.head(stream)
            if head is not None and head.ended:
                raise StreamEnded(stream)
            after = 0 if head is None else head.last
            now = self._clock.time()
            entries = [Entry(seq, now, event) for seq, event in enumerate(events, after + 1)]
            write = Write(stream, after, entries, type(events[-1]) in TERMINAL)
            refusal = (await self._store.write([write])).get(stream)
            if refusal is None:
                return entries[-1].seq
            attempts += 1
            if attempts == APPEND_ATTEMPTS or not isinstance(refusal, Conflict):
                raise refusal


def _take_batch(waiting: deque[_Added]) -> list[_Added]:
    """What goes with the next write: nothing behind an end."""
    some: list[_Added] = []
    while waiting and len(some) < PAGE_ENTRIES:
        some.append(waiting.popleft())
        if type(some[-1][0]) in TERMINAL:
            break
    return some
