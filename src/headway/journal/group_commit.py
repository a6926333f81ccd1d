"""Group commits: all entries since the last commit go to the store in one step.

The drawing in `journal` shows where this stands. The task `run` has three ways through its loop:

```
            is_due                  written
 waiting ───────────▶ committing ──────────────▶ waiting
    ▲                   │      │
    │  after a delay    │      └─ cancelled: the loop ends. The write is in doubt;
    └──── failed ◀──────┘         the next `run` reads what of it was done.
```
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from itertools import takewhile

from headway.clock import Clock
from headway.errors import JournalError, JournalUnavailable
from headway.events import Accepted, Alive, Entry, Progress, Started, size_of
from headway.journal.store import Store, Write
from headway.journal.stream_buffer import StreamBuffer
from headway.log_lines import quiet_logger

logger = quiet_logger(__name__)

RETRY_DELAYS = (0.1, 0.5, 2.0, 5.0)
"""Seconds until a failed write is tried again; the last one repeats."""


COMMIT_INTERVAL = 0.02
"""Seconds between two commits, where nobody waits for the second: a commit costs the same whatever
is in it. Measured by the loop's own clock: nothing but the storage waits for it, so no test needs
to turn it."""

PATIENT_EVENTS: frozenset[type] = frozenset((Accepted, Started, Progress, Alive))
"""Events that nobody waits for; only the newest progress counts. All others begin a commit at once:
a crash would take back a result, a part, a question or a checkpoint that was already seen."""


class GroupCommit:
    """A queue of pending entries, and the task that hands them to the store.

    `forget` is called with a buffer that need not be kept any longer: its stream has ended and
    the store serves it, or the stream turned out to be another process's.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        forget: Callable[[StreamBuffer], None],
        *,
        max_pending: int,
    ) -> None:
        self._max_pending = max_pending
        self._store = store
        self._clock = clock
        self._forget = forget
        self._dirty: dict[str, StreamBuffer] = {}
        """The buffers with pending entries, by stream."""
        self._is_due = asyncio.Event()
        """Set when the next commit is to begin as soon as the one under way is done."""
        self._last_commit = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_stopped = False
        self._is_in_doubt = False
        """Whether a write was cancelled, so that nobody knows whether it was done."""
        self.is_behind = False
        """Whether more than `max_pending` bytes wait for a storage that fails."""

    def start(self) -> None:
        """Write from now on, until `stop`.

        A loop that ends cancels all its tasks at once. Those that end with a last append still
        need this one, so it begins again until it is stopped.
        """
        self._task = asyncio.create_task(self.run())
        self._task.add_done_callback(
            lambda task: self.start() if task.cancelled() and not self._is_stopped else None
        )

    async def stop(self) -> None:
        """Write no more."""
        self._is_stopped = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def add_entry(self, buffer: StreamBuffer, entry: Entry) -> None:
        """Have an entry stored with the next commit, which begins at once if its event needs it."""
        if buffer.pending is None:
            buffer.pending = []
        buffer.pending.append(entry)
        self._dirty[buffer.stream] = buffer
        if type(entry.event) not in PATIENT_EVENTS:
            self.commit_soon()
        elif self._timer is None and not self._is_due.is_set():
            self._schedule_commit()

    def _schedule_commit(self) -> None:
        loop, due = asyncio.get_running_loop(), self._last_commit + COMMIT_INTERVAL
        if due > loop.time():
            self._timer = loop.call_at(due, self.commit_soon)
        else:
            self.commit_soon()

    def commit_soon(self) -> None:
        """Begin the next commit as soon as the one under way is done: somebody waits for it."""
        self._is_due.set()

    @property
    def pending_bytes(self) -> int:
        """Return bytes that wait to be stored."""
        waiting = (entry for buffer in self._dirty.values() for entry in buffer.pending or ())
        return sum(size_of(entry.event) for entry in waiting)

    def discard_stream(self, stream: str) -> None:
        """Store nothing more of a stream that was dropped."""
        self._dirty.pop(stream, None)

    async def run(self) -> None:
        """Write one group commit after the other, until cancelled.

        Cancellation: what could not be written is kept, and the next call tries it again.
        """
        failures = 0
        if self._is_in_doubt:
            await self._resolve_doubt()
        while True:
            await self._is_due.wait()
            self._begin_commit()
            # Entries that are appended from here on are in the new dict, and go with the next
            # commit. The lists are copied below for the same reason.
            dirty, self._dirty = self._dirty, {}
            writes = [
                Write(buffer.stream, buffer.stored, list(buffer.pending), buffer.ended)
                for buffer in dirty.values()
                if buffer.pending
            ]
            if not writes:
                continue
            try:
                refused = await self._store.write(writes)
            except asyncio.CancelledError:
                # The loop ends around it, and all its tasks with it.
                self._dirty, self._is_in_doubt = {**dirty, **self._dirty}, True
                self._is_due.set()
                raise
            except Exception as error:
                if failures == 0:
                    is_known = isinstance(error, JournalUnavailable)
                    trace = None if is_known else error
                    logger.error("the journal cannot be written: %s", error, exc_info=trace)
                # A write that failed may have been done all the same, if only its reply was lost:
                # the Redis store knows the retry by its id (`write_ids`).
                self._keep_for_retry(dirty, JournalUnavailable(str(error)))
                await self._clock.sleep(RETRY_DELAYS[min(failures, len(RETRY_DELAYS) - 1)])
                failures += 1
                continue
            if failures:
                logger.warning("the journal can be written again")
                failures, self.is_behind = 0, False
            for write in writes:
                self._mark_stored(dirty[write.stream], write, refused.get(write.stream))

    async def _resolve_doubt(self) -> None:
        """Find out what a cancelled write has stored, and count that as done."""
        with suppress(JournalError):
            # The store does this after all writes that were begun; then they can be read.
            await self._store.drop([])
        for buffer in list(self._dirty.values()):
            pending, done = buffer.pending or [], 0
            with suppress(JournalError):
                stored = await self._store.read(buffer.stream, buffer.stored, len(pending))
                pairs = zip(stored, pending, strict=False)
                done = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
            if done:
                ended = buffer.ended and done == len(pending)
                write = Write(buffer.stream, buffer.stored, pending[:done], ended)
                self._mark_stored(buffer, write, None)
        self._is_in_doubt = False

    def _begin_commit(self) -> None:
        """Reset what asked for a commit: all that is pending by now goes with this one."""
        self._is_due.clear()
        self._last_commit = asyncio.get_running_loop().time()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _keep_for_retry(self, dirty: dict[str, StreamBuffer], error: JournalUnavailable) -> None:
        """Keep the entries of a failed commit, but let their readers and writers go on."""
        # A stream may be in both, with the same buffer: its pending list has all of its entries.
        self._dirty = {**dirty, **self._dirty}
        self.is_behind = self.pending_bytes > self._max_pending
        self._is_due.set()
        for buffer in dirty.values():
            # Ends are shown, too: a client would wait as long as the storage is away.
            buffer.visible = buffer.last
            buffer.wake_readers()
            buffer.resolve_waits(error)

    def _mark_stored(
        self, buffer: StreamBuffer, write: Write, refusal: JournalError | None
    ) -> None:
        if refusal is not None:
            # Another process owns the stream: what was appended here never happened.
            buffer.failure = refusal
            buffer.pending = None
            self._forget(buffer)
            buffer.wake_readers()
            buffer.resolve_waits(refusal)
            return
        # Not cleared: entries that were appended while the commit was under way come after these.
        buffer.pending = (buffer.pending or [])[len(write.entries) :] or None
        buffer.stored = write.entries[-1].seq
        if not buffer.pending:
            # Only when nothing is pending any more: otherwise the terminal entry may be among the
            # pending ones, and must not be seen yet.
            buffer.visible = buffer.last
            buffer.wake_readers()
            buffer.resolve_waits(None)
            if buffer.ended:
                # The store serves it from here on; cursors that hold the buffer finish with it.
                self._forget(buffer)
