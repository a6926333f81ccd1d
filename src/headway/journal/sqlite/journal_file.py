"""The file of a `sqlite:` journal: its schema, and the errors of a file that is none.

This module must not know what is done with the file once it is open.
"""

import contextlib
import sqlite3
from collections.abc import Generator
from pathlib import Path

from headway.errors import JournalUnavailable, SetupError
from headway.journal.stream_buffer import STREAM_OVERHEAD
from headway.private_files import create_private, warn_if_exposed
from headway.sqlite_wal import use_write_ahead_log

APPLICATION_ID = 0x48445759
"""`HDWY`: by this `file` and Headway recognise a journal."""

FORMAT = 1
"""`user_version` of the files this module writes. A change of the schema adds one."""

BUSY_TIMEOUT = 5.0
"""Seconds to wait for another process's commit. One takes milliseconds; whoever holds the file
longer is a backup or a debugger, and callers should hear of it."""

WAL_LIMIT = 64 * 1024 * 1024
"""Bytes the write-ahead log may keep on disk once it has been copied into the file."""

SCHEMA = (
    """CREATE TABLE streams (
        id INTEGER PRIMARY KEY,     -- in order of creation
        name TEXT NOT NULL UNIQUE,
        first INTEGER NOT NULL,     -- the oldest entry kept
        last INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        expires REAL                -- set by the terminal entry, NULL until then
    )""",
    "CREATE INDEX streams_by_expiry ON streams (expires) WHERE expires IS NOT NULL",
    "CREATE INDEX unfinished_streams ON streams (name) WHERE expires IS NULL",
    """CREATE TABLE chunks (
        stream INTEGER NOT NULL,
        first INTEGER NOT NULL,
        last INTEGER NOT NULL,
        data BLOB NOT NULL          -- [seq, time, event], [seq, time, event] ...
    )""",
    "CREATE UNIQUE INDEX chunks_by_place ON chunks (stream, last)",
    """CREATE VIEW appends (name, first, last, expires, data) AS
        SELECT name, chunks.first, chunks.last, expires, data
        FROM chunks JOIN streams ON streams.id = chunks.stream""",
    f"""CREATE TRIGGER append INSTEAD OF INSERT ON appends BEGIN
        INSERT INTO streams (name, first, last, bytes)
            VALUES (NEW.name, 1, 0, {STREAM_OVERHEAD}) ON CONFLICT (name) DO NOTHING;
        SELECT RAISE(ABORT, 'fence') FROM streams
            WHERE name = NEW.name AND (last <> NEW.first - 1 OR expires IS NOT NULL);
        INSERT INTO chunks (stream, first, last, data)
            SELECT id, NEW.first, NEW.last, NEW.data FROM streams WHERE name = NEW.name;
        UPDATE streams
            SET last = NEW.last, bytes = bytes + length(NEW.data), expires = NEW.expires
            WHERE name = NEW.name;
    END""",
    """CREATE TRIGGER forget AFTER DELETE ON streams BEGIN
        DELETE FROM chunks WHERE stream = OLD.id;
    END""",
)

_TROUBLE = {
    sqlite3.SQLITE_BUSY: "is locked by another process; find it (fuser) and let it finish",
    sqlite3.SQLITE_FULL: "cannot grow because the disk is full; free some space",
    sqlite3.SQLITE_IOERR: "cannot be read or written; check the disk",
    sqlite3.SQLITE_READONLY: "may not be written; give this user the right to write the file "
    "and its directory",
    sqlite3.SQLITE_NOTADB: "is no journal (not an SQLite database); name another file",
    sqlite3.SQLITE_CORRUPT: "is damaged; move it away, a new one is created",
}
_PASSING = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
"""Errors that may be over by themselves, so that they are no reason to change the configuration."""


