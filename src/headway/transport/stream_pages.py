"""Reading a stream for a client: the next entries, or the reason why there will be no more."""

from enum import StrEnum
from typing import NamedTuple, Protocol

from headway.errors import EntriesTrimmed, JournalError, StreamNotFound
from headway.events import TERMINAL, Entry
from headway.log_lines import quiet_logger

logger = quiet_logger(__name__)


class End(StrEnum):
    """Why an answer is over."""

    DONE = "done"
    GONE = "client gone"
    REPLACED = "another reader took over"
    CLOSED = "closed by the server"
    LEAVING = "the server is stopping"
    HANDED_OVER = "answered with a handle"
    EXPIRED = "the access token has expired"
    FAILED = "the journal cannot be read"


class StreamSource(Protocol):
    """A `Cursor`, or an object with the same methods."""

    after: int
    done: bool

    async def next(self) -> list[Entry]:
        """As `Cursor.next`."""
        ...

    def nudge(self) -> None:
        """As `Cursor.nudge`."""
        ...


class Page(NamedTuple):
    """The entries that a cursor found, and why there may be no more."""

    entries: list[Entry]
    missed: int = 0
    """Number of entries before these that were trimmed before the reader came."""
    end: End | None = None
    """Why there will be nothing more, when it is not the stream's own end."""
    has_lost_its_end: bool = False
    """Whether the stream is over, and its last entry was dropped or cannot be read."""


async def read_next_page(cursor: StreamSource) -> Page:
    """Return the next entries, waiting until there are some; none when nudged or at the end."""
    missed = 0
    while True:
        try:
            entries = await cursor.next()
            has_end = bool(entries) and type(entries[-1].event) in TERMINAL
            lost_end = missed > 0 and cursor.done and not has_end
            return Page(entries, missed, has_lost_its_end=lost_end)
        except EntriesTrimmed as error:
            missed += error.first - 1 - cursor.after
            cursor.after = error.first - 1
        except StreamNotFound:
            return Page([], missed, End.CLOSED)
        except JournalError as error:
            # A 2025 client over HTTP comes back with its cursor; perhaps to another process.
            logger.warning("a stream was cut: %s", error)
            return Page([], missed, End.FAILED)
