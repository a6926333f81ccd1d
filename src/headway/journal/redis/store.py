"""The `redis:` journal: shared by the processes of many machines.

This module must not know what an event means, only that entries have numbers and an end.

The idea needed to read it: **everything is a script on one bucket** (`scripts`), called over a
pipeline (`pipeline`). There are two pipelines, one for writing and one for reading. A group commit
is one round trip, and so are all reads that began while the one before was under way.

A write whose reply did not come is in doubt: Redis may have done it, or may still do it. It is sent
again with the same id (`write_ids`), and the stream's head has the id of its last write. So a
writer that is refused because its number is taken finds out whether it has taken the number itself,
and how many of its entries are stored.

Redis decides what lasts. With `appendfsync everysec` a power cut or the death of Redis may take
back the last second, with `always` nothing. A replica that takes over may lack what was not yet
sent to it.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from headway.clock import Clock
from headway.encryption import Encryption
from headway.errors import (
    Conflict,
    EntriesTrimmed,
    JournalError,
    JournalUnavailable,
    SetupError,
    StreamDamaged,
    StreamEnded,
    StreamNotFound,
)
from headway.events import Entry, is_failure
from headway.journal.chunks import Chunking
from headway.journal.eviction import bytes_to_free, owner_of
from headway.journal.redis import scripts
from headway.journal.redis.connections import ConnectionFactory
from headway.journal.redis.pipeline import ROUND_TRIP_TIMEOUT, Arg, Pipeline, retry_within
from headway.journal.redis.pubsub import PubSub
from headway.journal.redis.refusals import check_server, explain_error
from headway.journal.redis.url import RedisAddress
from headway.journal.redis.write_ids import WriteIds
from headway.journal.store import Head, OnChange, Watch, Write
from headway.journal.stream_buffer import STREAM_OVERHEAD
from headway.log_lines import quiet_logger
from headway.rate_limits import Rate
from headway.settings import Retention

logger = quiet_logger(__name__)

LISTS_EXTRA_TTL = 86_400_000
"""Milliseconds that the lists of a bucket outlive the last stream in them. Each start and
each sweep of any process prolongs them."""

COUNT_MAX_AGE = 15
"""Seconds for which one process's count of all bytes serves all processes."""

STREAMS_PER_STEP = 500
"""Streams of a bucket that one script handles: others wait for it."""

NAMES_PER_STEP = 200
"""Names that one script lists of a bucket: others wait for it."""

MAX_STEPS = 20
"""Scripts that one sweep calls for each bucket, at most; the next sweep goes on."""


class _Lifetimes:
    """Milliseconds for which Redis keeps keys that are not written any more."""

    __slots__ = ("bucket", "ended", "failed", "unfinished")

    def __init__(self, retention: Retention) -> None:
        self.ended = int(retention.seconds_kept(is_failure=False) * 1000) + 1
        self.failed = int(retention.seconds_kept(is_failure=True) * 1000) + 1
        self.unfinished = int(retention.unfinished * 1000) + 1
        self.bucket = max(self.failed, self.unfinished) + LISTS_EXTRA_TTL


