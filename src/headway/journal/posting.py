"""Posting: single entries for streams that several processes write.

What one process alone writes may be read there before it is stored, because nobody can come
before it. Here somebody can: an entry exists when the storage has given it its number.
"""

import asyncio
from collections.abc import Mapping, Sequence
from itertools import count, repeat
from weakref import WeakValueDictionary

from headway.clock import Clock
from headway.errors import Conflict, StreamEnded
from headway.events import TERMINAL, Entry, Event
from headway.journal.store import Store, Write

ATTEMPTS = 10
"""Writers of one stream that find another process quicker try again this often."""


class Posting:
    """Adds entries behind whatever is last in a storage."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._locks = WeakValueDictionary[str, asyncio.Lock]()

    async def begin(self, streams: Mapping[str, Sequence[Event]]) -> None:
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

    async def add(self, stream: str, event: Event) -> int:
        """Add an event durably, and return its `seq`.

        Cancellation: the entry may have been written.

        Raises:
            StreamEnded: The stream has its terminal entry.
            Conflict: Other processes were quicker again and again.
            JournalUnavailable: The storage cannot be written now; the entry is not kept.
        """
        lock = self._locks.setdefault(stream, asyncio.Lock())
        async with lock:  # this process does not compete with itself
            attempts = 0
            while True:
                head = await self._store.head(stream)
                if head is not None and head.ended:
                    raise StreamEnded(stream)
                after = 0 if head is None else head.last
                entry = Entry(after + 1, self._clock.time(), event)
                write = Write(stream, after, [entry], type(event) in TERMINAL)
                refusal = (await self._store.write([write])).get(stream)
                if refusal is None:
                    return entry.seq
                attempts += 1
                if attempts == ATTEMPTS or not isinstance(refusal, Conflict):
                    raise refusal
