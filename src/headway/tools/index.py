"""The full-text index: one SQLite file with the text of every file indexed.

Two tables, joined by `rowid`:

| table  | columns                                        | for                                  |
|--------|------------------------------------------------|--------------------------------------|
| `file` | `id`, `path` (unique), `size`, `mtime_ns`      | finding a file's row, seeing changes |
| `text` | `path`, `title`, `body`, `other`; FTS5, `rowid` = `id` | `MATCH`, `snippet()`, `bm25()` |

`path` in `file` is absolute with every link resolved, so a file has one row however it was reached.
In `text` it is there to be found, and so without the directories above the root, whose names would
find every file. `title` is the first line that says something. The tokenizer folds case and
accents; texts of scripts without spaces are split for it (`words`), and `other` has once more,
folded by us, what it would not fold.

An index of version 1 had them whole. It is brought up to date where it is, when it is written or
searched for the first time.
"""

import os
import sqlite3
import stat
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from headway.private_files import create_private, warn_if_exposed
from headway.sqlite_wal import use_write_ahead_log
from headway.tools.roots import refusal_cause
from headway.tools.words import folded_besides, split

VERSION = 2
"""Kept in `PRAGMA user_version`; an index of a version that is not known is made anew."""

WHOLE = 1
"""The version in which texts were not split."""

BATCH_BYTES = 4 * 1024 * 1024
"""Text collected before it is written. The write lock is held for one batch, not for a whole
directory, so that several runs can index at once."""

BATCH_DOCUMENTS = 500

TITLE_LENGTH = 200

ROOM = 2
"""Bytes of the index for a byte of text: the text itself, and where its words are."""

STEPS = 10_000
"""Steps of SQLite's machine between two looks at the time; less than a millisecond."""

_TEXT = """
    CREATE VIRTUAL TABLE text USING fts5 (
        path, title, body, other, tokenize = "unicode61 remove_diacritics 2"
    )
"""

_INSERT = "INSERT INTO text (rowid, path, title, body, other) VALUES (?, ?, ?, ?, ?)"

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
    _TEXT,
    f"PRAGMA user_version = {VERSION}",
)


class Document(NamedTuple):
    """One file's text, as it goes into the index."""

    path: str
    size: int
    mtime_ns: int
    body: str
    name: str
    """The path below its root, by whose words the file is found."""

    @property
    def title(self) -> str:
        """Return the first line with a letter or digit in it, without a heading's marks."""
        for line in self.body[:4096].splitlines():
            if any(map(str.isalnum, line)):
                return line.strip(" \t#=*/-<!>\"'")[:TITLE_LENGTH]
        return ""


