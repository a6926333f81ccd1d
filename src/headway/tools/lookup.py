"""Looking for words in the full-text index that `index` keeps."""

import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import quote

from headway.tools.index import VERSION, WHOLE, find_gone, fts_phrase, stop_after
from headway.tools.words import folded_besides, has_unspaced, is_word, join, pairs, split

SNIPPET_TOKENS = 32
"""Words of a snippet."""

SNIPPET_CHARACTERS = 64
"""Likewise where each character is one; the most that SQLite gives."""

LOOKED_AFTER = 200
"""Files of the index that a search checks, whether they still exist."""


class NotIndexed(Exception):
    """There is no index yet, or one of another version."""


class Outdated(Exception):
    """The index has its texts whole, and is asked for words that are only found in split ones."""


class Match(NamedTuple):
    """A file found; `rank` is 1 for the best."""

    path: str
    title: str
    snippet: str
    rank: int


class Search:
    """The index in `file`, to be read for so many seconds; used in a `with` block.

    Paths that are not `allowed` are not found: the index may be older than the roots. Files that
    are gone are not found either, and `gone` names those that were come across.

    Raises:
        NotIndexed: There is nothing to search.
        sqlite3.Error: The file is no index, or the time is over; here or at any call.
    """

    def __init__(self, file: Path, allowed: Callable[[str], bool], *, seconds: float) -> None:
        if not file.exists():
            raise NotIndexed
        self.gone: list[str] = []
        self._db = sqlite3.connect(f"file:{quote(str(file))}?mode=ro", uri=True, timeout=seconds)
        self._db.create_function("allowed", 1, allowed, deterministic=True)
        stop_after(self._db, seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._db.close()

    @property
    def version(self) -> int:
        """Return the version of the index."""
        return self._db.execute("PRAGMA user_version").fetchone()[0]

    def find(self, terms: Iterable[str], limit: int) -> list[Match]:
        """Return the best files with all the terms; where there are none, those with any; where
        there are none either, those with two characters of a term that has no spaces.

        Raises:
            NotIndexed: The index is of another version.
            Outdated: It cannot find such a term, and others were not asked for.
        """
        terms = list(terms)
        version = self.version
        if version not in (VERSION, WHOLE):
            raise NotIndexed
        if version == WHOLE and any(map(has_unspaced, terms)):
            raise Outdated
        words = [_either_form(term) for term in terms if is_word(term)]
        signs = [term for term in terms if not is_word(term)]
        halves = [fts_phrase(split(pair)) for term in terms for pair in pairs(term)]
        tries = dict.fromkeys(filter(None, (" AND ".join(words), " OR ".join([*words, *halves]))))
        if not tries:
            return self._find_matches("", signs, limit)
        found: list[Match] = []
        for expression in tries:
            found = found or self._find_matches(expression, signs, limit)
        return found

    def look_after(self, start: int, allowed: Callable[[str], bool]) -> int:
        """Add some files to `gone` that are, or that may not be read any more; begin at a row, and
        tell where to begin the next time.
        """
        rows = self._db.execute(
            "SELECT id, path FROM file WHERE id > ? ORDER BY id LIMIT ?", (start, LOOKED_AFTER)
        ).fetchall()
        self.gone += find_gone(path for _, path in rows)
        self.gone += (path for _, path in rows if not allowed(path))
        return rows[-1][0] if len(rows) == LOOKED_AFTER else 0

    def _find_matches(self, expression: str, signs: list[str], limit: int) -> list[Match]:
        """Return the best files for an expression of FTS5 that also contain the signs; an empty one
        is for all.
        """
        conditions = ["text MATCH ?"] if expression else []
        conditions += ["text.body LIKE ? ESCAPE '\\'"] * len(signs)
        # A word in the title says more than one in the text.
        order = "bm25(text, 2.0, 5.0, 1.0, 1.0)" if expression else "text.rowid"
        rows = self._db.execute(
            f"""
            SELECT text.rowid, file.path FROM text JOIN file ON file.id = text.rowid
            WHERE {" AND ".join([*conditions, "allowed(file.path)"])} ORDER BY {order}
            """,
            [*filter(None, [expression]), *map(_like_pattern, signs)],
        )
        there = self._first_readable(rows, limit)
        return [
            Match(path, *self._title_and_excerpt(row, expression), rank)
            for rank, (row, path) in enumerate(there, start=1)
        ]

    def _first_readable(self, rows: Iterable[tuple[int, str]], limit: int) -> list[tuple[int, str]]:
        """Return the first of these whose files are there."""
        found: list[tuple[int, str]] = []
        for row, path in rows:
            if next(find_gone([path]), None) is not None:
                self.gone.append(path)
            else:
                found.append((row, path))
                if len(found) == limit:
                    break
        return found

    def _title_and_excerpt(self, row: int, expression: str) -> tuple[str, str]:
        """Return the title of a row, and some of its text where the expression is found."""
        if not expression:
            title, body = self._db.execute(
                "SELECT title, substr(body, 1, 300) FROM text WHERE rowid = ?", (row,)
            ).fetchone()
            return join(title), join(body)
        tokens = SNIPPET_TOKENS if expression.isascii() else SNIPPET_CHARACTERS
        title, snippet = self._db.execute(
            f"SELECT title, snippet(text, 2, '', '', '…', {tokens}) FROM text "
            "WHERE text MATCH ? AND rowid = ?",
            (expression, row),
        ).fetchone()
        return join(title), join(snippet)


def _either_form(term: str) -> str:
    """Return a term as it is, or folded, where that is another one to the tokenizer."""
    other = folded_besides(term)
    here = fts_phrase(split(term))
    return f"({here} OR {fts_phrase(split(other))})" if other else here


def _like_pattern(text: str) -> str:
    """Return a pattern of LIKE for what has a text in it."""
    for sign in "\\%_":
        text = text.replace(sign, f"\\{sign}")
    return f"%{text}%"
