"""The `sqlite:` journal: one file, shared by the processes of a machine.

This module must not know what an event means, only that entries have numbers and an end.

The idea needed to read it: **one commit is one SQL statement, one row is a chunk.** All that a
commit brings for a stream is one row (a JSON array without its brackets), so the cost per event
falls as the rate grows. The statement inserts into the view `appends`, whose trigger checks the
fence and keeps the stream's numbers: every statement hands over the interpreter lock, and under
a busy event loop each time may take `sys.getswitchinterval()` to get it back. Reads return one
row for the same reason.

What lasts: with `synchronous=NORMAL` a commit survives the death of every process (kill -9, out
of memory), because the operating system has it. A power cut or a kernel crash may take back the
commits since the last checkpoint (about the last 4 MB), always a whole number of them; the file
itself stays sound.
"""

import asyncio
import contextlib
import json
import logging
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import msgspec

from headway.clock import Clock
from headway.errors import (
    Conflict,
    EntriesTrimmed,
    JournalError,
    JournalUnavailable,
    StreamEnded,
    StreamNotFound,
)
from headway.events import Entry
from headway.journal.chunks import Chunking, page_of
from headway.journal.polling import Polling
from headway.journal.sqlite_file import BUSY_TIMEOUT, JournalFile, transaction
from headway.journal.store import Head, Notice, Watch, Write
from headway.journal.tail import STREAM_OVERHEAD
from headway.settings import Retention

logger = logging.getLogger(__name__)

T = TypeVar("T")
Row = tuple[str, int, int, float | None, bytes]
"""Of `appends`: stream, first, last, expires, data."""

ROWS = (1, 4, 16, 64, 256)
"""Rows an INSERT may have. A few sizes, padded, so that each is compiled once."""

READ = """SELECT first, (
    SELECT CAST(group_concat(data, ',') AS BLOB) FROM (
        SELECT data FROM chunks
        WHERE stream = streams.id AND last > :after AND first <= :upto ORDER BY last
    )
) FROM streams WHERE name = :name"""

MAKE_ROOM = """DELETE FROM streams WHERE id IN (
    SELECT id FROM (
        SELECT id, bytes, sum(bytes) OVER (ORDER BY expires, id) AS freed
        FROM streams WHERE expires IS NOT NULL
    ) WHERE freed - bytes < ?
)"""

BELOW = "name >= :prefix AND name < :end"

TOO_LONG = "SELECT name FROM streams WHERE last - first >= ? OR bytes > ?"

CUT = """SELECT last FROM (
    SELECT last, sum(last - first + 1) OVER newer AS entries, sum(length(data)) OVER newer AS bytes
    FROM chunks WHERE stream = :id WINDOW newer AS (ORDER BY last DESC)
) WHERE (entries > :entries OR bytes > :bytes) AND last < :newest ORDER BY last DESC LIMIT 1"""


