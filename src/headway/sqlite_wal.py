"""SQLite's write-ahead log, where several processes open one new file at the same time."""

import sqlite3
import time
from typing import Final

RETRY_DELAY: Final = 0.01
"""Seconds between two attempts to switch a file over."""


def use_write_ahead_log(db: sqlite3.Connection, timeout: float) -> bool:
    """Switch a database file to a write-ahead log; return whether it has one now.

    SQLite does not wait by itself when another connection is switching the same file, whatever the
    connection's own timeout is (https://sqlite.org/wal.html, "Sometimes Queries Return SQLITE_BUSY
    In WAL Mode"). This waits up to `timeout` seconds.

    Raises:
        sqlite3.Error: The file is busy for longer, or it is no database.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            return db.execute("PRAGMA journal_mode = WAL").fetchone()[0] == "wal"
        except sqlite3.OperationalError as error:
            # The low byte is the code; the higher ones only extend it.
            is_busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not is_busy or time.monotonic() > deadline:
                raise
            time.sleep(RETRY_DELAY)
