"""The full-text index: one SQLite file with the text of every file indexed.

Two tables, joined by `rowid`:

| table  | columns                                        | for                                  |
|--------|------------------------------------------------|--------------------------------------|
| `file` | `id`, `path` (unique), `size`, `mtime_ns`      | finding a file's row, seeing changes |
| `text` | `path`, `title`, `body`; FTS5, `rowid` = `id`  | `MATCH`, `snippet()`, `bm25()`       |

`path` is absolute with every link resolved, so a file has one row however it was reached.
`title` is the first line that says something. The tokenizer folds case and accents.
"""

import sqlite3
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import quote

from headway.private_files import create_private, warn_if_exposed

VERSION = 1
"""Kept in `PRAGMA user_version`; an index of another version is made anew."""

BATCH_BYTES = 4 * 1024 * 1024
"""Text collected before it is written. The write lock is held for one batch, not for a whole
directory, so that several runs can index at once."""

BATCH_DOCUMENTS = 500

TITLE_LENGTH = 200

STEPS = 10_000
"""Steps of SQLite's machine between two looks at the time; less than a millisecond."""

_SCHEMA = (
    "DROP TABLE IF EXISTS file",
    "DROP TABLE IF EXISTS text",
    """
    CREATE TABLE file (
        id INTEGER PRIMARY KEY,
        path TEXT NOT NULL UNIQUE,
        size INTEGER NOT NULL,
        mtime_ns INTEGER NOT NULL
    )
    """,
    """
    CREATE VIRTUAL TABLE text USING fts5 (
        path, title, body, tokenize = "unicode61 remove_diacritics 2"
    )
    """,
    f"PRAGMA user_version = {VERSION}",
)


class Document(NamedTuple):
    """One file's text, as it goes into the index."""

    path: str
    size: int
    mtime_ns: int
    body: str

    @property
    def title(self) -> str:
        """The first line with a letter or digit in it, without a heading's marks."""
        for line in self.body[:4096].splitlines():
            if any(map(str.isalnum, line)):
                return line.strip(" \t#=*/-<!>\"'")[:TITLE_LENGTH]
        return ""


class TextIndex:
    """The index in `file`, created when missing; for one thread.

    `add` and `remove` collect; `flush` and `close` write. Several processes may write.

    Raises:
        sqlite3.Error: The file is no index or cannot be written, here or at any call.
    """

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        create_private(file)
        warn_if_exposed(file, "the search index")
        self._db = sqlite3.connect(file, timeout=60, isolation_level=None)
        try:
            self._prepare()
        except sqlite3.Error:
            self._db.close()
            raise
        self._pending: dict[str, Document | None] = {}
        self._bytes = 0

    def is_current(self, path: str, size: int, mtime_ns: int) -> bool:
        """Whether the index has this path with this size and time of change."""
        known = self._db.execute("SELECT size, mtime_ns FROM file WHERE path = ?", (path,))
        return known.fetchone() == (size, mtime_ns)

    def add(self, document: Document) -> None:
        """Put a file into the index; what was there under its path is replaced."""
        self._bytes += len(document.body)
        self._collect(document.path, document)

    def remove(self, path: str) -> None:
        """Take a file out of the index, if it is there."""
        self._collect(path, None)

    def paths_below(self, directory: str) -> list[str]:
        """The indexed paths in a directory and its subdirectories."""
        prefix = directory.rstrip("/")
        # '0' follows '/', so this range is the prefix and uses the index of the column.
        found = self._db.execute(
            "SELECT path FROM file WHERE path > ? AND path < ?", (prefix + "/", prefix + "0")
        )
        return [path for (path,) in found]

    def flush(self) -> None:
        """Write what was collected, in one transaction."""
        pending, self._pending, self._bytes = self._pending, {}, 0
        if not pending:
            return
        with self._transaction():
            for path, document in pending.items():
                self._delete(path)
                if document is not None:
                    self._insert(document)

    def close(self) -> None:
        """Write what was collected and let go of the file."""
        try:
            self.flush()
        finally:
            self._db.close()

    def _prepare(self) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        # What a power cut may lose can be indexed again.
        self._db.execute("PRAGMA synchronous = NORMAL")
        if self._version() != VERSION:
            with self._transaction():
                # Another process may have made it while this one waited for the lock.
                if self._version() != VERSION:
                    for statement in _SCHEMA:
                        self._db.execute(statement)

    def _version(self) -> int:
        return self._db.execute("PRAGMA user_version").fetchone()[0]

    def _collect(self, path: str, document: Document | None) -> None:
        self._pending[path] = document
        if len(self._pending) >= BATCH_DOCUMENTS or self._bytes >= BATCH_BYTES:
            self.flush()

    def _delete(self, path: str) -> None:
        row = self._db.execute("DELETE FROM file WHERE path = ? RETURNING id", (path,)).fetchone()
        if row is not None:
            self._db.execute("DELETE FROM text WHERE rowid = ?", row)

    def _insert(self, document: Document) -> None:
        path, size, mtime_ns, body = document
        row = self._db.execute(
            "INSERT INTO file (path, size, mtime_ns) VALUES (?, ?, ?)", (path, size, mtime_ns)
        )
        self._db.execute(
            "INSERT INTO text (rowid, path, title, body) VALUES (?, ?, ?, ?)",
            (row.lastrowid, path, document.title, body),
        )

    @contextmanager
    def _transaction(self) -> Generator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")


class NotIndexed(Exception):
    """There is no index yet, or one of another version."""


class Match(NamedTuple):
    """A file found; `rank` is 1 for the best."""

    path: str
    title: str
    snippet: str
    rank: int


class Search:
    """The index in `file`, to be read for so many seconds; used in a `with` block.

    Paths that are not `allowed` are not found: the index may be older than the roots.

    Raises:
        NotIndexed: There is nothing to search.
        sqlite3.Error: The file is no index, or the time is over; here or at any call.
    """

    def __init__(self, file: Path, allowed: Callable[[str], bool], *, seconds: float) -> None:
        if not file.exists():
            raise NotIndexed
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

    def find(self, terms: Iterable[str], limit: int) -> list[Match]:
        """The best files with all the terms; where there are none, those with any."""
        if self._db.execute("PRAGMA user_version").fetchone()[0] != VERSION:
            raise NotIndexed
        quoted = [phrase(term) for term in terms if any(map(str.isalnum, term))]
        if not quoted:
            return []
        return self._find(" AND ".join(quoted), limit) or self._find(" OR ".join(quoted), limit)

    def _find(self, expression: str, limit: int) -> list[Match]:
        rows = self._db.execute(
            # A word in the title says more than one in the text.
            """
            SELECT path, title, snippet(text, 2, '', '', '…', 32) FROM text
            WHERE text MATCH ? AND allowed(path) ORDER BY bm25(text, 2.0, 5.0, 1.0) LIMIT ?
            """,
            (expression, limit),
        )
        return [
            Match(path, title, snippet, rank)
            for rank, (path, title, snippet) in enumerate(rows, start=1)
        ]


def phrase(term: str) -> str:
    """A term as a phrase of FTS5, in which nothing has a meaning of its own."""
    doubled = term.replace("\0", " ").replace('"', '""')
    return f'"{doubled}"'


def stop_after(connection: sqlite3.Connection, seconds: float) -> None:
    """Interrupt what the connection does once so many seconds are over."""
    end = time.monotonic() + seconds
    connection.set_progress_handler(lambda: time.monotonic() > end, STEPS)