class RedisStore:
    """A `Store` that keeps entries in Redis."""

    def __init__(
        self,
        address: RedisAddress,
        *,
        retention: Retention,
        encryption: Encryption | None = None,
        round_trip_timeout: float = ROUND_TRIP_TIMEOUT,
    ) -> None:
        self.retention = retention
        self._address = address
        self._round_trip_timeout = round_trip_timeout
        self._connections = ConnectionFactory(address)
        self._writes = Pipeline(
            self._connections.new_connection(), address.shown, round_trip_timeout=round_trip_timeout
        )
        self._reads = Pipeline(
            self._connections.new_connection(), address.shown, round_trip_timeout=round_trip_timeout
        )
        self._pubsub: PubSub | None = None
        self._chunking = Chunking(retention, encryption)
        self._lifetimes = _Lifetimes(retention)
        self._buckets = [f"{address.prefix}{{{number}}}" for number in range(address.buckets)]
        self._tidying = asyncio.Lock()
        self._grown = 0
        self.held = 0
        self.dropped = Counter[str]()
        self._write_ids = WriteIds()

    # The Store protocol

    async def open(self) -> None:
        """Connect, and check that this Redis can keep a journal.

        Raises:
            SetupError: It cannot, as it is set up, or this process does not have the keys of the
                journal; the text says what to change.
            JournalUnavailable: It does not answer, or is not ready.
        """
        try:
            await self._check_server()
            await self._check_format()
            samples = await self._call_in_all_buckets(self._reads, scripts.SAMPLE)
            found = [data for data in samples if data]
            self._chunking.check_samples(found, self._address.shown)
        except JournalUnavailable as error:
            await self.close()
            if isinstance(error.__cause__, Exception):
                raise explain_error(self._address.shown, error.__cause__, opening=True) from error
            raise
        except SetupError:
            await self.close()
            raise

    async def close(self) -> None:
        """Finish the writes begun, then close the connections."""
        if self._pubsub is not None:
            await self._pubsub.wait_closed()
        await asyncio.gather(self._writes.close(), self._reads.close())
        await self._connections.close()

    def blocking_writer(self) -> "_BlockingWriter":
        """Return a writer for one thread; see `BlockingWriter`."""
        address, retention, encryption = self._address, self.retention, self._chunking.encryption
        return _BlockingWriter(
            lambda: RedisStore(address, retention=retention, encryption=encryption)
        )

    def watch(self, notice: OnChange, clock: Clock) -> Watch:
        """See `Store.watch`. Each stream has a channel of its own."""
        self._pubsub = PubSub(
            self._connections.new_socket(), self._address.shown, self._channel_of, notice, clock
        )
        return self._pubsub

    async def write(self, writes: Sequence[Write]) -> dict[str, JournalError]:
        """See `Store.write`. When it raises, the next call finds out what was written."""
        async with self._tidying:
            pass  # wait for a sweep that is under way
        refused: dict[str, JournalError] = {}
        # The ids stay until the write is known to be done. A write that raises here is sent again
        # by the next commit under the same id, so it is not taken for another process's.
        for write in writes:
            self._write_ids.assign(write)
        pending = list(writes)
        while pending:
            pending = await self._write_once(pending, refused)
        for write in writes:
            self._write_ids.forget(write.stream)
        if self._grown > self.retention.max_bytes // 16:
            self._grown = 0
            try:
                await self._make_room(0, writes[-1].entries[-1].time)
            except JournalError as error:
                # The entries are in: to fail now would have them written, and refused, again.
                logger.warning("%s; it is trimmed later", error)
        return refused

    async def read(self, stream: str, after: int, limit: int) -> list[Entry]:
        """See `Store.read`."""
        found = await self._call_script(self._reads, scripts.READ, stream, after, limit)
        if found is None:
            raise StreamNotFound(stream)
        first, last, _, *chunks = found
        if after + 1 < first:
            raise EntriesTrimmed(stream, first=first)
        if after >= last or limit < 1:
            return []
        page = self._chunking.decode_page(stream, chunks, after, limit) if chunks else None
        if page is None:
            found = await self._call_script(self._reads, scripts.CHUNKS, stream, after, last)
            parts = [(int(seq), data) for seq, data in _in_turns(found, 2)]
            if not parts:
                text = "journal %s has lost entries of %s; see its maxmemory-policy"
                logger.error(text, self._address.shown, stream)
            page = self._chunking.decode_readable(stream, parts, after, limit, newest=last)
        return page

    async def head(self, stream: str) -> Head | None:
        """See `Store.head`."""
        found = await self._call_script(self._reads, scripts.READ, stream, 0, 0)
        return None if found is None else Head(found[0], found[1], bool(found[2]))

    async def heads(self, streams: Sequence[str]) -> dict[str, Head]:
        """See `Store.heads`. All questions go with one round trip."""
        named = [(stream, _encode_name(stream)) for stream in streams]
        found = await _all_replies(
            self._reads.submit(scripts.READ, self._bucket_of(name), name, 0, 0) for _, name in named
        )
        return {
            stream: Head(head[0], head[1], bool(head[2]))
            for (stream, _), head in zip(named, found, strict=True)
            if head is not None
        }

    async def streams(self, prefix: str, *, unfinished: bool = False) -> list[str]:
        """See `Store.streams`. Asks all buckets at once, for `NAMES_PER_STEP` names at a time."""
        kind = "live" if unfinished else "names"
        least, greatest = _name_range(prefix)
        rows: list[tuple[int, bytes]] = []
        begins = dict.fromkeys(self._buckets, least)
        while begins:
            found = await _all_replies(
                self._reads.submit(scripts.LIST, bucket, kind, begin, greatest, NAMES_PER_STEP)
                for bucket, begin in begins.items()
            )
            rows += ((int(born), name) for _, *row in found for name, born in _in_turns(row, 2))
            lasts = zip(begins, (last for last, *_ in found), strict=True)
            begins = {bucket: b"(" + last for bucket, last in lasts if last}
        return [_decode_name(name) for _, name in sorted(rows)]

    async def count(self, prefix: str, *, every: bool = False) -> int:
        """See `Store.count`. Asks all buckets, with one round trip."""
        kind = "names" if every else "live"
        return sum(
            await self._call_in_all_buckets(self._reads, scripts.NUMBER, kind, *_name_range(prefix))
        )

    async def take_one(self, name: str, rate: Rate, time: Callable[[], float]) -> float:
        """See `RateStore.take_one`. By the clock of Redis."""
        pace = (repr(rate.interval), repr(rate.seconds))
        return float(await self._call_script(self._writes, scripts.TAKE, name, *pace))

    async def count_bytes(self) -> int:
        """See `Store.count_bytes`."""
        return sum(await self._call_in_all_buckets(self._reads, scripts.COUNT, COUNT_MAX_AGE))

    async def drop(self, streams: Sequence[str]) -> None:
        """See `Store.drop`. After the writes already begun, before those that follow."""
        async with self._tidying:
            pass
        for stream in streams:
            self._write_ids.forget(stream)
        await self._forget_streams([(_encode_name(stream), b"") for stream in streams])

    async def expire(self, now: float) -> None:
        """See `Store.expire`. Streams that Redis itself let expire leave the lists as well."""
        async with self._tidying:
            for _ in range(MAX_STEPS):
                gone = await self._call_in_all_buckets(
                    self._writes, scripts.SWEEP, repr(now), self._lifetimes.bucket, STREAMS_PER_STEP
                )
                self.dropped["keep.ttl"] += sum(gone)
                if STREAMS_PER_STEP not in gone:
                    break
            await self._make_room(COUNT_MAX_AGE, now)

    # Opening

    async def _check_server(self) -> None:
        socket = self._connections.new_socket()
        facts: dict[str, str] = {}

        async def attempt() -> Exception | None:
            nonlocal facts
            facts = await socket.server_info()
            (heard,) = await socket.execute([("SUBSCRIBE", self._channel_of(""))])
            return heard if isinstance(heard, Exception) else None

        try:
            await retry_within(
                attempt, socket, self._address.shown, self._round_trip_timeout, opening=True
            )
        finally:
            await socket.reset()
        check_server(self._address.shown, facts)

    async def _check_format(self) -> None:
        mine = f"{scripts.FORMAT} {len(self._buckets)}"
        asked = self._writes.submit(scripts.OPEN, self._buckets[0], mine, self._lifetimes.bucket)
        found = _decode_name(await asked)
        if found != mine:
            version, _, buckets = found.partition(" ")
            what = f"journal {self._address.shown}: what is under {self._address.prefix!r} has"
            if version == str(scripts.FORMAT):
                raise SetupError(f"{what} {buckets} buckets; write ?buckets={buckets}")
            raise SetupError(
                f"{what} format {version}, this Headway writes {scripts.FORMAT}; "
                "update Headway or name another ?prefix="
            )
        await self._call_in_all_buckets(
            self._writes, scripts.SWEEP, "-inf", self._lifetimes.bucket, STREAMS_PER_STEP
        )

    # Writing

    async def _write_once(
        self, writes: list[Write], refused: dict[str, JournalError]
    ) -> list[Write]:
        """Write once; return the rest of the writes of which an earlier attempt had stored a part.

        Raises:
            JournalUnavailable: One of the writes may not be stored.
        """
        asked: dict[str, tuple[Write, asyncio.Future[Any]]] = {}
        for write in writes:
            try:
                args = self._write_arguments(write)
            except (TypeError, ValueError, OverflowError) as error:
                text = f"entries of {write.stream!r} cannot be stored: {error}"
                refused[write.stream] = JournalError(text)
            else:
                put = self._writes.submit(
                    scripts.WRITE, self._bucket_of(_encode_name(write.stream)), *args
                )
                asked[write.stream] = write, put
        puts = [put for _, put in asked.values()]
        answers = await asyncio.gather(*puts, return_exceptions=True)
        pending: list[Write] = []
        for (write, _), answer in zip(asked.values(), answers, strict=True):
            if isinstance(answer, StreamDamaged):
                refused[write.stream] = answer  # the others are written all the same
                continue
            if isinstance(answer, BaseException):
                raise answer
            if answer == 0:
                continue
            if isinstance(answer, int):
                limit = "keep.stream_entries" if answer > 0 else "keep.stream_bytes"
                self.dropped[limit] += abs(answer)
            else:
                rest = self._rest(write, *answer)
                if isinstance(rest, JournalError):
                    refused[write.stream] = rest
                elif rest.entries:
                    pending.append(rest)
        return pending

    def _write_arguments(self, write: Write) -> list[Arg]:
        expires, lifetime = "", self._lifetimes.unfinished
        if write.ended:
            end = write.entries[-1]
            failed = is_failure(end.event)
            expires = repr(end.time + self.retention.seconds_kept(is_failure=failed))
            lifetime = self._lifetimes.failed if failed else self._lifetimes.ended
        args: list[Arg] = [
            _encode_name(write.stream),
            write.after,
            write.entries[-1].seq,
            self._write_ids.id_of(write.stream),
            expires,
            lifetime,
            self._lifetimes.bucket,
            self.retention.stream_entries,
            self.retention.stream_bytes,
        ]
        for _, last, data in self._chunking.split_entries(write.stream, write.entries):
            args += [last, data]
            self._grown += len(data)
        self._grown += STREAM_OVERHEAD
        return args

    def _rest(self, write: Write, last: int, ended: int, identity: bytes) -> Write | JournalError:
        """Return the rest of a write that has itself taken its number, or why it is refused."""
        if _decode_name(identity) == self._write_ids.id_of(write.stream):
            entries = [entry for entry in write.entries if entry.seq > last]
            return replace(write, after=last, entries=entries)
        if ended:
            return StreamEnded(write.stream)
        return Conflict(write.stream, after=write.after, last=last)

    # Retention

    async def _make_room(self, counted: int, now: float) -> None:
        """Drop ended streams until the rest fits: first the oldest of the owners that hold most.

        The count of all bytes may be `counted` seconds old.
        """
        self.held = sum(await self._call_in_all_buckets(self._writes, scripts.COUNT, counted))
        if self.held <= self.retention.max_bytes:
            return
        due = bytes_to_free(await self._held_by_owners(), self.retention.max_bytes)
        for _ in range(MAX_STEPS):
            if not due:
                return
            dropped = self._to_drop(await self._oldest_of(due, now), due)
            if not dropped:
                return
            await self._forget_streams(dropped)
            self.dropped["keep.max_bytes"] += len(dropped)

    async def _held_by_owners(self) -> dict[str, int]:
        held = Counter[str]()
        for bucket in await self._call_in_all_buckets(self._writes, scripts.HELD):
            for owner, size in _in_turns(bucket, 2):
                held[_decode_name(owner)] += int(float(size))
        return held

    async def _oldest_of(self, owners: Iterable[str], now: float) -> list[tuple[bytes, ...]]:
        """Return the streams of these owners that ended first: name, expires, born and bytes.

        What expires later than any stream that has just ended is a failed run's: those are asked
        for by themselves, and compared without what they are kept for longer.
        """
        latest, extra = now + self.retention.ttl, self.retention.extra_of_failed
        keyed: list[tuple[tuple[float, int], tuple[bytes, ...]]] = []
        for least, greatest, shift in (("-inf", latest, 0.0), (f"({latest!r}", "+inf", extra)):
            found = await self._call_in_all_buckets(
                self._writes, scripts.OLDEST, STREAMS_PER_STEP, least, str(greatest), *owners
            )
            rows = [row for bucket in found for row in _in_turns(bucket, 4)]
            keyed += (((float(row[1]) - shift, int(row[2])), row) for row in rows)
        return [row for _, row in sorted(keyed)]

    def _to_drop(
        self, rows: list[tuple[bytes, ...]], due: dict[str, int]
    ) -> list[tuple[bytes, bytes]]:
        """Return the first streams that have to go, and subtract their bytes from `due`."""
        dropped: list[tuple[bytes, bytes]] = []
        for name, expires, _, size in rows:
            owner = owner_of(_decode_name(name))
            if owner not in due:
                continue
            due[owner] -= int(size)
            self.held -= int(size)
            dropped.append((name, expires))
            if due[owner] <= 0:
                del due[owner]
        return dropped

    async def _forget_streams(self, streams: Iterable[tuple[bytes, bytes]]) -> None:
        by_bucket: dict[str, list[bytes]] = {}
        for name, expires in streams:
            by_bucket.setdefault(self._bucket_of(name), []).extend((name, expires))
        puts = [
            self._writes.submit(scripts.FORGET, bucket, *args[start : start + 2 * STREAMS_PER_STEP])
            for bucket, args in by_bucket.items()
            for start in range(0, len(args), 2 * STREAMS_PER_STEP)
        ]
        await _all_replies(puts)

    # Asking

    def _bucket_of(self, name: bytes) -> str:
        return self._buckets[scripts.bucket_of(name, len(self._buckets))]

    def _channel_of(self, stream: str) -> bytes:
        name = _encode_name(stream)
        return f"{self._bucket_of(name)}:n:".encode() + name

    async def _call_script(
        self, pipeline: Pipeline, script: scripts.Script, stream: str, *args: Arg
    ) -> Any:
        name = _encode_name(stream)
        return await pipeline.submit(script, self._bucket_of(name), name, *args)

    async def _call_in_all_buckets(
        self, pipeline: Pipeline, script: scripts.Script, *args: Arg
    ) -> list[Any]:
        return await _all_replies(
            [pipeline.submit(script, bucket, *args) for bucket in self._buckets]
        )


