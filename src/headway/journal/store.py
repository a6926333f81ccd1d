"""What a backend is: the contract of the storage behind a journal."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from headway.errors import JournalError
from headway.events import Entry


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

    async def streams(self, prefix: str, *, unfinished: bool = False) -> list[str]:
        """The streams whose names start with `prefix`, oldest first; all, or those not ended."""
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
