"""The ids of writes, by which a writer finds out what became of a write without a reply."""

import secrets

from headway.events import Entry
from headway.journal.store import Write

MAX_DOUBTS = 50_000
"""Writes in doubt that are remembered: more than streams can wait for a storage that is away."""


class WriteIds:
    """Gives each write an id, and the same id again while it is in doubt.

    A write is in doubt when no reply came: Redis may have done it, or may still do it. The stream's
    head has the id of the last write. So a writer that is refused because its number is taken sees
    whether it has taken the number itself.
    """

    __slots__ = ("_count", "_in_doubt", "_process")

    def __init__(self) -> None:
        self._process = secrets.token_hex(8)
        self._count = 0
        self._in_doubt: dict[str, tuple[Entry, str]] = {}
        """The first entry of each stream's write, and the write's id; oldest first."""

    def assign(self, write: Write) -> None:
        """Give a write an id: the one it had, if its reply did not come, or a new one."""
        first = write.entries[0]
        known = self._in_doubt.pop(write.stream, None)
        if known is None or known[0] != first:
            self._count += 1
            known = first, f"{self._process}:{self._count}"
        self._in_doubt[write.stream] = known
        if len(self._in_doubt) > MAX_DOUBTS:
            del self._in_doubt[next(iter(self._in_doubt))]

    def id_of(self, stream: str) -> str:
        """Return the id of the write to a stream that is under way."""
        return self._in_doubt[stream][1]

    def forget(self, stream: str) -> None:
        """Forget a write that is not in doubt any more."""
        self._in_doubt.pop(stream, None)
