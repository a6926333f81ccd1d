"""What `search` asks: the sources, what they are asked, and what they answer.

A source answers with hits, best first, or raises `SourceFailed` with a sentence for the caller.
How long it may take in all, and what becomes of it when it does not answer, is `search`'s.
"""

import re
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import anyio
import anyio.to_thread

from headway.tools import index
from headway.tools.roots import Roots, printable

MAX_TERMS = 32
"""Words and phrases of a query; what comes after them is left out."""

TITLE_LENGTH = 300
SNIPPET_LENGTH = 500
LINK_LENGTH = 2000

THREADS = 4
"""Calls of one source at once in threads. A hung one keeps its place, the next ones are late."""

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
    """Everybody who is asked."""


class Hit(NamedTuple):
    """Something found."""

    title: str
    link: str
    """A URL, or the path of a file: two hits with the same link are one."""
    snippet: str = ""
    origin: str | None = None
    """Who found it first, where that is not who gives it now."""
    age: float | None = None
    """Seconds since then."""

    def tidy(self) -> "Hit":
        """Bounded, and valid Unicode on lines of its own, whatever a source made of it."""
        return Hit(
            _line(self.title, TITLE_LENGTH),
            printable(self.link)[:LINK_LENGTH],
            _line(self.snippet, SNIPPET_LENGTH),
            self.origin,
            self.age,
        )


class Source(ABC):
    """Somewhere to search; `name` is how a client asks for it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._threads = anyio.CapacityLimiter(THREADS)

    @abstractmethod
    async def search(self, asked: Asked) -> list[Hit]:
        """The hits, best first.

        Raises:
            SourceFailed: There is no answer.
        """

    async def in_thread(self, work: Callable[[], T]) -> T:
        """What blocking `work` returns; a cancel does not wait for it."""
        return await anyio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=self._threads)


class Documents(Source):
    """The full-text index that `process_files` makes."""

    def __init__(self, roots: Roots, file: Path, *, seconds: float = 10) -> None:
        super().__init__("documents")
        self._roots = roots
        self._file = file
        self._seconds = seconds

    async def search(self, asked: Asked) -> list[Hit]:
        """The files below the roots that have the words, or where none has all, any of them."""
        return await self.in_thread(lambda: self._search(asked))

    def _search(self, asked: Asked) -> list[Hit]:
        try:
            with index.Search(self._file, self._is_allowed, seconds=self._seconds) as documents:
                found = documents.find(asked.terms, asked.limit)
        except index.NotIndexed as error:
            raise SourceFailed(
                "nothing has been indexed yet; call process_files with operation='index'"
            ) from error
        except (sqlite3.Error, OSError) as error:
            raise SourceFailed(f"the full-text index cannot be used ({error})") from error
        return [Hit(match.title or match.path, match.path, match.snippet) for match in found]

    def _is_allowed(self, path: str) -> bool:
        return self._roots.locate(path) is not None


def terms_of(query: str) -> tuple[str, ...]:
    """Words and quoted phrases; a quote that nothing closes is not there."""
    pairs: list[tuple[str, str]] = re.findall(r'"([^"]*)"|([^\s"]+)', query.replace("\0", " "))
    terms = (" ".join((phrase or word).split()) for phrase, word in pairs)
    return tuple(dict.fromkeys(term for term in terms if term))[:MAX_TERMS]


def _line(text: str, length: int) -> str:
    line = " ".join(printable(text[: length * 4]).split())
    return line if len(line) <= length else f"{line[: length - 1]}…"
