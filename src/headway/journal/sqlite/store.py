"""The `sqlite:` journal: one file, shared by the processes of a machine.

This module must not know what an event means, only that entries have numbers and an end.

The idea needed to read it: **one commit is one SQL statement, one row is a chunk.** All that a
commit brings for a stream is one row (a JSON array without its brackets, encrypted where there are
keys), so the cost per event falls as the rate grows. The statement inserts into the view `appends`,
whose trigger checks the fence and keeps the stream's numbers: every statement hands over the
interpreter lock, and under a busy event loop each time may take `sys.getswitchinterval()` to get it
back. Reads return one row for the same reason.

What lasts: with `synchronous=NORMAL` a commit survives the death of every process (kill -9, out
of memory), because the operating system has it. A power cut or a kernel crash may take back the
commits since the last checkpoint (about the last 4 MB), always a whole number of them; the file
itself stays sound.
"""

import asyncio
import contextlib
import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar, cast

from headway.clock import Clock
from headway.encryption import Encryption
from headway.errors import (
    Conflict,
    EntriesTrimmed,
    JournalError,
    JournalUnavailable,
    StreamDamaged,
    StreamEnded,
    StreamNotFound,
)
from headway.events import Entry, is_failure
from headway.journal.chunk_cipher import SAMPLE_BYTES
from headway.journal.chunks import Chunking
from headway.journal.polling import Polling
from headway.journal.sqlite.journal_file import BUSY_TIMEOUT, JournalFile, transaction
from headway.journal.sqlite.kept_rates import forget_whole, take_one
from headway.journal.sqlite.trimming import find_too_long, held_bytes, make_room, trim_stream
from headway.journal.store import Head, OnChange, Watch, Write
from headway.journal.stream_buffer import STREAM_OVERHEAD
from headway.log_lines import quiet_logger
from headway.rate_limits import Rate
from headway.settings import Retention

logger = quiet_logger(__name__)

T = TypeVar("T")
Row = tuple[str, int, int, float | None, bytes]
"""A row of `appends`: stream, first, last, expires, data."""

ROWS = (1, 4, 16, 64, 256)
"""Rows that an INSERT may have. The sizes are few, and rows are padded to the next one, so that
each statement is compiled once."""

READ = """SELECT first, last, (
    SELECT CAST(group_concat(data, ',') AS BLOB) FROM (
        SELECT data FROM chunks
        WHERE stream = streams.id AND last > :after AND first <= :upto ORDER BY last
    )
) FROM streams WHERE name = :name"""

CHUNKS = """SELECT last, CAST(data AS BLOB) FROM chunks
WHERE stream = (SELECT id FROM streams WHERE name = :name) AND last > :after AND first <= :upto"""

SAMPLES = f"""SELECT CAST(substr(data, 1, {SAMPLE_BYTES}) AS BLOB) FROM chunks
ORDER BY rowid DESC LIMIT 16"""
"""The beginnings of the newest chunks: by them a process sees whether it has the keys."""

SELECT_BELOW = "name >= :prefix AND name < :end"


