"""Runs for workers: taking them out of a queue, and what becomes of them when their worker is gone.

A queue only says that there is something to do. Who owns a run is said in the journal
(`recovery/take_over.py`), whatever a queue delivers how often and to whom.
"""

from collections.abc import Callable, Sequence
from functools import partial

from mcp_types import INTERNAL_ERROR

from headway.engine.idempotency import NEVER_EXECUTED
from headway.engine.recovery.lease import Lease
from headway.engine.recovery.lost_runs import end_run
from headway.engine.recovery.restart_or_end import Recovery
from headway.engine.recovery.restart_state import RestartState, load_restart
from headway.engine.recovery.retry_storage import RETRY_DELAY, retry_until_available
from headway.engine.recovery.take_over import Ownership, TakenOver, end_unowned, take_over
from headway.engine.remote.run_inbox import read_inbox
from headway.engine.request import DEFAULT_QUEUE
from headway.engine.run.run import Run
from headway.engine.services import Services
from headway.engine.workers.dispatch import Dispatch
from headway.errors import HeadwayError, JournalError, JournalUnavailable
from headway.events import Cancelled, CancelRequested, Event, Failed, Interrupted
from headway.log_lines import quiet_logger
from headway.stream_names import checkpoint_stream, handle_stream

logger = quiet_logger(__name__)

NO_WORKER_CODE = -32000
"""JSON-RPC code of a call that no worker took; as that of a server that is busy."""

_WORKER_GONE = Interrupted("the worker that executed it went away")


