"""The journal: numbered entries of all streams, written once, readable from any entry on.

This module must not know what a run or a session is, nor which storage keeps the entries.

The idea needed to read it: **the buffer holds what this process wrote, the storage holds what
lasts.** Every stream written here has a `StreamBuffer` in memory. Readers of this process read from
the buffer. They go to the storage for what the buffer no longer has, and for streams of other
processes.

How an append becomes durable (`append`, on a journal with a storage):

```
caller              Journal            StreamBuffer         GroupCommit             Store
  │ append(events)     │                    │                    │                    │
  ├───────────────────▶│ append_nowait      │                    │                    │
  │                    ├───────────────────▶│ entries += entry   │                    │
  │                    │                    │ visible = seq      │                    │
  │                    │ add_entry          │  (readers here     │                    │
  │                    ├────────────────────┼───see it now)─────▶│ pending += entry   │
  │                    │ wait_until_stored  │                    │                    │
  │                    ├────────────────────┼───────────────────▶│ commit_soon        │
  │                    │                    │                    ├─ write(all pending)▶│
  │                    │                    │                    │◀── who is refused ──┤
  │                    │                    │◀─ resolve_waits ───┤                    │
  │◀── last seq ───────┤                    │                    │                    │
```

- What is appended by one process while a commit is under way goes with the next commit.
- A **terminal entry** becomes visible only once it is stored. So nobody sees a result that a crash
  could still take back.
- The storage takes a write only behind the entry that the writer names (the fence). A second
  process that writes the stream is refused with `Conflict`, and its buffer is forgotten.

A wake-up is a hint, and a read is the truth: a cursor always asks for what comes after entry n. So
no entry is lost between replay and live, and none comes twice (see `cursor`).
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence

from headway.clock import Clock
from headway.encryption import Encryption
from headway.errors import (
    Conflict,
    EntriesTrimmed,
    JournalUnavailable,
    SetupError,
    StreamEnded,
    StreamNotFound,
)
from headway.events import TERMINAL, Entry, Event, size_of
from headway.journal.buffer_pool import BufferPool
from headway.journal.cursor import PAGE_ENTRIES, Cursor, read_all_kept
from headway.journal.global_count import GlobalCount
from headway.journal.group_commit import GroupCommit
from headway.journal.polling import poll_always
from headway.journal.quiet_errors import log_journal_errors
from headway.journal.shared_append import SharedAppend
from headway.journal.shared_rates import SharedRates
from headway.journal.store import BlockingWriter, Head, Store, Usage
from headway.journal.stream_buffer import StreamBuffer, merge_heads
from headway.journal.wakeups import Wakeups
from headway.settings import Retention

SWEEP_INTERVAL = 30.0
"""Seconds between searches for expired streams; less where streams are kept for less."""


class Journal:
    """All streams of one storage: append, read, follow.

    Without a store the buffers are all there is: that is the `memory:` journal. The names of
    streams are the caller's. One process at a time should write a stream; the appends of others
    are refused with `Conflict`, at once or at the latest by `wait_until_stored`.
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
        self._time = self.clock.time  # one look-up less for every entry
        self._store = store
        self._buffers = BufferPool(self.retention)
        self._group_commit: GroupCommit | None = None
        self._shared_append: SharedAppend | None = None
        if store is not None:
            self._group_commit = GroupCommit(
                store,
                self.clock,
                self._buffers.remove,
                max_pending=self.retention.max_bytes // 4,
            )
            self._shared_append = SharedAppend(store, self.clock)
        self.global_count = GlobalCount(store)
        self.rates = SharedRates(store, self.clock)
        self._expiring: asyncio.Task[None] | None = None
        self.closed = False
        self.url = ""
        """The URL that it was opened by, or '' where there was none."""
        self.encryption: Encryption | None = None
        """The keys that its storage encrypts with, for one more that is opened by the same URL."""
        self.blocking_writer: Callable[[], BlockingWriter] | None = getattr(
            store, "blocking_writer", None
        )
        """Makes a writer for a thread of its own; None where the storage has none."""
        self.wakeups = Wakeups(poll_always if store is None else store.watch, self.clock)
        """Wakes the cursors on streams of other processes."""

    @property
    def is_durable(self) -> bool:
        """Return whether what is written outlives this process."""
        return self._store is not None

    @property
    def is_behind(self) -> bool:
        """Return whether a failing storage has so much to catch up that only what matters fits."""
        return self._group_commit is not None and self._group_commit.is_behind

    @property
    def usage(self) -> Usage:
        """Return how many bytes and streams the journal holds, and how much it has dropped."""
        pending = 0 if self._group_commit is None else self._group_commit.pending_bytes
        in_memory, store = self._buffers.size, self._store
        held = in_memory if store is None else store.held
        dropped = self._buffers.dropped if store is None else store.dropped
        return Usage(held, in_memory, len(self._buffers), pending, dropped)

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
        self._expiring = asyncio.create_task(self._expire_regularly())

    async def close(self) -> None:
        """Write what is pending, then let go of the storage.

        Cursors that still wait, and calls of `wait_until_stored`, raise `JournalUnavailable`.
        """
        # All at once: with a storage that fails, one after the other would take for ever.
        unstored = [buffer.stream for buffer in self._buffers if buffer.pending]
        await asyncio.gather(*map(self._store_and_log_errors, unstored))
        if self._shared_append is not None and self._group_commit is not None:
            await self._shared_append.close()
            await self._group_commit.stop()
        if self._expiring is not None:
            self._expiring.cancel()
        # Before the readers are woken: a cursor that looks again has to see it, or it waits for
        # ever.
        self.closed = True
        for buffer in self._buffers:
            buffer.wake_readers()
            buffer.resolve_waits(JournalUnavailable("the journal is closed"))
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
        """Add events after entry `after` (0: a new stream), durably; return the last one's `seq`.

        `recorded=False` on the first append keeps the stream out of the storage: it lives
        and dies with this process.

        Cancellation: the entries may have been written.

        Raises:
            Conflict: `after` is not the stream's last entry.
            StreamEnded: The stream has its terminal entry.
            JournalUnavailable: The storage cannot be written now.
        """
        known = stream in self._buffers.by_name
        # The checks and the appends below run without an await between them, so no other task of
        # this process can write in between. Other processes are stopped by the fence of the
        # storage.
        head = await self.attach_stream(stream, recorded=recorded)
        if head.ended:
            raise StreamEnded(stream)
        if after != head.last:
            if not known:
                # A refused append begins no stream.
                self._buffers.remove(self._buffers.by_name[stream])
            raise Conflict(stream, after=after, last=head.last)
        for event in events:
            after = self.append_nowait(stream, event, after=after, recorded=recorded)
        # All of these entries go with one commit, so a crash loses all of them or none.
        await self.wait_until_stored(stream)
        return after

    async def append_shared(self, stream: str, event: Event) -> int:
        """Add an event after whatever is last, durably, and return its `seq`.

        For streams that several processes write. The storage gives the entry its number, so each
        process sees what the others wrote in the same order.

        Cancellation: the entry may have been written.

        Raises:
            StreamEnded: The stream has its terminal entry.
            Conflict: Others were quicker again and again.
            JournalUnavailable: The storage cannot be written now; the entry is not kept.
        """
        if self._shared_append is not None and stream not in self._buffers.by_name:
            return await self._shared_append.append(stream, event)
        head = await self.attach_stream(stream)
        return await self.append(stream, [event], after=head.last)

    async def begin_streams(self, streams: Mapping[str, Sequence[Event]]) -> None:
        """Begin streams that another process goes on with, durably; none of them is kept here.

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
        by_name = self._buffers.by_name
        buffer = by_name.get(stream)
        if buffer is None:
            head = None
            if self._store is not None and recorded:
                head = await self._store.head(stream)
            if head is not None and head.ended and stream not in by_name:
                return head  # nothing will follow, so nothing need be kept in memory
            # While the storage was asked, another task may have made the buffer.
            buffer = by_name.get(stream) or self._buffers.add(stream, head, recorded=recorded)
        return Head(buffer.base + 1, buffer.last, buffer.ended)

    def append_nowait(self, stream: str, event: Event, *, after: int, recorded: bool = True) -> int:
        """Add one event after entry `after` and return its `seq`, without waiting.

        Readers in this process see it at once, a terminal one when it is stored. The storage has
        it with the next group commit. For streams begun or attached here.

        Raises:
            Conflict: `after` is not the stream's last entry.
            StreamEnded: The stream has its terminal entry.
        """
        buffers = self._buffers
        buffer = buffers.by_name.get(stream)
        if buffer is None:
            if after != 0:
                raise Conflict(stream, after=after, last=0)
            buffer = buffers.add(stream, None, recorded=recorded)
        if after != buffer.last or buffer.ended or buffer.failure is not None:
            raise buffer.failure or (
                StreamEnded(stream)
                if buffer.ended
                else Conflict(stream, after=after, last=buffer.last)
            )
        # This path runs for every event of every run: plain statements, and no call that can be
        # avoided.
        buffer.last = seq = after + 1
        entry = Entry(seq, self._time(), event)
        buffer.entries.append(entry)
        size = size_of(event)
        buffer.size += size
        buffers.size += size
        # A terminal entry is shown when it is stored; others are shown before. So after a crash a
        # reader may have seen progress that is gone, but no result that is (but see
        # `_keep_for_retry`).
        if type(event) in TERMINAL:
            self._end_stream(buffer, entry)
        else:
            buffer.visible = seq
            if self._group_commit is not None and buffer.recorded:
                self._group_commit.add_entry(buffer, entry)
        if buffer.waiters:
            buffer.wake_readers()
        if buffer.size > buffers.stream_bytes or seq - buffer.base > buffers.stream_entries:
            self._trim_buffer(buffer)
        if buffers.size > buffers.full_at:
            buffers.make_room()
        return seq

    def _end_stream(self, buffer: StreamBuffer, entry: Entry) -> None:
        buffer.ended = True
        if self._group_commit is not None and buffer.recorded:
            # Not visible yet: a crash could still take the end back.
            self._group_commit.add_entry(buffer, entry)
        else:
            buffer.visible = entry.seq
            self._buffers.keep_ended(buffer, entry)

    def _trim_buffer(self, buffer: StreamBuffer) -> None:
        has_storage = self._group_commit is not None and buffer.recorded
        self._buffers.trim(buffer, has_storage=has_storage)
        if has_storage and self._group_commit is not None:
            self._group_commit.commit_soon()  # so that the next time more can be forgotten

    async def wait_until_stored(self, stream: str) -> None:
        """Return when everything appended to `stream` so far is in the storage.

        Raises:
            Conflict, StreamEnded: The storage refused it: another process wrote the stream.
            JournalUnavailable: The storage cannot be written now. The entries are kept and
                tried again, and readers in this process see them.
        """
        buffer = self._buffers.by_name.get(stream)
        if buffer is None or not buffer.pending:
            if buffer is not None and buffer.failure is not None:
                raise buffer.failure
            return
        # Each waiter has a future of its own: one that is cancelled must not cancel the others.
        done = asyncio.get_running_loop().create_future()
        buffer.settled = [*(buffer.settled or ()), done]
        if self._group_commit is not None:
            self._group_commit.commit_soon()
        await done

    async def drop(self, stream: str) -> None:
        """Forget a stream. Cursors on it find its end."""
        buffer = self._buffers.by_name.get(stream)
        # First out of the queue: an entry that is committed after the drop could begin the stream
        # anew.
        if self._group_commit is not None:
            self._group_commit.discard_stream(stream)
        if buffer is not None:
            self._buffers.remove(buffer)
            buffer.ended = True
            buffer.visible = buffer.last
            buffer.pending = None
            buffer.wake_readers()
            buffer.resolve_waits(None)  # as if it had been dropped a moment later
        if self._store is not None and (buffer is None or buffer.recorded):
            await self._store.drop([stream])

    # Reading

    async def head(self, stream: str) -> Head | None:
        """Return the head of what is kept of a stream, or None where there is no such stream."""
        buffer, store = self._buffers.by_name.get(stream), self._store
        if store is None or (buffer is not None and buffer.is_complete):
            return None if buffer is None else buffer.visible_head()
        return merge_heads(buffer, await store.head(stream))

    async def head_of_each(self, streams: Collection[str]) -> dict[str, Head]:
        """Return the heads of those of these streams that there are, with one question."""
        buffers = {name: self._buffers.by_name.get(name) for name in streams}
        stored: dict[str, Head] = {}
        if self._store is not None:
            asked = [
                name for name, buffer in buffers.items() if not (buffer and buffer.is_complete)
            ]
            stored = await self._store.heads(asked) if asked else stored
        heads = ((name, merge_heads(buffer, stored.get(name))) for name, buffer in buffers.items())
        return {name: head for name, head in heads if head is not None}

    async def read(self, stream: str, *, after: int = 0, limit: int = PAGE_ENTRIES) -> list[Entry]:
        """Return up to `limit` entries above `after`, in order, without waiting for new ones.

        Raises:
            StreamNotFound: No such stream.
            EntriesTrimmed: The entry `after + 1` existed and is gone.
        """
        buffer = self._buffers.by_name.get(stream)
        if buffer is not None and after >= buffer.base:
            return buffer.page(after, limit)
        if self._store is not None and (buffer is None or buffer.recorded):
            return await self._store.read(stream, after, limit)
        if buffer is None:
            raise StreamNotFound(stream)
        raise EntriesTrimmed(stream, first=buffer.base + 1)

    async def read_all_kept(self, stream: str) -> list[Entry]:
        """Return all entries that there are of a stream at the moment; the oldest may be gone.

        Raises:
            StreamNotFound: No such stream.
        """
        return await read_all_kept(self, stream)

    def buffer_of(self, stream: str) -> StreamBuffer | None:
        """Return the buffer of a stream that this process writes, or None."""
        return self._buffers.by_name.get(stream)

    def open_cursor(self, stream: str, *, after: int = 0) -> Cursor:
        """Return a cursor on a stream; its first entry is the one after `after`."""
        return Cursor(self, self._buffers.by_name.get(stream), stream, after)

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
        """Return the names of the streams that start with `prefix`, oldest first.

        All of them, or only those without a terminal entry.
        """
        store = self._store
        known = await store.streams(prefix, unfinished=unfinished) if store else list[str]()
        seen = set(known)
        for name, buffer in self._buffers.by_name.items():
            is_wanted = buffer.last and not (unfinished and buffer.ended)
            if is_wanted and name.startswith(prefix) and name not in seen:
                known.append(name)
        return known

    async def count_bytes(self) -> int:
        """Return how many bytes all streams take, counted now."""
        return self._buffers.size if self._store is None else await self._store.count_bytes()

    async def prune(self, streams: Sequence[str] = ()) -> None:
        """Forget what has expired, and these streams, which this process does not write."""
        if self._store is not None:
            await self._store.expire(self.clock.time())
            await self._store.drop(streams)

    async def count_streams(self, prefix: str) -> int:
        """Return how many streams there are that start with `prefix`, ended or not."""
        if self._store is not None:
            return await self._store.count(prefix, every=True)
        return sum(name.startswith(prefix) for name in self._buffers.by_name)

    # In the background

    async def _expire_regularly(self) -> None:
        while True:
            await self.clock.sleep(min(SWEEP_INTERVAL, self.retention.ttl))
            now = self.clock.time()
            self._buffers.drop_expired(now)
            if self._store is not None:
                with log_journal_errors("expired streams were not dropped"):
                    await self._store.expire(now)

    async def _store_and_log_errors(self, stream: str) -> None:
        with log_journal_errors("the last entries of %s were not stored", stream):
            await self.wait_until_stored(stream)
