"""Going on with runs that other processes accepted."""

import logging
from typing import TYPE_CHECKING

from headway.engine.recovery.checkpoints import RestartState, load_restart
from headway.engine.recovery.drain import stop_or_release
from headway.engine.recovery.take_over import TakenOver, request_from, take_over
from headway.engine.request import Execute
from headway.engine.run.run import Run
from headway.events import CancelRequested, RequestStored

if TYPE_CHECKING:
    from headway.engine.engine import Engine

logger = logging.getLogger(__name__)


class Recovery:
    """Begins runs in this process that another one accepted."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine

    async def recover_run(self, stream: str) -> bool:
        """Begin the run of a dead process anew, if its tool may be; False when it has to end.

        A process that is about to stop leaves it to the next one.
        """
        engine = self._engine
        known = await load_restart(engine.journal, stream)
        if known is None or engine.executor_for is None:
            return False
        memory, seq = known
        if memory.owner and await engine.lease.is_alive(memory.owner):
            return True
        if memory.is_over or not self._may_go_on(memory):
            return False
        if engine.is_draining:
            return True
        tag = engine.lease.tag
        taken = await take_over(engine.journal, tag, stream, memory, seq, clock=engine.clock)
        if taken is not None:
            await self.resume_run(taken)
        return True

    def _may_go_on(self, memory: RestartState) -> bool:
        """Whether a run whose process died may go on in another one."""
        begun = memory.begun
        if begun.owns:
            if not begun.is_found:  # nobody can come back for what the worker does for it
                gone = CancelRequested("connection", "the server that answered its client is gone")
                self._engine.inboxes.tell_later(begun.follows, gone)
            return begun.is_found
        if begun.follows:
            # Whoever only repeats another run does nothing twice, and has no part in what its
            # process died of.
            return True
        return self._engine.options_of(begun.target).restart and self.may_be_restarted(memory)

    def may_be_restarted(self, memory: RestartState) -> bool:
        """Whether fewer processes have died of a run than may."""
        if memory.crashes + 1 < self._engine.settings.max_attempts:
            return True
        self._engine.tally.limit_hit("max_attempts")
        return False

    async def resume_run(self, taken: TakenOver) -> Run:
        """Execute a run that was taken over, or out of a queue.

        Raises:
            JournalUnavailable: The journal cannot be used; nothing was begun.
        """
        engine, begun = self._engine, taken.checkpoints.memory.begun
        has_inbox = await engine.inboxes.is_open(taken.stream)
        request = request_from(begun, self._execute(begun))
        run = engine.make_run(taken.stream, request, view=taken.view)
        run.checkpoints = taken.checkpoints
        if run.attempt > 1:
            text = "run %s: %s is begun anew, attempt %d"
            logger.warning(text, run.reference, run.request.target, run.attempt)
            engine.tally.restarted += 1
        if begun.queue:
            engine.queued_work.prepare(run, begun)
        engine.execute_accepted(run, request)
        if engine.is_over:
            stop_or_release(engine, run)  # the process came to its end while it was taken
        if has_inbox:
            engine.inboxes.resume(run)
        return run

    def _execute(self, begun: RequestStored) -> Execute:
        assert self._engine.executor_for is not None
        if begun.follows:
            return self._engine.dispatch.mirror_again(begun.follows, owns=begun.owns)
        return self._engine.executor_for(begun)