async def _all_replies(puts: Iterable["asyncio.Future[Any]"]) -> list[Any]:
    """Return all replies, once all are there.

    Raises:
        JournalError: One of the calls failed; the first such error.
    """
    answers = await asyncio.gather(*puts, return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    return answers


def _in_turns(values: Sequence[bytes], step: int) -> list[tuple[bytes, ...]]:
    return list(zip(*(iter(values),) * step, strict=True))


def _name_range(prefix: str) -> tuple[bytes, bytes]:
    """Return the bounds of the names that start with `prefix`, as Redis compares names."""
    begin = _encode_name(prefix)
    return (b"[" + begin, b"[" + begin + b"\xff") if begin else (b"-", b"+")


def _encode_name(name: str) -> bytes:
    return name.encode("utf-8", "surrogatepass")


def _decode_name(name: bytes) -> str:
    return name.decode("utf-8", "surrogatepass")


class _BlockingWriter:
    """A store with a loop of its own, which the thread runs only while it writes."""

    def __init__(self, make: Callable[[], RedisStore]) -> None:
        self._make = make
        self._runner = asyncio.Runner()
        self._store: RedisStore | None = None

    def append(self, stream: str, entry: Entry) -> None:
        refused = self._runner.run(self._write(Write(stream, entry.seq - 1, [entry], ended=False)))
        if stream in refused:
            raise refused[stream]

    async def _write(self, write: Write) -> dict[str, JournalError]:
        self._store = self._store or self._make()
        return await self._store.write([write])

    def close(self) -> None:
        with self._runner:
            if self._store is not None:
                self._runner.run(self._store.close())