class SqliteStore:
    """A `Store` in one SQLite file, written by one thread and read by another."""

    def __init__(
        self,
        path: str | Path,
        *,
        retention: Retention,
        encryption: Encryption | None = None,
        busy_timeout: float = BUSY_TIMEOUT,
    ) -> None:
        self._file = JournalFile(Path(path), busy_timeout=busy_timeout)
        self.retention = retention
        self._chunking = Chunking(retention, encryption)
        self._writer: _DatabaseThread | None = None
        self._reader: _DatabaseThread | None = None
        self._watcher: sqlite3.Connection | None = None
        self._version = 0
        self._grown: dict[str, tuple[int, int]] = {}
        self._grown_in_all = 0
        self.held = 0
        # Changed by the writer's thread only; readers may see it a moment late.
        self.dropped = Counter[str]()

    # The Store protocol

    async def open(self) -> None:
        """Open or create the file.

        Raises:
            SetupError: This file cannot be a journal, or this process does not have its keys; the
                text says what to do.
            JournalUnavailable: It is locked, or the disk is full or failing.
        """
        writer, reader = (
            _DatabaseThread("headway-journal-write"),
            _DatabaseThread("headway-journal-read"),
        )
        try:
            writer.db = await writer.run(self._file.connect)
            await writer.run(self._file.make_ready, writer.db)
            reader.db = await reader.run(self._file.connect)
            self._watcher = self._file.connect()
            self._version = _data_version(self._watcher)
            samples = await reader.run(_read_samples, reader.db)
            self._chunking.check_samples(samples, str(self._file.path))
        except sqlite3.Error as error:
            raise self._file.explain_error(error, opening=True) from error
        else:
            self._writer, self._reader = writer, reader
        finally:
            if self._reader is None:
                await self._close_all(reader, writer)

    async def close(self) -> None:
        """Finish the writes begun, then close the file."""
        workers = [worker for worker in (self._reader, self._writer) if worker is not None]
        self._reader = self._writer = None
        await self._close_all(*workers)

    async def write(self, writes: Sequence[Write]) -> dict[str, JournalError]:
        """See `Store.write`."""
        return await self._run_in(self._writer, self._write_rows, writes)

    async def read(self, stream: str, after: int, limit: int) -> list[Entry]:
        """See `Store.read`."""
        return await self._run_in(self._reader, self._read_page, stream, after, limit)

    async def head(self, stream: str) -> Head | None:
        """See `Store.head`."""
        return await self._run_in(self._reader, self._read_head, stream)

    async def heads(self, streams: Sequence[str]) -> dict[str, Head]:
        """See `Store.heads`."""
        found = await self._run_in(self._reader, _read_heads, streams)
        return {stream: head for stream, head in found.items() if _is_sound(head)}

    async def streams(self, prefix: str, *, unfinished: bool = False) -> list[str]:
        """See `Store.streams`."""
        return await self._run_in(self._reader, self._list_streams, prefix, unfinished)

    async def count(self, prefix: str, *, every: bool = False) -> int:
        """See `Store.count`."""
        return await self._run_in(self._reader, _count_streams, prefix, every)

    async def count_bytes(self) -> int:
        """See `Store.count_bytes`."""
        return await self._run_in(self._reader, held_bytes)

    async def take_one(self, name: str, rate: Rate, time: Callable[[], float]) -> float:
        """See `RateStore.take_one`."""
        return await self._run_in(self._writer, take_one, name, rate, time)

    async def drop(self, streams: Sequence[str]) -> None:
        """See `Store.drop`. After the writes already begun, before those that follow."""
        await self._run_in(self._writer, self._drop_streams, streams)

    async def expire(self, now: float) -> None:
        """See `Store.expire`. Streams without a terminal entry are only trimmed."""
        await self._run_in(self._writer, self._drop_expired, now)

    def blocking_writer(self) -> "_BlockingWriter":
        """Return a writer for one thread; see `BlockingWriter`."""
        return _BlockingWriter(self._file, self._rows_of)

    def watch(self, notice: OnChange, clock: Clock) -> Watch:
        """See `Store.watch`. The file says that it has changed, not where."""
        return Polling(self.has_changed, notice, clock)

    async def has_changed(self) -> bool:
        """Return whether any process, this one included, may have written since the last call."""
        if self._watcher is None:
            raise self._closed_error()
        try:
            # Here and not in a thread: it looks at shared memory and takes microseconds.
            version = _data_version(self._watcher)
        except sqlite3.Error as error:
            raise self._file.explain_error(error) from error
        changed, self._version = version != self._version, version
        return changed

    # Opening and closing, in the worker threads

    async def _close_all(self, *workers: "_DatabaseThread") -> None:
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.close()
        for worker in workers:
            await worker.close()

    # Writing, in the writer's thread

    def _write_rows(
        self, db: sqlite3.Connection, writes: Sequence[Write]
    ) -> dict[str, JournalError]:
        refused: dict[str, JournalError] = {}
        rows: dict[str, list[Row]] = {}
        for write in writes:
            try:
                rows[write.stream] = list(self._rows_of(write))
            except (TypeError, ValueError, OverflowError) as error:
                text = f"entries of {write.stream!r} cannot be stored: {error}"
                refused[write.stream] = JournalError(text)
        try:
            _insert_all(db, [row for some in rows.values() for row in some])
        # One refused row takes back the whole statement. That is rare, so only then it is worked
        # out which stream it was.
        except sqlite3.IntegrityError:
            refused |= self._write_unfenced(db, writes, rows)
        ended = {write.stream for write in writes if write.ended}
        try:
            self._keep_within_bounds(db, rows, ended, writes[-1].entries[-1].time)
        except (sqlite3.Error, TypeError) as error:
            # The entries are stored. To raise now would have them written again, and refused.
            why = self._file.explain_error(error) if isinstance(error, sqlite3.Error) else error
            logger.warning("%s; it is trimmed later", why)
        return refused

    def _write_unfenced(
        self, db: sqlite3.Connection, writes: Sequence[Write], rows: dict[str, list[Row]]
    ) -> dict[str, JournalError]:
        """Find out which writes the fence has stopped, and commit the others."""
        refused: dict[str, JournalError] = {}
        # In one transaction: no other process can write between the look at the heads and the
        # insert.
        with transaction(db):
            heads = _read_heads(db, list(rows))
            for write in writes:
                head = heads.get(write.stream, _EMPTY_HEAD)
                if write.stream not in rows or (head.last == write.after and not head.ended):
                    continue
                refused[write.stream] = (
                    StreamEnded(write.stream)
                    if head.ended
                    else Conflict(write.stream, after=write.after, last=head.last)
                )
                del rows[write.stream]
            _insert_all(db, [row for some in rows.values() for row in some])
        return refused

    def _rows_of(self, write: Write) -> Iterator[Row]:
        end, expires = write.entries[-1], None
        if write.ended:
            kept = self.retention.seconds_kept(is_failure=is_failure(end.event))
            expires = end.time + kept
        for first, last, data in self._chunking.split_entries(write.stream, write.entries):
            yield write.stream, first, last, expires if last == end.seq else None, data

    # Retention, in the writer's thread

    def _keep_within_bounds(
        self, db: sqlite3.Connection, rows: dict[str, list[Row]], ended: set[str], now: float
    ) -> None:
        """Trim streams and make room as writes add up: a burst cannot wait for `expire`."""
        for stream, some in rows.items():
            size = sum(len(row[4]) for row in some)
            self._grown_in_all += size + STREAM_OVERHEAD
            entries, total = self._grown.pop(stream, (0, 0))
            entries, total = entries + some[-1][2] - some[0][1] + 1, total + size
            if total > self._chunking.bytes or entries > self.retention.stream_entries // 4:
                with transaction(db):
                    self._trim_stream(db, stream)
            elif stream not in ended:
                self._grown[stream] = entries, total
        if self._grown_in_all > self.retention.max_bytes // 16:
            self._grown_in_all = 0
            self._make_room(db, now)

    def _drop_expired(self, db: sqlite3.Connection, now: float) -> None:
        with transaction(db):
            expired = db.execute("DELETE FROM streams WHERE expires <= ?", (now,))
            self.dropped["keep.ttl"] += expired.rowcount
        forget_whole(db, now)
        self._make_room(db, now)
        with transaction(db):
            for stream in find_too_long(db, self.retention):
                self._trim_stream(db, stream)
        # Streams dropped by another process would stay here for ever.
        self._grown.clear()

    def _make_room(self, db: sqlite3.Connection, now: float) -> None:
        self.held, dropped = make_room(db, self.retention, now)
        if dropped:
            self.dropped["keep.max_bytes"] += dropped

    def _trim_stream(self, db: sqlite3.Connection, stream: str) -> None:
        dropped, limit = trim_stream(db, stream, self.retention)
        if dropped:
            self.dropped[limit] += dropped

    def _drop_streams(self, db: sqlite3.Connection, streams: Sequence[str]) -> None:
        names = json.dumps(list(streams))
        db.execute("DELETE FROM streams WHERE name IN (SELECT value FROM json_each(?))", (names,))
        for stream in streams:
            self._grown.pop(stream, None)

    # Reading, in the reader's thread

    def _read_page(
        self, db: sqlite3.Connection, stream: str, after: int, limit: int
    ) -> list[Entry]:
        span = {"name": stream, "after": after, "upto": after + limit}
        found = db.execute(READ, span).fetchone()
        if found is None:
            raise StreamNotFound(stream)
        first, newest, data = found
        if after + 1 < first:
            raise EntriesTrimmed(stream, first=first)
        if after >= newest or limit < 1:
            return []
        page = None if data is None else self._chunking.decode_page(stream, [data], after, limit)
        if page is None:
            chunks = db.execute(CHUNKS, span).fetchall()
            page = self._chunking.decode_readable(stream, chunks, after, limit, newest=newest)
        return page

    def _read_head(self, db: sqlite3.Connection, stream: str) -> Head | None:
        head = _read_heads(db, [stream]).get(stream)
        if head is not None and not _is_sound(head):
            raise TypeError(f"stream {stream!r} has no numbers")
        return head

    def _list_streams(self, db: sqlite3.Connection, prefix: str, unfinished: bool) -> list[str]:
        which = "AND expires IS NULL" if unfinished else ""
        names = db.execute(
            "SELECT json_group_array(name) FROM"
            f" (SELECT name FROM streams WHERE {SELECT_BELOW} {which} ORDER BY id)",
            _name_range(prefix),
        ).fetchone()[0]
        return json.loads(names)

    async def _run_in(
        self, worker: "_DatabaseThread | None", work: Callable[..., T], *args: object
    ) -> T:
        if worker is None:
            raise self._closed_error()
        try:
            return await worker.run(work, worker.db, *args)
        except sqlite3.Error as error:
            raise self._file.explain_error(error) from error
        except TypeError as error:  # a number in it is none
            text = f"journal {self._file.path} has a row that is not Headway's: {error}"
            raise StreamDamaged(text) from error

    def _closed_error(self) -> JournalUnavailable:
        return JournalUnavailable(f"journal {self._file.path} is closed")


