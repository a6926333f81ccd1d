"""Recovery: executing runs in this process that another one accepted."""

from collections.abc import Callable
from typing import Protocol

from headway.engine.recovery.checkpoints import Checkpoints
from headway.engine.recovery.lease import Lease
from headway.engine.recovery.restart_state import RestartState, load_restart
from headway.engine.recovery.runs_at_stop import RunsAtStop
from headway.engine.recovery.stored_request import request_from
from headway.engine.recovery.take_over import TakenOver, take_over
from headway.engine.request import Execute, Request, RequestInfo
from headway.engine.run.run import Run
from headway.engine.services import Services
from headway.events import CancelRequested, RequestStored
from headway.log_lines import quiet_logger
from headway.run_state import RunView

logger = quiet_logger(__name__)


class RunExecutor(Protocol):
    """The part of the engine that recovery uses."""

    def make_run(
        self, stream: str, request: Request, info: RequestInfo, *, view: RunView | None = None
    ) -> Run:
        """Make the run of a request, which continues where `view` says that it stood."""
        ...

    def execute_accepted(self, run: Run, request: Request) -> None:
        """Execute a run in a task of its own."""
        ...


class MirrorRequest(Protocol):
    """Makes the handler of a request that mirrors another run."""

    def __call__(self, stream: str, *, owns: bool) -> Execute:
        """Return the handler; with `owns` the mirrored run is executed for this request alone."""
        ...


class Recovery:
    """Takes over the runs of processes that died, and executes runs that were taken over."""

    def __init__(
        self,
        services: Services,
        executor: RunExecutor,
        mirror: MirrorRequest,
        *,
        lease: Lease,
        drain: RunsAtStop,
    ) -> None:
        self._services = services
        self._executor = executor
        self._mirror = mirror
        self._lease = lease
        self._drain = drain

    async def recover_run(self, stream: str) -> bool:
        """Execute the run of a dead process anew; False when the run has to end.

        True also when another process has the run, or will have it: a process that is about to stop
        leaves it to the next one.

        Raises:
            JournalError: The journal cannot be used.
        """
        services = self._services
        known = await load_restart(services.journal, stream)
        if known is None or services.options.executor_for is None:
            return False
        state, seq = known
        if state.owner and await self._lease.is_alive(state.owner):
            return True
        if state.is_over or not self._may_continue(state):
            return False
        if services.lifecycle.is_draining:
            return True
        taken = await take_over(
            services.journal, self._lease.tag, stream, state, seq, clock=services.clock
        )
        if taken is not None:
            await self.resume_run(taken)
        return True

    def _may_continue(self, state: RestartState) -> bool:
        """Return whether a run whose process died may go on in another one."""
        request = state.request
        if request.owns:
            if not request.is_found:  # no client can come back for what the worker does for it
                gone = CancelRequested("connection", "the server that answered its client is gone")
                self._services.inboxes.tell_later(request.follows, gone)
            return request.is_found
        if request.follows:
            # A mirror executes nothing, so it does nothing twice, and its process did not die of
            # it.
            return True
        return self._services.options_of(request.target).restart and self.may_restart(state)

    def may_restart(self, state: RestartState) -> bool:
        """Return whether fewer processes have died of a run than `max_attempts` allows."""
        if state.crashes + 1 < self._services.settings.max_attempts:
            return True
        self._services.counters.limit_hit("max_attempts")
        return False

    async def resume_run(
        self, taken: TakenOver, *, prepare: Callable[[Run], None] | None = None
    ) -> Run:
        """Execute a run that this process owns. `prepare` is called before it starts.

        Raises:
            JournalUnavailable: The journal cannot be used; nothing was started.
        """
        services, state = self._services, taken.state
        has_inbox = await self._services.inboxes.is_open(taken.stream)
        request = request_from(state.request, self._executor_for(state.request))
        run = self._executor.make_run(
            taken.stream, request, services.info_of(request), view=taken.view
        )
        if not state.request.queue or run.request.options.restart:
            run.checkpoints = Checkpoints(taken.ownership, state, taken.parts)
        if state.attempt > 1:
            text = "run %s: %s is begun anew, attempt %d"
            logger.warning(text, run.reference, run.request.target, state.attempt)
            services.counters.restarted += 1
        if prepare is not None:
            prepare(run)
        self._executor.execute_accepted(run, request)
        # `Engine.stop` has gone through its runs before this one was among them.
        if services.lifecycle.is_over:
            self._drain.stop_or_release(run)  # the process stopped while the run was taken over
        # After the run has begun: requests in the inbox act on a run that can be stopped.
        if has_inbox:
            self._services.inboxes.resume(run)
        return run

    def _executor_for(self, request: RequestStored) -> Execute:
        if request.follows:
            return self._mirror(request.follows, owns=request.owns)
        assert self._services.options.executor_for is not None
        return self._services.options.executor_for(request)
