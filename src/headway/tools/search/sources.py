"""The sources of `search`: their queries and their hits.

A source answers with hits, best first, or raises `SourceFailed` with a sentence for the caller.
`search` decides how long it may take, and what happens when it does not answer.
"""

import logging
import re
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import anyio
import anyio.to_thread

from headway.tools import index, lookup
from headway.tools.roots import Roots, printable_name
from headway.tools.words import terms_in

logger = logging.getLogger(__name__)

UPDATING = 5.0
"""Seconds that a search takes to bring an index up to date."""

FORGETTING = 1.0
"""Seconds that a search takes to forget files that are gone."""

MAX_TERMS = 32
"""Words and phrases of a query; the rest of it is left out."""

TITLE_LENGTH = 300
SNIPPET_LENGTH = 500
LINK_LENGTH = 1500
"""A hundred hits of the longest are a part that a client takes, whatever their characters."""

THREADS = 4
"""Calls of one source at once in threads. A hung one keeps its place, the next ones are late."""

_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f]")

T = TypeVar("T")


class SourceFailed(Exception):
    """A source has no answer; the text says why."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One query, as all its sources get it."""

    query: str
    terms: tuple[str, ...]
    """The words, and each "quoted phrase" as one term, as they were written."""
    limit: int
    sources: tuple[str, ...] = ()
    """The names of all sources that are asked."""


class Hit(NamedTuple):
    """Something found."""

    title: str
    link: str
    """A URL, or the path of a file: two hits with the same link are one."""
    snippet: str = ""
    origin: str | None = None
    """The source that found it first, if another one returns it now."""
    age: float | None = None
    """Seconds since then."""

    def tidy(self) -> "Hit":
        """Return the hit bounded, in valid Unicode, whatever a source made of it."""
        return Hit(
            _one_line(self.title, TITLE_LENGTH),
            _CONTROLS.sub("", printable_name(self.link[: LINK_LENGTH * 2]))[:LINK_LENGTH],
            _one_line(self.snippet, SNIPPET_LENGTH),
            self.origin,
            self.age,
        )


class Source(ABC):
    """A source of hits; `name` is how a client asks for it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._threads = anyio.CapacityLimiter(THREADS)

    @abstractmethod
    async def search(self, asked: Asked) -> list[Hit]:
        """Return the hits, best first.

        Raises:
            SourceFailed: There is no answer.
        """

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run blocking `work` in a thread and return its result; a cancel does not wait for it."""
        return await anyio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=self._threads)


class Documents(Source):
    """The full-text index that `process_files` makes."""

    def __init__(self, roots: Roots, file: Path, *, seconds: float = 10) -> None:
        super().__init__("documents")
        self._roots = roots
        self._file = file
        self._seconds = seconds
        self._looked_at = 0

    async def search(self, asked: Asked) -> list[Hit]:
        """Return the files below the roots that have all the words, or if none has, any of them."""
        return await self.in_thread(lambda: self._search_blocking(asked))

    def _search_blocking(self, asked: Asked) -> list[Hit]:
        try:
            if self._file.exists():
                self._bring_up_to_date()
            with lookup.Search(self._file, self._is_allowed, seconds=self._seconds) as documents:
                found = documents.find(asked.terms, asked.limit)
                self._looked_at = documents.look_after(self._looked_at, self._may_stay)
            self._forget_gone(documents.gone)
        except lookup.NotIndexed as error:
            raise SourceFailed(
                "nothing has been indexed yet; call process_files with operation='index'"
            ) from error
        except lookup.Outdated as error:
            raise SourceFailed(
                "the index was made by an earlier version, which cannot find words of languages "
                "that put no spaces between them; process_files with operation='index' brings it "
                "up to date"
            ) from error
        except (sqlite3.Error, OSError) as error:
            logger.warning("the full-text index cannot be used: %s", error)
            reason = index.index_trouble(error)
            raise SourceFailed(f"the full-text index cannot be used ({reason})") from error
        return [self._make_hit(match) for match in found]

    def _make_hit(self, match: lookup.Match) -> Hit:
        place = self._roots.locate(match.path)
        shown = "" if place is None else self._roots.shown_path(place)
        return Hit(match.title or shown, shown, match.snippet)

    def _bring_up_to_date(self) -> None:
        """Split the texts of an index in which they are whole, if that can be done in the time."""
        with lookup.Search(self._file, self._is_allowed, seconds=self._seconds) as documents:
            is_whole = documents.version == index.WHOLE
        if is_whole:
            with suppress(sqlite3.Error):
                index.TextIndex(self._file, seconds=UPDATING).close()

    def _forget_gone(self, gone: list[str]) -> None:
        """Remove files that are gone from the index; if it is busy, another time."""
        if gone:
            with suppress(sqlite3.Error):
                index.forget_paths(self._file, gone, seconds=FORGETTING)

    def _is_allowed(self, path: str) -> bool:
        return self._roots.locate(path) is not None

    def _may_stay(self, path: str) -> bool:
        """Return whether a file may stay in the index; others may be of another server's roots."""
        return self._is_allowed(path) or not self._roots.is_below(path)


def terms_of(query: str) -> tuple[str, ...]:
    """Return words and quoted phrases; a quote that nothing closes is not there."""
    return terms_in(query, MAX_TERMS)


def _one_line(text: str, length: int) -> str:
    line = " ".join(_CONTROLS.sub(" ", printable_name(text[: length * 4])).split())
    return line if len(line) <= length else f"{line[: length - 1]}…"
