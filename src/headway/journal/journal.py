"""The journal: numbered entries of all streams, written once, read by anyone from any place.

This module must not know what a run or a session is, nor which storage is behind it.

The idea needed to read it: **the tail is what this process wrote, the store is what lasts.**
Every stream written here has a `Tail` in memory. An append lands in the tail at once and in the
store with the next group commit; cursors read from the tail and go to the store only for what the
tail no longer has, or for streams of other processes. A wake-up is a hint, a read is the truth: a
cursor always asks for "what is after n", so nothing falls between replay and live or comes twice.

A terminal entry is the exception to "at once": it becomes visible when the store has it, so
that nobody sees a result that a crash could still take back.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence

from headway.clock import Clock
from headway.errors import (
    Conflict,
    EntriesTrimmed,
    JournalUnavailable,
    SetupError,
    StreamEnded,
    StreamNotFound,
)
from headway.events import TERMINAL, Entry, Event, size_of
from headway.journal.cursor import PAGE_ENTRIES, Cursor, read_all_kept
from headway.journal.eviction import KeptStreams
from headway.journal.global_count import GlobalCount
from headway.journal.group_commit import GroupCommit
from headway.journal.polling import poll_always
from headway.journal.quiet_errors import log_journal_errors
from headway.journal.shared_append import SharedAppend
from headway.journal.store import BlockingWriter, Head, Store, Usage
from headway.journal.stream_buffer import StreamBuffer, merge_heads
from headway.journal.wakeups import Wakeups
from headway.settings import Retention

SWEEP_INTERVAL = 30.0
"""Seconds between searches for expired streams; less where they are kept for less."""


class Journal:
    """All streams of one storage: append, read, follow.

    With no store the tails are all there is: that is the `memory:` journal. Names of streams are
    the caller's. One process at a time should write a stream; the others' appends are refused
    with `Conflict`, here or at the latest by `settle`.
    """

    def __init__(
        self,
        store: Store | None = None,
        *,
        retention: Retention | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.retention = retention or Retention()
        self.clock = clock or Clock()
        # Asked with every entry.
        self._time = self.clock.time
        self._stream_bytes = self.retention.stream_bytes
        self._stream_entries = self.retention.stream_entries
        self._full_at = self.retention.max_bytes
        self._store = store
        self._buffers: dict[str, StreamBuffer] = {}
        self._ended_streams = KeptStreams()
        self._size, self._dropped = 0, Counter[str]()
        most = self.retention.max_bytes // 4  # may wait for a storage that fails
        self._group_commit = (
            None if store is None else GroupCommit(store, self.clock, self._remove_buffer, most)
        )
        self._shared_append = None if store is None else SharedAppend(store, self.clock)
        self.global_count = GlobalCount(store)
        self._sweeping: asyncio.Task[None] | None = None
        self.closed = False
        self.url = ""
        """What it was opened by, where that was a URL."""
        self.blocking_writer: Callable[[], BlockingWriter] | None = getattr(
            store, "blocking_writer", None
        )
        """Makes a way in for a thread; None where the storage has none."""
        self.wakeups = Wakeups(poll_always if store is None else store.watch, self.clock)
        """What wakes cursors on other processes' streams."""

    @property
    def is_durable(self) -> bool:
        """Whether what is written outlives this process."""
        return self._store is not None

    @property
    def is_behind(self) -> bool:
        """Whether so much waits for a storage that fails that only what matters is to be added."""
        return self._group_commit is not None and self._group_commit.is_behind

    @property
    def usage(self) -> Usage:
        """How much it holds, and how much it dropped."""
        store, pending = (
            self._store,
            0 if self._group_commit is None else self._group_commit.pending_bytes,
        )
        held, dropped = (store.held, store.dropped) if store else (self._size, self._dropped)
        return Usage(held, self._size, len(self._buffers), pending, dropped)

    # Opening and closing

    async def open(self) -> None:
        """Make the journal ready on the running loop.

        Raises:
            SetupError: The storage cannot be used as it is; the text says what to do.
            JournalUnavailable: It is locked, full or failing, which may be over by itself.
        """
        if self.closed:
            raise SetupError("this journal was closed; open another one")
        if self._store is not None and self._group_commit is not None:
            await self._store.open()
            self._group_commit.start()
        self._sweeping = asyncio.create_task(self._expire_regularly())

    async def close(self) -> None:
        """Write what is pending, then let go of the storage.

        Cursors still waiting, and calls of `settle`, raise `JournalUnavailable`.
        """
        # All at once: with a storage that fails, one after the other would take for ever.
        unsettled = [tail.stream for tail in self._buffers.values() if tail.pending]
        await asyncio.gather(*map(self._store_and_log_errors, unsettled))
        if self._shared_append is not None and self._group_commit is not None:
            await self._shared_append.close()
            await self._group_commit.stop()
        if self._sweeping is not None:
            self._sweeping.cancel()
        self.closed = True
        for tail in self._buffers.values():
            tail.wake_readers()
            tail.resolve_waits(JournalUnavailable("the journal is closed"))
        self.wakeups.close()
        if self._store is not None:
            await self._store.close()

    async def __aenter__(self) -> "Journal":
        await self.open()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    # Writing

    async def append(
        self, stream: str, events: Iterable[Event], *, after: int, recorded: bool = True
    ) -> int:
        """Add events behind entry `after` (0: a new stream), durably, and return the last `seq`.

        `recorded=False` on the first append keeps the stream out of the storage: it lives
        and dies with this process.

        Cancellation: the entries may have been written.

        Raises:
            Conflict: `after` is not the stream's last entry.
            StreamEnded: The stream has its terminal entry.
            JournalUnavailable: The storage cannot be written now.
        """
        known = stream in self._buffers
        head = await self.attach_stream(stream, recorded=recorded)
        if head.ended:
            raise StreamEnded(stream)
        if after != head.last:
            if not known:
                self._remove_buffer(self._buffers[stream])  # a refused append begins no stream
            raise Conflict(stream, after=after, last=head.last)
        for event in events:
            after = self.append_nowait(stream, event, after=after, recorded=recorded)
        await self.wait_until_stored(stream)
        return after

    async def append_shared(self, stream: str, event: Event) -> int:
        """Add an event behind whatever is last, durably, and return its `seq`.

        For streams that several processes write: each sees what the others wrote, and nobody
        sees an entry before it has its place.

        Cancellation: the entry may have been written.

        Raises:
            StreamEnded: The stream has its terminal entry.
            Conflict: Others were quicker again and again.
            JournalUnavailable: The storage cannot be written now; the entry is not kept.
        """
        if self._shared_append is not None and stream not in self._buffers:
            return await self._shared_append.append(stream, event)
        head = await self.attach_stream(stream)
        return await self.append(stream, [event], after=head.last)

    async def begin_streams(self, streams: Mapping[str, Sequence[Event]]) -> None:
        """Begin streams that another process goes on with, durably; nothing of them stays here.

        Raises:
            JournalError: They could not be written; some of them may have been.
        """
        if self._shared_append is None:
            raise JournalUnavailable("a journal in memory has no other processes")
        await self._shared_append.begin_streams(streams)

    async def attach_stream(self, stream: str, *, recorded: bool = True) -> Head:
        """Make ready to append to a stream that may exist in the storage; return its head.

        A new stream can be followed from here on, before its first entry.
        """
        tail = self._buffers.get(stream)
        if tail is None:
            head = None
            if self._store is not None and recorded:
                head = await self._store.head(stream)
            if head is not None and head.ended and stream not in self._buffers:
                return head  # nothing will follow, so nothing need be kept in memory
            tail = self._buffers.get(stream) or self._new_buffer(stream, head, recorded=recorded)
        return Head(tail.base + 1, tail.last, tail.ended)

    def append_nowait(self, stream: str, event: Event, *, after: int, recorded: bool = True) -> int:
        """Add one event behind entry `after` and return its `seq`, without waiting.

        Readers in this process see it at once (a terminal one: once it is stored), the
        storage has it with the next group commit. For streams begun or attached here.

        Raises:
            Conflict: `after` is not the stream's last entry.
            StreamEnded: The stream has its terminal entry.
        """
        tail = self._buffers.get(stream)
        if tail is None:
            if after != 0:
                raise Conflict(stream, after=after, last=0)
            tail = self._new_buffer(stream, None, recorded=recorded)
        if after != tail.last or tail.ended or tail.failure is not None:
            raise tail.failure or (
                StreamEnded(stream) if tail.ended else Conflict(stream, after=after, last=tail.last)
            )
        tail.last = seq = after + 1
        entry = Entry(seq, self._time(), event)
        tail.entries.append(entry)
        size = size_of(event)
        tail.size += size
        self._size += size
        if type(event) in TERMINAL:
            self._end_stream(tail, entry)
        else:
            tail.visible = seq
            if self._group_commit is not None and tail.recorded:
                self._group_commit.add_entry(tail, entry)
        if tail.waiters:
            tail.wake_readers()
        if tail.size > self._stream_bytes or seq - tail.base > self._stream_entries:
            self._trim_buffer(tail)
        if self._size > self._full_at:
            self._make_room()
        return seq

    def _end_stream(self, tail: StreamBuffer, entry: Entry) -> None:
        tail.ended = True
        if self._group_commit is not None and tail.recorded:
            self._group_commit.add_entry(tail, entry)
        else:
            tail.visible = entry.seq
            size = tail.size
            self._size -= self._ended_streams.mark_ended(tail, entry.time + self.retention.ttl)
            self._full_at = max(self.retention.max_bytes, self._full_at - size)

    async def wait_until_stored(self, stream: str) -> None:
        """Return when everything appended to `stream` so far is in the storage.

        Raises:
            Conflict, StreamEnded: The storage refused it: another process wrote the stream.
            JournalUnavailable: The storage cannot be written now. The entries are kept and
                tried again, and readers in this process see them.
        """
        tail = self._buffers.get(stream)
        if tail is None or not tail.pending:
            if tail is not None and tail.failure is not None:
                raise tail.failure
            return
        done = asyncio.get_running_loop().create_future()
        tail.settled = [*(tail.settled or ()), done]
        if self._group_commit is not None:
            self._group_commit.commit_soon()
        await done

    async def drop(self, stream: str) -> None:
        """Forget a stream. Cursors on it find its end."""
        tail = self._buffers.get(stream)
        if self._group_commit is not None:
            self._group_commit.discard_stream(stream)
        if tail is not None:
            self._remove_buffer(tail)
            tail.ended = True
            tail.visible = tail.last
            tail.pending = None
            tail.wake_readers()
            tail.resolve_waits(None)  # as if dropped a moment later
        if self._store is not None and (tail is None or tail.recorded):
            await self._store.drop([stream])

    # Reading

    async def head(self, stream: str) -> Head | None:
        """What is kept of a stream, or None where there is no such stream."""
        tail, store = self._buffers.get(stream), self._store
        if store is None or (tail is not None and tail.is_complete):
            return None if tail is None else tail.visible_head()
        return merge_heads(tail, await store.head(stream))

    async def head_of_each(self, streams: Collection[str]) -> dict[str, Head]:
        """What is kept of each of these streams that there are, asked for in one step."""
        tails, store = {name: self._buffers.get(name) for name in streams}, self._store
        stored: dict[str, Head] = {}
        if store is not None:
            asked = [name for name, tail in tails.items() if not (tail and tail.is_complete)]
            stored = await store.heads(asked) if asked else stored
        heads = ((name, merge_heads(tail, stored.get(name))) for name, tail in tails.items())
        return {name: head for name, head in heads if head is not None}

    async def read(self, stream: str, *, after: int = 0, limit: int = PAGE_ENTRIES) -> list[Entry]:
        """Up to `limit` entries above `after`, in order, without waiting for new ones.

        Raises:
            StreamNotFound: No such stream.
            EntriesTrimmed: The entry `after + 1` existed and is gone.
        """
        tail = self._buffers.get(stream)
        if tail is not None and after >= tail.base:
            return tail.page(after, limit)
        if self._store is not None and (tail is None or tail.recorded):
            return await self._store.read(stream, after, limit)
        if tail is None:
            raise StreamNotFound(stream)
        raise EntriesTrimmed(stream, first=tail.base + 1)

    async def read_all_kept(self, stream: str) -> list[Entry]:
        """All entries that there are of a stream at the moment; the oldest may be gone.

        Raises:
            StreamNotFound: No such stream.
        """
        return await read_all_kept(self, stream)

    def buffer_of(self, stream: str) -> StreamBuffer | None:
        """What this process holds of a stream that it writes."""
        return self._buffers.get(stream)

    def open_cursor(self, stream: str, *, after: int = 0) -> Cursor:
        """A reader's place, behind entry `after`."""
        return Cursor(self, self._buffers.get(stream), stream, after)

    async def follow(self, stream: str, *, after: int = 0) -> AsyncIterator[Entry]:
        """Yield a stream's entries in order, waiting for new ones, until its terminal entry.

        Each entry above `after` is yielded exactly once, whichever process wrote it and
        whether before or after this call. A slow consumer delays nobody.

        Cancellation: loses nothing. Follow again after the last `entry.seq` handled.

        Raises:
            StreamNotFound: No such stream.
            EntriesTrimmed: Entries above the cursor are gone; go on after `error.first - 1`.
        """
        cursor = self.open_cursor(stream, after=after)
        while not cursor.done:
            for entry in await cursor.next():
                yield entry

    async def streams(self, prefix: str = "", *, unfinished: bool = False) -> list[str]:
        """The names of the streams that start with `prefix`, oldest first.

        All of them, or only those without a terminal entry.
        """
        store = self._store
        known = await store.streams(prefix, unfinished=unfinished) if store else list[str]()
        seen = set(known)
        for name, tail in self._buffers.items():
            is_wanted = tail.last and not (unfinished and tail.ended)
            if is_wanted and name.startswith(prefix) and name not in seen:
                known.append(name)
        return known

    async def count_streams(self, prefix: str) -> int:
        """How many streams there are that start with `prefix`, ended or not."""
        if self._store is not None:
            return await self._store.count(prefix, every=True)
        return sum(name.startswith(prefix) for name in self._buffers)

    # What keeps it within bounds

    def _new_buffer(self, stream: str, head: Head | None, *, recorded: bool) -> StreamBuffer:
        tail = StreamBuffer(stream, head.last if head else 0, recorded=recorded)
        tail.ended = head.ended if head else False
        self._buffers[stream] = tail
        self._ended_streams.add_unfinished(tail)
        self._size += tail.size
        return tail

    def _trim_buffer(self, tail: StreamBuffer) -> None:
        """Forget the oldest quarter of a tail; the store still has what it stored."""
        count = len(tail.entries) // 4
        if self._group_commit is not None and tail.recorded:
            count = min(count, tail.stored - tail.base)
            self._group_commit.commit_soon()
        else:
            is_large = tail.size > self._stream_bytes
            self._dropped["keep.stream_bytes" if is_large else "keep.stream_entries"] += count
        dropped = tail.entries[:count]
        del tail.entries[:count]
        tail.base += count
        size = sum(size_of(entry.event) for entry in dropped)
        tail.size -= size
        self._size -= size

    def _make_room(self) -> None:
        """Drop what ended first, of those who hold most, until the rest fits."""
        most = self.retention.max_bytes
        for tail in self._ended_streams.take_surplus(most - most // 16):
            self._remove_buffer(tail, "keep.max_bytes")
        # What goes on may be more than that: then it is looked again when there is some more.
        self._full_at = max(most, self._size + most // 16)

    def _remove_buffer(self, tail: StreamBuffer, limit: str | None = None) -> None:
        # Dropped and begun again, a stream has another tail by now.
        if self._buffers.get(tail.stream) is tail:
            del self._buffers[tail.stream]
            self._ended_streams.discard(tail)
            self._size -= tail.size
            if limit is not None:
                self._dropped[limit] += 1

    async def _expire_regularly(self) -> None:
        while True:
            await self.clock.sleep(min(SWEEP_INTERVAL, self.retention.ttl))
            now = self.clock.time()
            for tail in self._ended_streams.take_expired(now):
                self._remove_buffer(tail, "keep.ttl")
            if self._store is not None:
                with log_journal_errors("expired streams were not dropped"):
                    await self._store.expire(now)

    async def _store_and_log_errors(self, stream: str) -> None:
        with log_journal_errors("the last entries of %s were not stored", stream):
            await self.wait_until_stored(stream)
