"""A stream in memory: what this process wrote of it and still holds."""

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
        self.recorded = recorded
        self.entries: list[Entry] = []
        self.packed: bytes | None = None
        self.base = base  # the seq before entries[0]
        self.last = base
        self.visible = base  # readers see up to here
        self.stored = base  # the store has up to here
        self.ended = False
        self.is_gone = False  # forgotten; readers may still hold it
        self.size = STREAM_OVERHEAD
        # Lists when they are needed: a journal keeps very many tails.
        self.pending: list[Entry] | None = None
        self.failure: JournalError | None = None
        self.waiters: list[asyncio.Future[None]] | None = None
        self.settled: list[asyncio.Future[None]] | None = None

    @property
    def is_complete(self) -> bool:
        """Whether no storage has anything of the stream that is not here."""
        return not self.recorded or not self.base

    def visible_head(self) -> Head:
        """What readers may see of it here."""
        return Head(self.base + 1, self.visible, self.ended and self.visible == self.last)

    def wake_readers(self) -> None:
        """Let waiting cursors look again."""
        waiters, self.waiters = self.waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)

    def resolve_waits(self, error: JournalError | None) -> None:
        """Tell those who wait for the storage how it went."""
        settled, self.settled = self.settled, None
        for done in settled or ():
            if done.done():
                continue
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)

    def pack(self) -> int:
        """Keep the entries of an ended stream as bytes, until somebody reads them again.

        A third of the memory and nothing for the garbage collector to look at. Returns by how
        much the tail has shrunk.
        """
        if self.packed is not None:
            return 0
        self.packed = encode_entries(self.entries)
        self.entries = []
        before, self.size = self.size, STREAM_OVERHEAD + len(self.packed)
        return before - self.size

    def page(self, after: int, limit: int) -> list[Entry]:
        """Visible entries above `after`, which is not below `base`."""
        if self.packed is not None:
            self.entries, self.packed = decode_entries(self.packed), None
        start = after - self.base
        return self.entries[start : min(start + limit, self.visible - self.base)]


def merge_heads(tail: StreamBuffer | None, stored: Head | None) -> Head | None:
    """What is kept of a stream here and in the storage, which may have more of its beginning."""
    if tail is None or stored is None:
        return stored if tail is None else tail.visible_head()
    here = tail.visible_head()
    return replace(here, first=min(stored.first, here.first))
