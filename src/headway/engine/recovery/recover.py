"""Going on with runs that other processes accepted."""

import logging
from typing import TYPE_CHECKING

from headway.engine.recovery.checkpoints import Memory, look
from headway.engine.recovery.drain import leave
from headway.engine.recovery.take_over import Revived, asked_again, take
from headway.engine.request import Execute
from headway.engine.run.run import Run
from headway.events import CancelRequested, Restartable

if TYPE_CHECKING:
    from headway.engine.engine import Engine

logger = logging.getLogger(__name__)


class Revival:
    """Begins runs in this process that another one accepted."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine

    async def revive(self, stream: str) -> bool:
        """Begin the run of a dead process anew, if its tool may be; False when it has to end.

        A process that is about to stop leaves it to the next one.
        """
        engine = self._engine
        known = await look(engine.journal, stream)
        if known is None or engine.reopen is None:
            return False
        memory, seq = known
        if memory.owner and await engine.lease.is_alive(memory.owner):
            return True
        if memory.is_over or not self._may_go_on(memory):
            return False
        if engine.is_draining:
            return True
        tag = engine.lease.tag
        taken = await take(engine.journal, tag, stream, memory, seq, clock=engine.clock)
        if taken is not None:
            await self.go_on(taken)
        return True

    def _may_go_on(self, memory: Memory) -> bool:
        """Whether a run whose process died may go on in another one."""
        begun = memory.begun
        if begun.owns:
            if not begun.is_found:  # nobody can come back for what the worker does for it
                gone = CancelRequested("connection", "the server that answered its client is gone")
                self._engine.inboxes.tell(begun.follows, gone)
            return begun.is_found
        if begun.follows:
            # Whoever only repeats another run does nothing twice, and has no part in what its
            # process died of.
            return True
        return self._engine.options_of(begun.target).restart and self.may_be_tried(memory)

    def may_be_tried(self, memory: Memory) -> bool:
        """Whether fewer processes have died of a run than may."""
        if memory.crashes + 1 < self._engine.settings.max_attempts:
            return True
        self._engine.tally.reach("max_attempts")
        return False

    async def go_on(self, taken: Revived) -> Run:
        """Execute a run that was taken over, or out of a queue.

        Raises:
            JournalUnavailable: The journal cannot be used; nothing was begun.
        """
        engine, begun = self._engine, taken.checkpoints.memory.begun
        has_inbox = await engine.inboxes.is_open(taken.stream)
        request = asked_again(begun, self._execute(begun))
        run = engine.make_run(taken.stream, request, view=taken.view)
        run.checkpoints = taken.checkpoints
        if run.attempt > 1:
            text = "run %s: %s is begun anew, attempt %d"
            logger.warning(text, run.reference, run.target, run.attempt)
            engine.tally.restarted += 1
        if begun.queue:
            engine.work.prepare(run, begun)
        engine.begin(run, request)
        if engine.is_over:
            leave(engine, run)  # the process came to its end while it was taken
        if has_inbox:
            engine.inboxes.resume(run)
        return run

    def _execute(self, begun: Restartable) -> Execute:
        assert self._engine.reopen is not None
        if begun.follows:
            return self._engine.dispatch.again(begun.follows, owns=begun.owns)
        return self._engine.reopen(begun)
