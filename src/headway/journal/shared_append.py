"""Shared appends: single entries for streams that several processes write.

An entry of a stream that one process alone writes may be read there before it is stored: no other
entry can come before it. In a shared stream one can. So here an entry exists only once the storage
has taken it under its number. The writer asks for the last number and writes after it; when another
process was quicker, it is refused, and tries again with the next number.
"""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import count, repeat

from headway.clock import Clock
from headway.errors import Conflict, JournalUnavailable, StreamEnded
from headway.events import TERMINAL, Entry, Event
from headway.journal.cursor import PAGE_ENTRIES
from headway.journal.store import Store, Write

APPEND_ATTEMPTS = 10
"""Attempts of a writer that finds other processes quicker, until it gives up."""


_Added = tuple[Event, "asyncio.Future[int]"]

_OF_ALL = (Conflict, StreamEnded, JournalUnavailable)
"""Refusals that would meet any write to the stream, whatever is in it."""


class SharedAppend:
    """Adds entries after whatever is last in the storage; one task for each stream in use."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._waiting: dict[str, deque[_Added]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def begin_streams(self, streams: Mapping[str, Sequence[Event]]) -> None:
        """Begin streams that are new, durably.

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

        This process does not compete with itself: entries that come while a write is under way go
        with the next one.

        Cancellation: the entry may have been written.

        Raises:
            StreamEnded: The stream has its terminal entry.
            Conflict: Other processes were quicker again and again.
            JournalUnavailable: The storage cannot be written now; the entry is not kept.
        """
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(stream, deque()).append((event, done))
        # One task for each stream, so that this process never competes with itself for a number.
        if stream not in self._tasks:
            self._tasks[stream] = task = asyncio.create_task(self._write_all(stream))
            task.add_done_callback(partial(self._on_task_end, stream))
        return await done

    async def close(self) -> None:
        """Wait until all that was added is written, or has failed."""
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _on_task_end(self, stream: str, task: asyncio.Task[None]) -> None:
        """Give up the entries of a task that was cancelled before its first step."""
        if self._tasks.get(stream) is task:
            del self._tasks[stream]
            for _, done in self._waiting.pop(stream):
                done.cancel()

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
        except Exception as error:  # noqa: BLE001 - raised by `append`, whatever it is
            if len(some) > 1 and not isinstance(error, _OF_ALL):
                for one in some:  # an entry that cannot be stored is refused alone
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
        """Add events after whatever is last, and return the last one's `seq`."""
        attempts = 0
        while True:
            # Between this question and the write another process may append: then the fence refuses
            # the write, and the loop asks again.
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
    """Take the events for the next write: up to a page, and none after a terminal event."""
    some: list[_Added] = []
    while waiting and len(some) < PAGE_ENTRIES:
        some.append(waiting.popleft())
        if type(some[-1][0]) in TERMINAL:
            break
    return some