class SqliteStore:
    """Keeps entries in one SQLite file, written by one thread and read by another."""

    def __init__(
        self, path: str | Path, *, retention: Retention, busy_timeout: float = BUSY_TIMEOUT
    ) -> None:
        self._file = JournalFile(Path(path), busy_timeout=busy_timeout)
        self.retention = retention
        self._chunking = Chunking(retention)
        self._writer: _Worker | None = None
        self._reader: _Worker | None = None
        self._watcher: sqlite3.Connection | None = None
        self._version = 0
        self._grown: dict[str, tuple[int, int]] = {}
        self._grown_in_all = 0
        self.held = 0
        # Written by one thread only; whoever reads them may be a moment late.
        self.dropped = Counter[str]()

    # The Store protocol

    async def open(self) -> None:
        """Open or create the file.

        Raises:
            SetupError: This file cannot be a journal; the text says what to do.
            JournalUnavailable: It is locked, or the disk is full or failing.
        """
        writer, reader = _Worker("headway-journal-write"), _Worker("headway-journal-read")
        try:
            writer.db = await writer.run(self._file.connect)
            await writer.run(self._file.make_ready, writer.db)
            reader.db = await reader.run(self._file.connect)
            self._watcher = self._file.connect()
            self._version = self._data_version(self._watcher)
        except sqlite3.Error as error:
            raise self._file.explain(error, opening=True) from error
        else:
            self._writer, self._reader = writer, reader
        finally:
            if self._reader is None:
                await self._close(reader, writer)

    async def close(self) -> None:
        """Finish the writes begun, then let go of the file."""
        workers = [worker for worker in (self._reader, self._writer) if worker is not None]
        self._reader = self._writer = None
        await self._close(*workers)

    async def write(self, writes: Sequence[Write]) -> dict[str, JournalError]:
        """See `Store.write`."""
        return await self._on(self._writer, self._write, writes)

    async def read(self, stream: str, after: int, limit: int) -> list[Entry]:
        """See `Store.read`."""
        return await self._on(self._reader, self._read, stream, after, limit)

    async def head(self, stream: str) -> Head | None:
        """See `Store.head`."""
        return await self._on(self._reader, self._head, stream)

    async def streams(self, prefix: str, *, unfinished: bool = False) -> list[str]:
        """See `Store.streams`."""
        return await self._on(self._reader, self._streams, prefix, unfinished)

    async def count(self, prefix: str) -> int:
        """See `Store.count`."""
        return await self._on(self._reader, self._count, prefix)

    async def drop(self, streams: Sequence[str]) -> None:
        """See `Store.drop`. Behind the writes already begun, before those that follow."""
        await self._on(self._writer, self._drop, streams)

    async def expire(self, now: float) -> None:
        """See `Store.expire`. Streams without a terminal entry are only trimmed."""
        await self._on(self._writer, self._expire, now)

    def watch(self, notice: Notice, clock: Clock) -> Watch:
        """See `Store.watch`. The file says that it has changed, not where."""
        return Polling(self.changed, notice, clock)

    async def changed(self) -> bool:
        """Whether anybody may have written since the last call, this process included."""
        if self._watcher is None:
            raise self._closed()
        try:
            # Here and not in a thread: it looks at shared memory and takes microseconds.
            version = self._data_version(self._watcher)
        except sqlite3.Error as error:
            raise self._file.explain(error) from error
        changed, self._version = version != self._version, version
        return changed

    # Opening and closing, in the worker threads

    async def _close(self, *workers: "_Worker") -> None:
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.close()
        for worker in workers:
            await worker.close()

    # Writing, in the writer's thread

    def _write(self, db: sqlite3.Connection, writes: Sequence[Write]) -> dict[str, JournalError]:
        refused: dict[str, JournalError] = {}
        rows: dict[str, list[Row]] = {}
        for write in writes:
            try:
                rows[write.stream] = list(self._rows(write))
            except (TypeError, ValueError, OverflowError) as error:
                text = f"entries of {write.stream!r} cannot be stored: {error}"
                refused[write.stream] = JournalError(text)
        try:
            _insert(db, [row for some in rows.values() for row in some])
        except sqlite3.IntegrityError:
            refused |= self._write_some(db, writes, rows)
        ended = {write.stream for write in writes if write.ended}
        try:
            self._keep_within_bounds(db, rows, ended)
        except sqlite3.Error as error:
            # The entries are in: to fail now would have them written, and refused, again.
            logger.warning("%s; it is trimmed later", self._file.explain(error))
        return refused

    def _write_some(
        self, db: sqlite3.Connection, writes: Sequence[Write], rows: dict[str, list[Row]]
    ) -> dict[str, JournalError]:
        """The fence stopped a commit: find out for whom, and commit the others."""
        refused: dict[str, JournalError] = {}
        with transaction(db):
            heads = _heads(db, list(rows))
            for write in writes:
                last, ended = heads.get(write.stream, (0, False))
                if write.stream not in rows or (last == write.after and not ended):
                    continue
                refused[write.stream] = (
                    StreamEnded(write.stream)
                    if ended
                    else Conflict(write.stream, after=write.after, last=last)
                )
                del rows[write.stream]
            _insert(db, [row for some in rows.values() for row in some])
        return refused

    def _rows(self, write: Write) -> Iterator[Row]:
        end = write.entries[-1]
        for first, last, data in self._chunking.chunks(write.entries):
            expires = end.time + self.retention.ttl if write.ended and last == end.seq else None
            yield write.stream, first, last, expires, data

    # Retention, in the writer's thread

    def _keep_within_bounds(
        self, db: sqlite3.Connection, rows: dict[str, list[Row]], ended: set[str]
    ) -> None:
        """Trim now and then what was written, so that a burst need not wait for `expire`."""
        for stream, some in rows.items():
            size = sum(len(row[4]) for row in some)
            self._grown_in_all += size + STREAM_OVERHEAD
            entries, total = self._grown.pop(stream, (0, 0))
            entries, total = entries + some[-1][2] - some[0][1] + 1, total + size
            if total > self._chunking.bytes or entries > self.retention.stream_entries // 4:
                with transaction(db):
                    self._trim(db, stream)
            elif stream not in ended:
                self._grown[stream] = entries, total
        if self._grown_in_all > self.retention.max_bytes // 16:
            self._grown_in_all = 0
            with transaction(db):
                self._make_room(db)

    def _expire(self, db: sqlite3.Connection, now: float) -> None:
        with transaction(db):
            expired = db.execute("DELETE FROM streams WHERE expires <= ?", (now,))
            self.dropped["keep.ttl"] += expired.rowcount
            self._make_room(db)
            limits = self.retention.stream_entries, self.retention.stream_bytes
            for (stream,) in db.execute(TOO_LONG, limits).fetchall():
                self._trim(db, stream)
        # Streams dropped by another process would stay here for ever.
        self._grown.clear()

    def _make_room(self, db: sqlite3.Connection) -> None:
        total = db.execute("SELECT sum(bytes) FROM streams").fetchone()[0] or 0
        if total > self.retention.max_bytes:
            freed = db.execute(MAKE_ROOM, (total - self.retention.max_bytes,))
            self.dropped["keep.max_bytes"] += freed.rowcount
            total = db.execute("SELECT sum(bytes) FROM streams").fetchone()[0] or 0
        self.held = total

    def _trim(self, db: sqlite3.Connection, stream: str) -> None:
        """Drop a stream's oldest chunks, as far as it is over a limit; never the newest one."""
        found = db.execute(
            "SELECT id, first, last FROM streams WHERE name = ?", (stream,)
        ).fetchone()
        if found is None:
            return
        identity, first, newest = found
        limits = {"entries": self.retention.stream_entries, "bytes": self.retention.stream_bytes}
        cut = db.execute(CUT, {"id": identity, "newest": newest, **limits}).fetchone()
        if cut is None:
            return
        is_long = newest - first >= self.retention.stream_entries
        limit = "keep.stream_entries" if is_long else "keep.stream_bytes"
        self.dropped[limit] += cut[0] - first + 1
        db.execute("DELETE FROM chunks WHERE stream = ? AND last <= ?", (identity, cut[0]))
        db.execute(
            "UPDATE streams SET first = ?, bytes = ? +"
            " (SELECT sum(length(data)) FROM chunks WHERE stream = streams.id) WHERE id = ?",
            (cut[0] + 1, STREAM_OVERHEAD, identity),
        )

    def _drop(self, db: sqlite3.Connection, streams: Sequence[str]) -> None:
        names = json.dumps(list(streams))
        db.execute("DELETE FROM streams WHERE name IN (SELECT value FROM json_each(?))", (names,))
        for stream in streams:
            self._grown.pop(stream, None)

    # Reading, in the reader's thread

    def _read(self, db: sqlite3.Connection, stream: str, after: int, limit: int) -> list[Entry]:
        place = {"name": stream, "after": after, "upto": after + limit}
        found = db.execute(READ, place).fetchone()
        if found is None:
            raise StreamNotFound(stream)
        first, data = found
        if after + 1 < first:
            raise EntriesTrimmed(stream, first=first)
        if data is None:
            return []
        try:
            return page_of([data], after, limit)
        except msgspec.DecodeError as error:
            what = f"journal {self._file.path}: stream {stream!r}"
            raise JournalUnavailable(f"{what} has an unreadable entry: {error}") from error

    def _head(self, db: sqlite3.Connection, stream: str) -> Head | None:
        found = db.execute(
            "SELECT first, last, expires IS NOT NULL FROM streams WHERE name = ?", (stream,)
        ).fetchone()
        return Head(found[0], found[1], bool(found[2])) if found else None

    def _streams(self, db: sqlite3.Connection, prefix: str, unfinished: bool) -> list[str]:
        which = "AND expires IS NULL" if unfinished else ""
        names = db.execute(
            "SELECT json_group_array(name) FROM"
            f" (SELECT name FROM streams WHERE {BELOW} {which} ORDER BY id)",
            _names(prefix),
        ).fetchone()[0]
        return json.loads(names)

    def _count(self, db: sqlite3.Connection, prefix: str) -> int:
        return db.execute(
            f"SELECT count(*) FROM streams WHERE {BELOW} AND expires IS NULL",
            _names(prefix),
        ).fetchone()[0]

    def _data_version(self, db: sqlite3.Connection) -> int:
        return db.execute("PRAGMA data_version").fetchone()[0]

    # Trouble

    async def _on(self, worker: "_Worker | None", work: Callable[..., T], *args: object) -> T:
        if worker is None:
            raise self._closed()
        try:
            return await worker.run(work, worker.db, *args)
        except sqlite3.Error as error:
            raise self._file.explain(error) from error

    def _closed(self) -> JournalUnavailable:
        return JournalUnavailable(f"journal {self._file.path} is closed")


