"""The buffer of one stream: the entries that this process wrote and still holds in memory.

```
 trimmed, or another    in memory                                  appended next
 process's entries      ┌────────── entries ───────────┐
 ───────────────────────┤                              │
 seq: 1 … base          │ base+1 … stored … visible … last
                        │         │         └ readers of this process see up to here
                        │         └ the storage has up to here
```
"""

import asyncio
from dataclasses import replace

from headway.errors import JournalError
from headway.events import Entry, decode_entries, encode_entries
from headway.journal.store import Head

STREAM_OVERHEAD = 512
"""Bytes charged for a stream besides its entries."""


class StreamBuffer:
    """The part of a stream that this process wrote and still holds."""

    __slots__ = (
        "base", "ended", "entries", "failure", "is_gone", "last", "packed", "pending",
        "recorded", "settled", "size", "stored", "stream", "visible", "waiters",
    )  # fmt: skip

    def __init__(self, stream: str, base: int, *, recorded: bool) -> None:
        self.stream = stream
        self.recorded = recorded  # whether a storage, if there is one, is to have it
        self.entries: list[Entry] = []
        self.packed: bytes | None = None  # the entries as bytes, while nobody reads them
        self.base = base  # the seq before entries[0]
        self.last = base
        self.visible = base  # readers see up to here
        self.stored = base  # the store has up to here
        self.ended = False
        self.is_gone = False  # removed from its journal; readers may still hold it
        self.size = STREAM_OVERHEAD
        # Lists are made when they are needed: a journal keeps very many buffers.
        self.pending: list[Entry] | None = None  # to be stored
        self.failure: JournalError | None = None  # why another process has the stream now
        self.waiters: list[asyncio.Future[None]] | None = None  # of readers
        self.settled: list[asyncio.Future[None]] | None = None  # of `wait_until_stored`

    @property
    def is_complete(self) -> bool:
        """Return whether all of the stream is here: no storage has more of it."""
        return not self.recorded or not self.base

    def visible_head(self) -> Head:
        """Return the head of what readers may see of the stream here."""
        return Head(self.base + 1, self.visible, self.ended and self.visible == self.last)

    def wake_readers(self) -> None:
        """Have waiting cursors read again."""
        # The list is taken away first: a reader that is woken may wait again at once, and belongs
        # to the next entry then.
        waiters, self.waiters = self.waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)

    def resolve_waits(self, error: JournalError | None) -> None:
        """Let those who wait for the storage go on, or fail with `error`."""
        settled, self.settled = self.settled, None
        for done in settled or ():
            if done.done():
                continue
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)

    def pack(self) -> int:
        """Keep the entries of an ended stream as bytes until they are read again.

        That takes a third of the memory, and the garbage collector has nothing to look at.
        Returns by how many bytes the buffer has shrunk.
        """
        if self.packed is not None:
            return 0
        self.packed = encode_entries(self.entries)
        self.entries = []
        before, self.size = self.size, STREAM_OVERHEAD + len(self.packed)
        return before - self.size

    def page(self, after: int, limit: int) -> list[Entry]:
        """Return up to `limit` visible entries above `after`, which must not be below `base`."""
        if self.packed is not None:
            self.entries, self.packed = decode_entries(self.packed), None
        start = after - self.base
        return self.entries[start : min(start + limit, self.visible - self.base)]


def merge_heads(buffer: StreamBuffer | None, stored: Head | None) -> Head | None:
    """Return the head of a stream that is here, in the storage, or in both.

    The buffer knows the end better; the storage may have more of the beginning.
    """
    if buffer is None or stored is None:
        return stored if buffer is None else buffer.visible_head()
    here = buffer.visible_head()
    return replace(here, first=min(stored.first, here.first))