def _count_streams(db: sqlite3.Connection, prefix: str, every: bool) -> int:
    which = "" if every else "AND expires IS NULL"
    found = db.execute(
        f"SELECT count(*) FROM streams WHERE {SELECT_BELOW} {which}", _name_range(prefix)
    )
    return found.fetchone()[0]


# Errors


class _BlockingWriter:
    def __init__(self, file: JournalFile, rows: Callable[[Write], Iterator[Row]]) -> None:
        self._file, self._rows = file, rows
        self._db: sqlite3.Connection | None = None

    def append(self, stream: str, entry: Entry) -> None:
        try:
            if self._db is None:
                self._db = self._file.connect()
                self._db.execute("PRAGMA synchronous = NORMAL")
            _insert_all(
                self._db, list(self._rows(Write(stream, entry.seq - 1, [entry], ended=False)))
            )
        except sqlite3.IntegrityError as error:
            raise Conflict(stream, after=entry.seq - 1, last=0) from error
        except sqlite3.Error as error:
            raise self._file.explain_error(error) from error

    def close(self) -> None:
        if self._db is not None:
            self._db.close()


class _DatabaseThread:
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


def _data_version(db: sqlite3.Connection) -> int:
    return db.execute("PRAGMA data_version").fetchone()[0]


def _read_samples(db: sqlite3.Connection) -> list[bytes]:
    return [data for (data,) in db.execute(SAMPLES)]