class _Worker:
    """One thread with its own connection; work is done in the order given."""

    def __init__(self, name: str) -> None:
        self.db: sqlite3.Connection | None = None
        self._thread = ThreadPoolExecutor(1, name)

    async def run(self, work: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *args)

    async def close(self) -> None:
        if self.db is not None:
            await self.run(self.db.close)
        self._thread.shutdown(wait=False)


def _insert(db: sqlite3.Connection, rows: list[Row]) -> None:
    """All rows or none: `IntegrityError` when the fence stops one."""
    if not rows:
        return
    if len(rows) <= ROWS[-1]:
        _insert_some(db, rows)  # by itself one transaction
        return
    with contextlib.nullcontext() if db.in_transaction else transaction(db):
        for start in range(0, len(rows), ROWS[-1]):
            _insert_some(db, rows[start : start + ROWS[-1]])


def _insert_some(db: sqlite3.Connection, rows: list[Row]) -> None:
    count = next(size for size in ROWS if size >= len(rows))
    values = [value for row in rows for value in row]
    values += [None] * (5 * (count - len(rows)))
    db.execute(_INSERTS[count], values)


_INSERTS = {
    count: "INSERT INTO appends SELECT * FROM (VALUES "
    + ",".join(["(?,?,?,?,?)"] * count)
    + ") WHERE column1 IS NOT NULL"
    for count in ROWS
}


def _heads(db: sqlite3.Connection, streams: list[str]) -> dict[str, tuple[int, bool]]:
    found = db.execute(
        "SELECT name, last, expires IS NOT NULL FROM streams"
        " WHERE name IN (SELECT value FROM json_each(?))",
        (json.dumps(streams),),
    ).fetchall()
    return {name: (last, bool(ended)) for name, last, ended in found}


def _names(prefix: str) -> dict[str, str | bytes]:
    """The values of `BELOW`: of a blob SQLite says that it is above every text."""
    end = _end_of(prefix)
    return {"prefix": prefix, "end": b"" if end is None else end}


def _end_of(prefix: str) -> str | None:
    """The least text above all that start with `prefix`; None where there is none."""
    prefix = prefix.rstrip("\U0010ffff")
    if not prefix:
        return None
    following = ord(prefix[-1]) + 1
    return prefix[:-1] + chr(0xE000 if following == 0xD800 else following)
