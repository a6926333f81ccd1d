"""The rates that a journal's file keeps: when each is whole again.

Everything here runs in the thread that writes.
"""

import sqlite3
from collections.abc import Callable

from headway.journal.sqlite.journal_file import transaction
from headway.rate_limits import Rate

# Not in the schema: files of earlier releases have no such table, and most never need it.
TABLE = "CREATE TABLE IF NOT EXISTS rates (name TEXT PRIMARY KEY, whole_at REAL) WITHOUT ROWID"


def take_one(db: sqlite3.Connection, name: str, rate: Rate, time: Callable[[], float]) -> float:
    """Count one of `name` and return 0; or return the seconds until it may come."""
    with transaction(db):
        now = time()  # not earlier: who waited for the file longer would seem to come before others
        db.execute(TABLE)
        row = db.execute("SELECT whole_at FROM rates WHERE name = ?", (name,)).fetchone()
        whole_at = 0.0 if row is None else float(row[0])
        if wait := rate.wait_of(whole_at, now):
            return wait
        db.execute(
            "INSERT OR REPLACE INTO rates VALUES (?, ?)", (name, rate.after_one(whole_at, now))
        )
    return 0.0


def forget_whole(db: sqlite3.Connection, now: float) -> None:
    """Forget the rates that are whole again."""
    if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'rates'").fetchone():
        with transaction(db):
            db.execute("DELETE FROM rates WHERE whole_at <= ?", (now,))
