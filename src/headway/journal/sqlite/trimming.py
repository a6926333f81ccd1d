"""Making room in a journal's file: dropping streams, and the oldest entries of long ones.

Everything here runs in the thread that writes.
"""

import heapq
import json
import sqlite3
from collections.abc import Generator

from headway.journal.eviction import bytes_to_free, owner_of
from headway.journal.sqlite.journal_file import transaction
from headway.journal.stream_buffer import STREAM_OVERHEAD
from headway.settings import Retention
from headway.stream_names import KEY_STREAMS

AFTER_SLASH = "substr(name, instr(name, '/') + 1)"

OWNER = f"""CASE WHEN instr(name, '/') THEN
    substr({AFTER_SLASH}, 1, instr(replace({AFTER_SLASH}, '.', '/') || '/', '/') - 1)
    ELSE '' END"""
"""As `eviction.owner_of`: for very many rows, without a call of Python for each."""

ALL = "SELECT coalesce(sum(CAST(bytes AS INTEGER)), 0) FROM streams"

HELD = f"SELECT {OWNER}, sum(CAST(bytes AS INTEGER)) FROM streams GROUP BY 1"

OLDEST = """SELECT expires{shift}, id, CAST(name AS TEXT), CAST(bytes AS INTEGER) FROM streams
WHERE expires {which} :latest ORDER BY expires, id"""
"""Ended streams by when they ended; see `_oldest_first`."""

TOO_LONG = "SELECT name FROM streams WHERE last - first >= ? OR bytes > ?"

CUT = """SELECT last FROM (
    SELECT last, sum(last - first + 1) OVER newer AS entries, sum(length(data)) OVER newer AS bytes
    FROM chunks WHERE stream = :id WINDOW newer AS (ORDER BY last DESC)
) WHERE (entries > :entries OR bytes > :bytes) AND last < :newest ORDER BY last DESC LIMIT 1"""


def make_room(db: sqlite3.Connection, retention: Retention, now: float) -> tuple[int, int]:
    """Drop ended streams until all streams take at most `max_bytes`, as `eviction` says.

    Returns the bytes that they take then, and how many streams were dropped.
    """
    most = retention.max_bytes
    held = _query_number(db, ALL)
    if held <= most:
        return held, 0
    # Before the transaction: others may write while all is counted.
    due = bytes_to_free(dict(db.execute(HELD).fetchall()), most)
    with transaction(db):
        dropped = json.dumps(_find_oldest(db, due, retention, now))
        cursor = db.execute(
            "DELETE FROM streams WHERE id IN (SELECT value FROM json_each(?))", [dropped]
        )
    return _query_number(db, ALL), cursor.rowcount


def held_bytes(db: sqlite3.Connection) -> int:
    """Return the bytes that all streams take."""
    return _query_number(db, ALL)


def find_too_long(db: sqlite3.Connection, retention: Retention) -> list[str]:
    """Return the names of the streams that have more entries or bytes than they may."""
    limits = retention.stream_entries, retention.stream_bytes
    return [name for (name,) in db.execute(TOO_LONG, limits)]


def trim_stream(db: sqlite3.Connection, stream: str, retention: Retention) -> tuple[int, str]:
    """Drop the oldest chunks of a stream that is over a limit; never the newest chunk.

    Returns how many entries were dropped, and the setting of the limit that they were dropped for.
    To be called in a transaction.
    """
    found = db.execute("SELECT id, first, last FROM streams WHERE name = ?", (stream,)).fetchone()
    if found is None:
        return 0, ""
    identity, first, newest = found
    if not isinstance(first, int) or not isinstance(newest, int):
        return 0, ""  # somebody else's row
    limits = {"entries": retention.stream_entries, "bytes": retention.stream_bytes}
    cut = db.execute(CUT, {"id": identity, "newest": newest, **limits}).fetchone()
    if cut is None:
        return 0, ""
    db.execute("DELETE FROM chunks WHERE stream = ? AND last <= ?", (identity, cut[0]))
    db.execute(
        "UPDATE streams SET first = ?, bytes = ? +"
        " (SELECT sum(length(data)) FROM chunks WHERE stream = streams.id) WHERE id = ?",
        (cut[0] + 1, STREAM_OVERHEAD, identity),
    )
    is_long = newest - first >= retention.stream_entries
    return cut[0] - first + 1, "keep.stream_entries" if is_long else "keep.stream_bytes"


def _query_number(db: sqlite3.Connection, question: str) -> int:
    return db.execute(question).fetchone()[0]


def _oldest_first(
    db: sqlite3.Connection, retention: Retention, now: float
) -> Generator[tuple[float, int, str, int]]:
    """Yield the ended streams by when they ended: that, id, name and bytes.

    A stream that expires later than any that has just ended is a failed run's. Those are compared
    without what they are kept for longer; in its last hour a failed run counts as any other.
    """
    values = {"latest": now + retention.ttl, "extra": retention.extra_of_failed}
    others = db.execute(OLDEST.format(shift="", which="<="), values)
    failed = db.execute(OLDEST.format(shift=" - :extra", which=">"), values)
    try:
        yield from heapq.merge(others, failed)
    finally:
        others.close()
        failed.close()


def _find_oldest(
    db: sqlite3.Connection, due: dict[str, int], retention: Retention, now: float
) -> list[int]:
    """Return the ids of the streams that ended first, with as many bytes as each owner has due."""
    found: list[int] = []
    left = dict(due)
    rows = _oldest_first(db, retention, now)
    for _, identity, name, size in rows:
        owner = owner_of(name)
        if owner in left and not name.startswith(KEY_STREAMS):
            found.append(identity)
            left[owner] -= size
            if left[owner] <= 0:
                del left[owner]
                if not left:
                    break
    rows.close()
    return found