def _insert_all(db: sqlite3.Connection, rows: list[Row]) -> None:
    """Insert all rows or none; raise `IntegrityError` when the fence stops one."""
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


_EMPTY_HEAD = Head(1, 0, ended=False)


def _read_heads(db: sqlite3.Connection, streams: Sequence[str]) -> dict[str, Head]:
    found = db.execute(
        "SELECT name, first, last, expires IS NOT NULL FROM streams"
        " WHERE name IN (SELECT value FROM json_each(?))",
        (json.dumps(list(streams)),),
    ).fetchall()
    return {name: Head(first, last, bool(ended)) for name, first, last, ended in found}


def _is_sound(head: Head) -> bool:
    """Return whether a stream's numbers are numbers: SQLite stores whatever others write there."""
    found = cast("tuple[object, object]", (head.first, head.last))
    return isinstance(found[0], int) and isinstance(found[1], int)


def _name_range(prefix: str) -> dict[str, str | bytes]:
    """Return the values of `SELECT_BELOW`: to SQLite a blob is greater than every text."""
    end = _end_of(prefix)
    return {"prefix": prefix, "end": b"" if end is None else end}


def _end_of(prefix: str) -> str | None:
    """Return the least text above all that start with `prefix`; None where there is none."""
    prefix = prefix.rstrip("\U0010ffff")
    if not prefix:
        return None
    following = ord(prefix[-1]) + 1
    return prefix[:-1] + chr(0xE000 if following == 0xD800 else following)