class TextIndex:
    """The index in `file`, created when missing; for one thread.

    `add` and `remove` collect; `flush` and `close` write. Several processes may write. `seconds`
    limits the time for all of it.

    Raises:
        sqlite3.Error: The file is no index or cannot be written, here or at any call.
    """

    def __init__(self, file: Path, *, seconds: float | None = None) -> None:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        create_private(file)
        warn_if_exposed(file, "the search index")
        self._timeout = seconds or 60
        self._db = sqlite3.connect(file, timeout=self._timeout, isolation_level=None)
        self._was_swept = False
        try:
            if seconds is not None:
                stop_after(self._db, seconds)
            self._prepare_file()
        except sqlite3.Error:
            self._db.close()
            raise
        self._pending: dict[str, Document | None] = {}
        self._bytes = 0

    def is_current(self, path: str, size: int, mtime_ns: int) -> bool:
        """Return whether the index has this path with this size and time of change."""
        known = self._db.execute("SELECT size, mtime_ns FROM file WHERE path = ?", (path,))
        return known.fetchone() == (size, mtime_ns)

    def has_room(self, size: int, total: int) -> bool:
        """Return whether so many bytes of text fit into an index of `total` bytes.

        If they do not, files that are gone from the disk are forgotten first.
        """
        if self._has_bytes_left(size, total):
            return True
        if not self._was_swept:
            self._was_swept = True
            for path in find_gone(self.paths_below("/")):
                self.remove_path(path)
            self.flush()
        return self._has_bytes_left(size, total)

    def add_document(self, document: Document) -> None:
        """Put a file into the index; what was there under its path is replaced."""
        self._bytes += len(document.body)
        self._collect_change(document.path, document)

    def remove_path(self, path: str) -> None:
        """Take a file out of the index, if it is there."""
        self._collect_change(path, None)

    def paths_below(self, directory: str) -> list[str]:
        """Return the indexed paths in a directory and its subdirectories."""
        prefix = directory.rstrip("/")
        # '0' follows '/', so this range is the prefix and uses the index of the column.
        found = self._db.execute(
            "SELECT path FROM file WHERE path > ? AND path < ?", (prefix + "/", prefix + "0")
        )
        return [path for (path,) in found]

    def flush(self) -> None:
        """Write all collected changes, in one transaction."""
        pending, self._pending, self._bytes = self._pending, {}, 0
        if not pending:
            return
        with self._transaction():
            for path, document in pending.items():
                self._delete_row(path)
                if document is not None:
                    self._insert_row(document)

    def close(self) -> None:
        """Write all collected changes, and close the file."""
        try:
            self.flush()
        finally:
            self._db.close()

    def _has_bytes_left(self, size: int, total: int) -> bool:
        pages, free, bytes_each = (
            self._db.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * bytes_each + ROOM * (self._bytes + size) <= total

    def _prepare_file(self) -> None:
        use_write_ahead_log(self._db, self._timeout)
        # What a power cut may lose can be indexed again.
        self._db.execute("PRAGMA synchronous = NORMAL")
        # What is forgotten is not to be found in the file either.
        self._db.execute("PRAGMA secure_delete = ON")
        if self._read_version() != VERSION:
            with self._transaction():
                # Another process may have made it while this one waited for the lock.
                match self._read_version():
                    case version if version == VERSION:
                        pass
                    case version if version == WHOLE:
                        self._split_all()
                    case _:
                        for statement in _SCHEMA:
                            self._db.execute(statement)

    def _split_all(self) -> None:
        """Bring an index up to date in which texts are whole."""
        rows = [row for (row,) in self._db.execute("SELECT id FROM file").fetchall()]
        self._db.execute("ALTER TABLE text RENAME TO whole")
        self._db.execute(_TEXT)
        for row in rows:
            found = self._db.execute("SELECT path, title, body FROM whole WHERE rowid = ?", (row,))
            whole = found.fetchone()
            if whole is not None:
                values = (row, *_text_row(*whole))
                self._db.execute(_INSERT, values)
        self._db.execute("DROP TABLE whole")
        self._db.execute(f"PRAGMA user_version = {VERSION}")

    def _read_version(self) -> int:
        return self._db.execute("PRAGMA user_version").fetchone()[0]

    def _collect_change(self, path: str, document: Document | None) -> None:
        self._pending[path] = document
        if len(self._pending) >= BATCH_DOCUMENTS or self._bytes >= BATCH_BYTES:
            self.flush()

    def _delete_row(self, path: str) -> None:
        row = self._db.execute("DELETE FROM file WHERE path = ? RETURNING id", (path,)).fetchone()
        if row is not None:
            self._db.execute("DELETE FROM text WHERE rowid = ?", row)

    def _insert_row(self, document: Document) -> None:
        path, size, mtime_ns, body, name = document
        row = self._db.execute(
            "INSERT INTO file (path, size, mtime_ns) VALUES (?, ?, ?)", (path, size, mtime_ns)
        )
        self._db.execute(_INSERT, (row.lastrowid, *_text_row(name, document.title, body)))

    @contextmanager
    def _transaction(self) -> Generator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")


def forget_paths(file: Path, paths: Iterable[str], *, seconds: float) -> None:
    """Take files out of an index, if that can be done within so many seconds.

    Raises:
        sqlite3.Error: It cannot.
    """
    index = TextIndex(file, seconds=seconds)
    try:
        for path in paths:
            index.remove_path(path)
    finally:
        index.close()


def find_gone(paths: Iterable[str]) -> Iterator[str]:
    """Yield the paths that are no readable file any more, or only through a new link."""
    resolve = lru_cache(maxsize=1000)(os.path.realpath)
    for path in paths:
        directory = path.rpartition("/")[0] or "/"
        try:
            is_file = stat.S_ISREG(os.lstat(path).st_mode)
        except (OSError, ValueError):
            is_file = False
        if not (is_file and resolve(directory) == directory and os.access(path, os.R_OK)):
            yield path


def _text_row(path: str, title: str, body: str) -> tuple[str, str, str, str]:
    """Return a row of `text`, as the tokenizer is to see it."""
    other = "\n".join(filter(None, map(folded_besides, (path, title, body))))
    return split(path), split(title), split(body), split(other)


def fts_phrase(term: str) -> str:
    """Return a term as a phrase of FTS5, in which no character is an operator."""
    doubled = term.replace("\0", " ").replace('"', '""')
    return f'"{doubled}"'


def stop_after(connection: sqlite3.Connection, seconds: float) -> None:
    """Interrupt the connection's work once so many seconds are over."""
    end = time.monotonic() + seconds
    connection.set_progress_handler(lambda: time.monotonic() > end, STEPS)


_TROUBLES = (
    ("not a database", "it is no database"),
    ("malformed", "its file is damaged"),
    ("locked", "another process is writing it"),
    ("disk is full", "the disk is full"),
    ("readonly", "it cannot be written"),
    ("unable to open", "it cannot be opened"),
    ("interrupted", "it took too long"),
    ("no such table", "it has no such table"),
    ("no such column", "it has no such column"),
)


def index_trouble(error: BaseException) -> str:
    """Return why SQLite or the system refused, in words that name no path."""
    if isinstance(error, OSError):
        return refusal_cause(error)
    text = str(error)
    return next((says for part, says in _TROUBLES if part in text), "SQLite refuses")
