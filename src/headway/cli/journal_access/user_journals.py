"""The journals that a command looks into: the one that is named, or all of the user's."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple, Self, TypeVar
from urllib.parse import quote, unquote

import typer

from headway.cli.encryption_option import readers_encryption
from headway.cli.exit_codes import report_line
from headway.cli.journal_access.server_journal import own_directory
from headway.errors import HeadwayError, SetupError
from headway.settings import Retention

if TYPE_CHECKING:
    from headway.journal import Journal

T = TypeVar("T")

JournalUrl = Annotated[
    str | None,
    typer.Option(
        "--journal",
        envvar="HEADWAY_JOURNAL",
        metavar="URL",
        help="The journal to look into: sqlite:///relative.db, sqlite:////absolute.db or "
        "redis://host:6379. "
        "Default: those of all servers in the user's data directory.",
    ),
]

_EVERYTHING = 2**62

READERS_RETENTION = Retention(
    max_bytes=_EVERYTHING, stream_entries=_EVERYTHING, stream_bytes=_EVERYTHING
)
"""How much a reader keeps: all. How much there may be is set at the servers, and not known here."""


def journal_urls(url: str | None) -> list[str]:
    """Return the journals to look into.

    Raises:
        SetupError: There is none where `url` says, or only its own process can see it.
    """
    if url is None:
        files = sorted(own_directory("").parent.glob("*/journal.db"))
        return [f"sqlite:///{quote(str(file))}" for file in files]
    scheme, _, path = url.partition(":///")
    if url.startswith("memory:"):
        raise SetupError("what is in a memory: journal only its own process can see")
    if scheme == "sqlite" and not Path(unquote(path)).exists():
        raise SetupError(f"there is no journal {path}")
    return [url]


def shown_journal(url: str) -> str:
    """Return the name of a journal for people: a path, or a URL without what is secret in it."""
    from headway.journal.redis.url import without_secrets

    scheme, _, path = url.partition(":///")
    return unquote(path) if scheme == "sqlite" else without_secrets(url)


MOST_OPEN: Final = 32
"""Journals that are kept open: each takes about ten descriptors, of which there may be 1,024."""


class OpenJournals:
    """The journals that a command looks into again and again, each opened once where it can be.

    A context manager. To open a file takes up to a quarter of a second for each gigabyte of it.
    Those beyond `MOST_OPEN` are opened for each look.
    """

    def __init__(self, url: str | None) -> None:
        self._url = url
        self._open: dict[str, _OpenJournal] = {}
        self._faulty: set[str] = set()
        """The journals of which it was said that they cannot be read."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for place in list(self._open):
            await self._close(place)

    async def ask_each(self, look: Callable[[str, "Journal"], Awaitable[T]]) -> list[T]:
        """Return what `look` returns of each journal that there is now, by its URL.

        Raises:
            SetupError, JournalError: The one journal that was named cannot be read. Of all the
                user's each is reported that cannot.
        """
        found: list[T] = []
        places = journal_urls(self._url)
        for place in set(self._open).difference(places):
            await self._close(place)
        for place in places:
            try:
                found.append(await look(place, await self._opened(place)))
                self._faulty.discard(place)
                if len(self._open) > MOST_OPEN:
                    await self._close(place)
            except HeadwayError as error:
                await self._close(place)
                if self._url is not None:
                    raise
                if place not in self._faulty:
                    report_line(str(error))
                self._faulty.add(place)
        return found

    async def _opened(self, place: str) -> "Journal":
        file = _file_at(place)
        if place in self._open and self._open[place].file != file:  # another one was put there
            await self._close(place)
        if place not in self._open:
            stack = AsyncExitStack()
            journal = await stack.enter_async_context(opened_journal(place))
            self._open[place] = _OpenJournal(journal, stack, file)
        return self._open[place].journal

    async def _close(self, place: str) -> None:
        known = self._open.pop(place, None)
        if known is not None:
            await known.stack.aclose()


class _OpenJournal(NamedTuple):
    journal: "Journal"
    stack: AsyncExitStack
    file: tuple[int, int] | None
    """The file that it is in, whatever its name is by now."""


def _file_at(place: str) -> tuple[int, int] | None:
    scheme, _, path = place.partition(":///")
    if scheme != "sqlite":
        return None
    with suppress(OSError):
        found = Path(unquote(path)).stat()
        return found.st_dev, found.st_ino
    return None


@asynccontextmanager
async def opened_journal(url: str) -> "AsyncGenerator[Journal]":
    """Open the journal at `url` for reading, and for asking something of its runs.

    Raises:
        SetupError, JournalUnavailable: It cannot be opened, or its keys are not to be found.
    """
    from headway.journal import open_journal

    encryption = readers_encryption()
    async with open_journal(url, retention=READERS_RETENTION, encryption=encryption) as journal:
        yield journal
