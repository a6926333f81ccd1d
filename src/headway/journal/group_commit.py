"""Group commits: what a process wrote since the last one goes to the store in one step."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from itertools import takewhile

from headway.clock import Clock
from headway.errors import JournalError, JournalUnavailable
from headway.events import Accepted, Alive, Entry, Progress, Started, size_of
from headway.journal.store import Store, Write
from headway.journal.stream_buffer import StreamBuffer

logger = logging.getLogger(__name__)

RETRY_DELAYS = (0.1, 0.5, 2.0, 5.0)
"""Seconds until a failed write is tried again; the last one repeats."""


COMMIT_INTERVAL = 0.02
"""Seconds between two commits, where nobody waits for the second: a commit costs the same whatever
is in it. By the loop's own clock: no test is to turn it, nothing but the storage waits for it."""

PATIENT_EVENTS: frozenset[type] = frozenset((Accepted, Started, Progress, Alive))
"""What nobody waits for. Of progress only the newest counts; a result, a part, a question or a
checkpoint that a crash takes back may have been seen, so their commit begins at once."""


class GroupCommit:
    """Hands pending entries to the store.

    `forget` is called with a tail that need not be kept any longer: its stream has ended and
    the store serves it, or it turned out to be another process's.
    """

    def __init__(
        self, store: Store, clock: Clock, forget: Callable[[StreamBuffer], None], most: int
    ) -> None:
        self._most = most
        self._store = store
        self._clock = clock
        self._forget = forget
        self._dirty: dict[str, StreamBuffer] = {}
        self._is_due = asyncio.Event()
        self._last_commit = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_stopped = False
        self._is_in_doubt = False
        """Whether a write was cancelled, so that nobody knows whether it was done."""
        self.is_behind = False
        """Whether more waits for a storage that fails than `most` bytes."""

    def start(self) -> None:
        """Write from now on, until `end`.

        A loop that ends cancels all tasks at once: others still need this one for their last words.
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

    def add_entry(self, tail: StreamBuffer, entry: Entry) -> None:
        """Have the entry stored with the next group commit, and that begin when it has to."""
        if tail.pending is None:
            tail.pending = []
        tail.pending.append(entry)
        self._dirty[tail.stream] = tail
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
        """Bytes that wait to be stored."""
        waiting = (entry for tail in self._dirty.values() for entry in tail.pending or ())
        return sum(size_of(entry.event) for entry in waiting)

    def discard_stream(self, stream: str) -> None:
        """Store nothing more of a stream that was dropped."""
        self._dirty.pop(stream, None)

    async def run(self) -> None:
        """Write, one group commit after the other, until cancelled.

        What could not be written is kept and tried again, also by the next call when this one
        was cancelled.
        """
        failures = 0
        if self._is_in_doubt:
            await self._resolve_doubt()
        while True:
            await self._is_due.wait()
            self._begin_commit()
            dirty, self._dirty = self._dirty, {}
            writes = [
                Write(tail.stream, tail.stored, list(tail.pending), tail.ended)
                for tail in dirty.values()
                if tail.pending
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
        """Take what a cancelled write has done for done."""
        with suppress(JournalError):
            await self._store.drop([])  # returns behind what was begun
        for tail in list(self._dirty.values()):
            pending, done = tail.pending or [], 0
            with suppress(JournalError):
                stored = await self._store.read(tail.stream, tail.stored, len(pending))
                pairs = zip(stored, pending, strict=False)
                done = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
            if done:
                ended = tail.ended and done == len(pending)
                self._mark_stored(
                    tail, Write(tail.stream, tail.stored, pending[:done], ended), None
                )
        self._is_in_doubt = False

    def _begin_commit(self) -> None:
        """What has to be stored by now is about to be."""
        self._is_due.clear()
        self._last_commit = asyncio.get_running_loop().time()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _keep_for_retry(self, dirty: dict[str, StreamBuffer], error: JournalUnavailable) -> None:
        """The store failed: keep the entries for later, but let readers and writers go on."""
        self._dirty = {**dirty, **self._dirty}
        self.is_behind = self.pending_bytes > self._most
        self._is_due.set()
        for tail in dirty.values():
            tail.visible = tail.last
            tail.wake_readers()
            tail.resolve_waits(error)

    def _mark_stored(self, tail: StreamBuffer, write: Write, refusal: JournalError | None) -> None:
        if refusal is not None:
            # Another process owns the stream: what was appended here never happened.
            tail.failure = refusal
            tail.pending = None
            self._forget(tail)
            tail.wake_readers()
            tail.resolve_waits(refusal)
            return
        tail.pending = (tail.pending or [])[len(write.entries) :] or None
        tail.stored = write.entries[-1].seq
        if not tail.pending:
            tail.visible = tail.last
            tail.wake_readers()
            tail.resolve_waits(None)
            if tail.ended:
                # The store serves it from here on; cursors that hold the tail finish with it.
                self._forget(tail)
