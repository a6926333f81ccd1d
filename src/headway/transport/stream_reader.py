"""Reading a stream for somebody on a wire: what comes next, and why there will be no more."""

import logging
from enum import StrEnum
from typing import NamedTuple, Protocol

from headway.errors import EntriesTrimmed, JournalError, StreamNotFound
from headway.events import TERMINAL, Entry

logger = logging.getLogger(__name__)


class End(StrEnum):
    """Why an answer is over."""

    DONE = "done"
    GONE = "client gone"
    REPLACED = "another reader took over"
    CLOSED = "closed by the server"
    LEAVING = "the server is stopping"
    HANDED_OVER = "answered with a handle"
    FAILED = "the journal cannot be read"


class StreamSource(Protocol):
    """A reader's place: a `Cursor`, or what is asked like one."""

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
    """Entries before these that the reader came too late for."""
    end: End | None = None
    """Why there will be nothing more, when it is not the stream's own end."""
    has_lost_its_end: bool = False
    """The stream is over, and what it ended with was dropped or cannot be read."""


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
