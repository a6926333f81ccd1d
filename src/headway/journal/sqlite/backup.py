"""A copy of a journal's file, made while servers write it, and its size made small again.

`cp` of the file alone saves little: what was written last is in the write-ahead log beside it.
"""

import contextlib
import os
import sqlite3
from pathlib import Path
from tempfile import mkstemp
from typing import Final

from headway.errors import JournalError, SetupError
from headway.journal.sqlite.journal_file import APPLICATION_ID, BUSY_TIMEOUT, JournalFile

SHRINK_TIMEOUT: Final = BUSY_TIMEOUT
"""Seconds that others are waited for before a file is left as large as it is."""

LEAST_UNUSED: Final = 0.05
"""The part of a file that has to be unused before all of it is written anew."""

_WRITE_ERRORS: Final = (
    sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_TRUNCATE,
    sqlite3.SQLITE_IOERR_DIR_FSYNC, sqlite3.SQLITE_IOERR_DELETE,
)  # fmt: skip
"""Errors of the file that is written, and never of the one that is read."""


def back_up_file(source: Path, target: Path) -> int:
    """Write a journal's file, as it is at one moment, to a new file; return its bytes.

    The copy is readable for its owner alone, and is there only when it is complete.

    Raises:
        SetupError: There is no journal in `source`, or `target` exists or cannot be written.
        JournalError: The journal could not be read to its end.
    """
    if target.exists():
        raise SetupError(f"{target} exists; name a new file, or move it away")
    if not target.parent.is_dir():
        raise SetupError(f"{target} cannot be written: there is no directory {target.parent}")
    try:
        # A name that nobody has: a file beside it may be the user's.
        descriptor, name = mkstemp(dir=target.parent, prefix=".headway-", suffix=".partial")
        os.close(descriptor)
        try:
            _copy_file(source, Path(name), target)
            _give_name(Path(name), target)
        finally:
            for each in (name, f"{name}-journal"):
                with contextlib.suppress(OSError):
                    Path(each).unlink()
    except OSError as error:
        raise SetupError(f"{target} cannot be written: {error.strerror}") from error
    return target.stat().st_size


def _give_name(partial: Path, target: Path) -> None:
    """Let a complete file be found as `target`, and replace none that came there meanwhile."""
    try:
        os.link(partial, target)
    except FileExistsError as error:
        raise SetupError(f"{target} exists; name a new file, or move it away") from error
    except OSError:  # a file system without links
        partial.replace(target)


def _copy_file(source: Path, partial: Path, target: Path) -> None:
    try:
        with (
            contextlib.closing(_connect_to_read(source)) as from_db,
            contextlib.closing(sqlite3.connect(partial, isolation_level=None)) as to_db,
        ):
            if from_db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
                raise SetupError(f"{source} is no journal")
            # All pages in one step: what is written meanwhile comes after it.
            from_db.backup(to_db, pages=-1)
            # One file is a backup; a log beside it would be forgotten.
            to_db.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.Error as error:
        if why := _why_not_written(error):
            raise SetupError(f"{target} cannot be written: {why}") from error
        raise JournalError(str(JournalFile(source).explain_error(error))) from error


def _why_not_written(error: sqlite3.Error) -> str | None:
    """Return what is wrong with the copy; None where it is the journal, which is only read."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    if code & 0xFF == sqlite3.SQLITE_FULL:
        return "the disk is full"
    if code in _WRITE_ERRORS or code & 0xFF == sqlite3.SQLITE_READONLY:
        return f"{error} ({error.sqlite_errorname})"
    return None


def _connect_to_read(source: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_TIMEOUT)


def shrink_file(path: Path) -> bool:
    """Give the disk back what a file does not use; return whether nobody was in the way.

    Others cannot write the file meanwhile, so that it is left as it is where little is unused.

    Raises:
        JournalError: The file cannot be written.
    """
    file = JournalFile(path, busy_timeout=SHRINK_TIMEOUT)
    try:
        with contextlib.closing(file.connect()) as db:
            if _unused_share(db) >= LEAST_UNUSED:
                # It is copied once on the way: a journal may be larger than the memory.
                db.execute("PRAGMA temp_store = FILE")
                db.execute("VACUUM")
            # It raises nothing where others are in the way, and says so in its first column.
            return not db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in (
            sqlite3.SQLITE_BUSY,
            sqlite3.SQLITE_LOCKED,
        ):
            return False
        raise JournalError(str(file.explain_error(error))) from error


def _unused_share(db: sqlite3.Connection) -> float:
    """Return how much of a file is pages that nothing is in: 0 to 1."""
    unused, pages = db.execute(
        "SELECT freelist_count, page_count FROM pragma_freelist_count, pragma_page_count"
    ).fetchone()
    return unused / max(1, pages)


def size_on_disk(path: Path) -> tuple[int, int]:
    """Return the bytes of the file, and of the write-ahead log beside it."""
    log = Path(f"{path}-wal")
    return path.stat().st_size, log.stat().st_size if log.exists() else 0