class QueuedWork:
    """The runs that wait for workers: a worker executes them, and every process looks after them.

    A worker calls `execute_queued` for what its queues deliver. The lease of every process calls
    `check_runs` now and then, which requeues or ends the runs that no process owns.
    """

    def __init__(
        self,
        services: Services,
        recovery: Recovery,
        dispatch: Dispatch,
        lease: Lease,
    ) -> None:
        self._services = services
        self._recovery = recovery
        self._dispatch = dispatch
        self._lease = lease
        self._owners: dict[str, str] = {}
        """The owner of each run when it was last looked at."""
        self._unowned_since: dict[str, float] = {}

    async def execute_queued(self, stream: str, done: Callable[[], None]) -> bool:
        """Start to execute the run in `stream`; `done` is called when this process has finished it.

        Returns False when there is nothing to do: the run has its end, or another owner.
        """
        clock = self._services.clock
        records = self._services.options.records
        while records is not None and records.log.is_refusing:
            await clock.sleep(RETRY_DELAY)  # it is left to a worker whose audit log can be written
        taken = await retry_until_available(clock, partial(self._take_run, stream))
        if taken is None:
            return False
        try:
            prepare = partial(self._prepare, taken)
            resume = partial(self._recovery.resume_run, taken, prepare=prepare)
            run = await retry_until_available(clock, resume)
        except Exception:  # this process owns it now, and no other one will end it
            logger.exception("%s cannot be executed", stream)
            end = Failed(INTERNAL_ERROR, "The worker cannot execute this call")
            await retry_until_available(
                clock, partial(end_run, self._services.journal, stream, end)
            )
            return False
        run.on_end(done)
        return True

    async def _take_run(self, stream: str) -> TakenOver | None:
        """Make this process the owner of a queued run; None when there is nothing to execute."""
        journal = self._services.journal
        head, known = await journal.head(stream), await load_restart(journal, stream)
        if head is None or head.ended or known is None:
            logger.info("%s was in a queue and has its end", stream)
            return None
        state, seq = known
        if state.owner and await self._lease.is_alive(state.owner):
            return None
        end = await self._end_instead(stream, state)
        # It is nobody's at this moment. If a worker takes it between the look and the end, one of
        # the two is refused.
        if end is not None:
            if await end_unowned(journal, stream, seq, end):
                await self._record_lost(stream, end)
            return None
        clock = self._services.clock
        return await take_over(journal, self._lease.tag, stream, state, seq, clock=clock)

    async def _end_instead(self, stream: str, state: RestartState) -> Event | None:
        """Return how a run ends that is not to be executed; None for one that is."""
        if state.owner and not self._may_restart(state):
            return _WORKER_GONE
        if not state.owner and not await self._is_named(stream, state.request.key):
            return NEVER_EXECUTED
        for entry in await read_inbox(self._services.journal, stream):
            if isinstance(entry.event, CancelRequested):
                return Cancelled(entry.event.by, entry.event.reason)
        return None

    async def _is_named(self, stream: str, key: str) -> bool:
        """Return whether a run is the one that its key names, where it has a key.

        Only that one of several runs that were accepted at once with one key is executed. The
        process that was to withdraw another one may have died before it did.
        """
        return not key or await self._services.names.is_first(key, stream)

    def _prepare(self, taken: TakenOver, run: Run) -> None:
        """Add to a run from a queue the parts that a run of this process's own has already."""
        run.hooks.has_handle = True
        run.on_end(partial(self._handle_end, taken, run))

    def _handle_end(self, taken: TakenOver, run: Run) -> None:
        if run.is_released:
            return
        if run.checkpoints is None:  # else the run itself ends its ownership, with them
            _end_ownership(taken.ownership)
        self._services.inboxes.tasks.start(self._release_names(run, taken.state.request.key))

    async def _release_names(self, run: Run, key: str) -> None:
        """Let the key and the handle of a run expire with it, as it has its end."""
        journal = self._services.journal
        for name in (key, handle_stream(run.request.principal, run.id)):
            try:
                if name and await journal.head(name) is not None:
                    await self._services.names.release_name(name)
            except JournalError as error:
                logger.debug("%s is not let go of: %s", name, error)

    def _may_restart(self, state: RestartState) -> bool:
        """Return whether a run whose worker died may be executed anew."""
        restart = self._services.options_of(state.request.target).restart
        return restart and self._recovery.may_restart(state)

    async def requeue(self, stream: str) -> None:
        """Put a run that this process released into its queue, for another worker.

        Where the journal or the queue fails, `check_runs` does it in another process.
        """
        journal, queues = self._services.journal, self._dispatch.queues
        try:
            known = await load_restart(journal, stream)
            if known is not None and queues is not None and known[0].request.queue:
                await journal.wait_until_stored(checkpoint_stream(stream))
                await queues.put(known[0].request.queue, stream)
        except JournalError as error:
            logger.warning("a run was not put back: %s", error)

    # Runs that no process owns

    async def check_runs(self, streams: Sequence[str]) -> None:
        """Make sure that each unfinished run for workers has an owner, waits in a queue, or ends.

        Raises:
            JournalUnavailable: The journal cannot be read.
        """
        for known in (self._owners, self._unowned_since):
            for stream in known.keys() - set(streams):
                del known[stream]
        for stream in streams:
            try:
                if not await self._has_owner(stream):
                    await self._check_unowned(stream)
            except JournalUnavailable:
                raise
            except HeadwayError as error:  # of one run: the others are looked at all the same
                logger.error("%s is left as it is: %s", stream, error)

    async def _has_owner(self, stream: str) -> bool:
        owner = self._owners.get(stream, "")
        return owner != "" and await self._lease.is_alive(owner)

    async def _check_unowned(self, stream: str) -> None:
        """Requeue a run that had no owner when it was last looked at, or end it."""
        services = self._services
        known = await load_restart(services.journal, stream)
        if known is not None:
            self._owners[stream] = known[0].owner
            if await self._has_owner(stream):
                self._unowned_since.pop(stream, None)
                return
        now = services.clock.now()
        waited = now - self._unowned_since.setdefault(stream, now)
        if known is None:
            # Its process died between two writes of `store_call`: nobody knows the request.
            if waited > services.settings.lease:
                await self._end_lost(stream, _WORKER_GONE)
            return
        state, seq = known
        if state.is_over:
            # The process that was about to end it died before it could.
            if waited > services.settings.lease:
                end = _WORKER_GONE if state.owner else NEVER_EXECUTED
                await self._end_lost(stream, end)
        elif state.owner and not self._may_restart(state):
            if await end_unowned(services.journal, stream, seq, _WORKER_GONE):
                await self._record_lost(stream, _WORKER_GONE)
        elif waited > services.settings.worker_wait:
            if await end_unowned(services.journal, stream, seq, self._timeout_error(state)):
                services.counters.limit_hit("worker_wait")
        elif state.owner or waited > services.settings.lease:
            self._dispatch.enqueue(stream, state.request.queue or DEFAULT_QUEUE)

    async def _end_lost(self, stream: str, end: Event) -> None:
        if await end_run(self._services.journal, stream, end):
            await self._record_lost(stream, end)

    async def _record_lost(self, stream: str, end: Event) -> None:
        records = self._services.options.records
        if records is not None and end is _WORKER_GONE:
            await records.lose(self._services.journal, stream, end)

    def _timeout_error(self, state: RestartState) -> Event:
        limit, queue = self._services.settings.worker_wait, state.request.queue
        text = (
            f"No worker took {state.request.target} out of the queue {queue!r} within {limit:g} s; "
            "the server's operator starts one with headway worker"
        )
        return Failed(NO_WORKER_CODE, text)


def _end_ownership(ownership: Ownership) -> None:
    try:
        ownership.end()
    except JournalError as error:  # another process has ended the run
        logger.debug("%s was not ended: %s", ownership.stream, error)