class JournalFile:
    """The path of a journal's file, which may not exist yet."""

    def __init__(self, path: Path, *, busy_timeout: float = BUSY_TIMEOUT) -> None:
        self.path = path
        self._busy_timeout = busy_timeout

    def connect(self) -> sqlite3.Connection:
        """Return a new connection, for one thread at a time; create the file for its owner alone.

        Raises:
            SetupError: The path can never be a file.
        """
        if str(self.path) == ":memory:":
            raise SetupError("journal sqlite:///:memory: is no file; write memory:")
        try:
            create_private(self.path)
            db = sqlite3.connect(
                self.path,
                timeout=self._busy_timeout,
                isolation_level=None,
                check_same_thread=False,
            )
        except ValueError as error:  # a null character in the path
            raise SetupError(f"journal {str(self.path)!r} is no file name: {error}") from error
        db.execute("PRAGMA temp_store = MEMORY")
        return db

    def make_ready(self, db: sqlite3.Connection) -> None:
        """Make an empty file a journal, refuse what is none, and prepare `db` for writing.

        Raises:
            SetupError: The file is another program's, of another format, or damaged.
        """
        fresh = self._is_fresh(db)  # before anything is changed: the file may be somebody's
        self._use_wal(db)
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT}")
        with transaction(db):
            # Another process may have been faster.
            if fresh and self._is_fresh(db):
                for statement in SCHEMA:
                    db.execute(statement)
                db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                db.execute(f"PRAGMA user_version = {FORMAT}")
        # A quarter of a second for a gigabyte: less than a run lost to a damaged page.
        found = " ".join(db.execute("PRAGMA quick_check(1)").fetchone()[0].split())
        if found != "ok":
            raise SetupError(f"journal {self.path} {_TROUBLE[sqlite3.SQLITE_CORRUPT]} ({found})")
        warn_if_exposed(self.path, "the journal")

    def _is_fresh(self, db: sqlite3.Connection) -> bool:
        """Return whether the file is empty; refuse one that is neither empty nor a journal."""
        application, version, tables = db.execute(
            "SELECT (SELECT application_id FROM pragma_application_id),"
            " (SELECT user_version FROM pragma_user_version),"
            " (SELECT count(*) FROM sqlite_master)"
        ).fetchone()
        if application == version == tables == 0:
            return True
        if application != APPLICATION_ID:
            raise SetupError(
                f"journal {self.path} is the database of another program; name another file"
            )
        if version != FORMAT:
            raise SetupError(
                f"journal {self.path} has format {version}, this Headway writes {FORMAT}; "
                "update Headway or name another file"
            )
        return False

    def _use_wal(self, db: sqlite3.Connection) -> None:
        if not use_write_ahead_log(db, self._busy_timeout):
            raise SetupError(
                f"journal {self.path} is where SQLite cannot keep a write-ahead log; "
                "name a file on a local disk"
            )

    def explain_error(
        self, error: sqlite3.Error, *, opening: bool = False
    ) -> SetupError | JournalUnavailable:
        """Return the error to raise for one of SQLite: what is wrong, and what to do."""
        code = _primary_code(error)
        if code == sqlite3.SQLITE_CANTOPEN:
            text = self._why_not_opened()
        else:
            name = getattr(error, "sqlite_errorname", type(error).__name__)
            text = f"journal {self.path} {_TROUBLE.get(code, f'fails: {error}')} ({name})"
        if opening and code not in _PASSING:
            return SetupError(text)
        return JournalUnavailable(text)

    def _why_not_opened(self) -> str:
        directory = self.path.parent
        with contextlib.suppress(OSError):
            if self.path.is_dir():
                return f"journal {self.path} is a directory; name a file in it"
            if not directory.is_dir():
                return f"journal {self.path}: there is no directory {directory}; create it"
        return (
            f"journal {self.path} cannot be opened or created; give this user the right to "
            f"write the file and its directory {directory}"
        )


@contextlib.contextmanager
def transaction(db: sqlite3.Connection) -> Generator[None]:
    """Commit all of the block or none of it; the right to write is taken at its start."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _primary_code(error: sqlite3.Error) -> int:
    """Return the primary result code; the extended ones only tell where."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
