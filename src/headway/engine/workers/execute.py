"""Runs for workers: taking them out of a queue, and what becomes of them when their worker is gone.

A queue only says that there is something to do. Who has a run is said in the journal: the first
to append to its checkpoints has it, whatever a queue delivers how often to whom.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from mcp_types import INTERNAL_ERROR

from headway.engine.idempotency import NEVER_EXECUTED
from headway.engine.recovery.checkpoints import Checkpoints, RestartState, load_restart
from headway.engine.recovery.retry import retry_until_available
from headway.engine.recovery.take_over import TakenOver, take_over
from headway.engine.remote.run_inbox import end_unowned, read_inbox
from headway.engine.request import DEFAULT_QUEUE
from headway.engine.run.run import Run
from headway.errors import HeadwayError, JournalError, JournalUnavailable
from headway.events import (
    Cancelled,
    CancelRequested,
    Event,
    Failed,
    Interrupted,
    RequestStored,
)
from headway.streams import checkpoint_stream, handle_stream

if TYPE_CHECKING:
    from headway.engine.engine import Engine

logger = logging.getLogger(__name__)

NO_WORKER_CODE = -32000
"""JSON-RPC code of a call that no worker took; as that of a server that is busy."""

_GONE = Interrupted("the worker that executed it went away")


class QueuedWork:
    """What a process does for runs of workers: `do` in a worker, `look_after` in all of them."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._owners: dict[str, str] = {}
        """Who had which run when it was last looked at."""
        self._alone: dict[str, float] = {}
        """Since when which run has been without anybody."""

    async def execute_queued(self, stream: str, done: Callable[[], None]) -> bool:
        """Begin to execute the run with this stream; `done` is called when this process is.

        False when there is nothing to do: it has its end, or somebody has it.
        """
        taken = await retry_until_available(self._engine.clock, partial(self._taken, stream))
        if taken is None:
            return False
        try:
            run = await retry_until_available(
                self._engine.clock, partial(self._engine.recovery.resume_run, taken)
            )
        except Exception:  # it is ours now, and nobody else will end it
            logger.exception("%s cannot be executed", stream)
            end = Failed(INTERNAL_ERROR, "The worker cannot execute this call")
            await retry_until_available(
                self._engine.clock, partial(self._engine.lease.end_run, stream, end)
            )
            return False
        run.on_end(done)
        return True

    async def _taken(self, stream: str) -> TakenOver | None:
        engine = self._engine
        head, known = await engine.journal.head(stream), await load_restart(engine.journal, stream)
        if head is None or head.ended or known is None:
            logger.info("%s was in a queue and has its end", stream)
            return None
        memory, seq = known
        if memory.owner and await engine.lease.is_alive(memory.owner):
            return None
        end = await self._end_at_once(stream, memory)
        if end is not None:
            await end_unowned(engine.journal, stream, seq, end)
            return None
        return await take_over(
            engine.journal, engine.lease.tag, stream, memory, seq, clock=engine.clock
        )

    async def _end_at_once(self, stream: str, memory: RestartState) -> Event | None:
        """How a run ends that is not to be executed; None for one that is."""
        if memory.owner and not self._may_go_on(memory):
            return _GONE
        if not memory.owner and not await self._is_named(stream, memory.begun.key):
            return NEVER_EXECUTED
        for entry in await read_inbox(self._engine.journal, stream):
            if isinstance(entry.event, CancelRequested):
                return Cancelled(entry.event.by, entry.event.reason)
        return None

    async def _is_named(self, stream: str, key: str) -> bool:
        """Whether a run is the one that its key names, where it has one.

        Of several that were accepted at once with one key only that one is to be executed; the
        process that was to withdraw another one may have died before it did.
        """
        if not key:
            return True
        return await self._engine.idempotency.is_first(key, stream)

    async def requeue(self, stream: str) -> None:
        """Put a run that this process gave back into its queue, for another one.

        Where the journal or the queue fails, `look_after` does it in another process.
        """
        try:
            known = await load_restart(self._engine.journal, stream)
            queues = self._engine.dispatch.queues
            if known is not None and queues is not None and known[0].begun.queue:
                await self._engine.journal.wait_until_stored(checkpoint_stream(stream))
                await queues.put(known[0].begun.queue, stream)
        except JournalError as error:
            logger.warning("a run was not put back: %s", error)

    def prepare(self, run: Run, begun: RequestStored) -> None:
        """What is different about a run that was taken out of a queue."""
        run.has_handle = True
        memory = run.checkpoints
        if not self._engine.options_of(run.target).restart:
            run.checkpoints = None  # they only say whose it is
        run.on_end(partial(self._ended, run, memory, begun.key))

    def _ended(self, run: Run, memory: Checkpoints | None, key: str) -> None:
        if run.is_released:
            return
        if memory is not None and run.checkpoints is None:
            with suppress(JournalError):  # another process has ended it
                memory.end()
        self._engine.inboxes.tasks.start(self._release(run, key))

    def _may_go_on(self, memory: RestartState) -> bool:
        """Whether a run whose worker died may be begun anew."""
        restart = self._engine.options_of(memory.begun.target).restart
        return restart and self._engine.recovery.may_be_restarted(memory)

    async def _release(self, run: Run, key: str) -> None:
        """Let go of what a worker's run can be found by, as it has its end."""
        journal = self._engine.journal
        for name in (key, handle_stream(run.principal, run.id)):
            try:
                if name and await journal.head(name) is not None:
                    await self._engine.idempotency.release_name(name)
            except JournalError as error:
                logger.debug("%s is not let go of: %s", name, error)

    # Runs that nobody has

    async def look_after(self, streams: Sequence[str]) -> None:
        """See that the runs for workers that go on are somebody's, or have an end.

        Raises:
            JournalError: The journal cannot be read.
        """
        for known in (self._owners, self._alone):
            for stream in known.keys() - set(streams):
                del known[stream]
        for stream in streams:
            try:
                if not await self._has_owner(stream):
                    await self._decide(stream)
            except JournalUnavailable:
                raise
            except HeadwayError as error:  # of one run: the others are looked at all the same
                logger.error("%s is left as it is: %s", stream, error)

    async def _has_owner(self, stream: str) -> bool:
        owner = self._owners.get(stream, "")
        return owner != "" and await self._engine.lease.is_alive(owner)

    async def _decide(self, stream: str) -> None:
        """Put a run back into its queue that nobody has, or end it."""
        engine = self._engine
        known = await load_restart(engine.journal, stream)
        if known is not None:
            self._owners[stream] = known[0].owner
            if await self._has_owner(stream):
                self._alone.pop(stream, None)
                return
        waited = engine.clock.now() - self._alone.setdefault(stream, engine.clock.now())
        if known is None:
            # Whoever accepted it died in this very moment: nobody knows what was asked.
            if waited > engine.settings.lease:
                await engine.lease.end_run(stream, _GONE)
            return
        memory, seq = known
        if memory.is_over:
            # Whoever was about to end it died before it could.
            if waited > engine.settings.lease:
                await engine.lease.end_run(stream, _GONE if memory.owner else NEVER_EXECUTED)
        elif memory.owner and not self._may_go_on(memory):
            await end_unowned(engine.journal, stream, seq, _GONE)
        elif waited > engine.settings.worker_wait:
            if await end_unowned(engine.journal, stream, seq, self._too_late(memory)):
                engine.tally.limit_hit("worker_wait")
        elif memory.owner or waited > engine.settings.lease:
            engine.dispatch.enqueue(stream, memory.begun.queue or DEFAULT_QUEUE)

    def _too_late(self, memory: RestartState) -> Event:
        limit, queue = self._engine.settings.worker_wait, memory.begun.queue
        text = (
            f"No worker took {memory.begun.target} out of the queue {queue!r} within {limit:g} s; "
            "the server's operator starts one with headway worker"
        )
        return Failed(NO_WORKER_CODE, text)
