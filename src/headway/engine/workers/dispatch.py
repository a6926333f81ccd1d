"""Calls that a worker executes, as the process sees them that accepts them.

A call is two runs. One is the worker's: it is begun here, with all that is needed to execute it,
and waits in a queue. The other one is the request's own and repeats what the first one says, as a
call that is sent again with its key does: whoever asks, answers or stops it here does it there.
"""

import asyncio
import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from msgspec import structs

from headway.background import BackgroundTasks
from headway.engine.idempotency import NEVER_EXECUTED
from headway.engine.limits.admission import busy_error, stopping_error
from headway.engine.recovery.retry import retry_until_available
from headway.engine.recovery.take_over import stored_request
from headway.engine.remote.mirror import mirror_request
from headway.engine.remote.run_inbox import end_waiting
from headway.engine.request import Execute, Request
from headway.engine.run.run import Run
from headway.errors import JournalError, journal_away
from headway.events import Accepted, Event, HandedOver, Progress
from headway.protocol.continue_run_tool import CONTINUE_RUN
from headway.queues import Queues
from headway.streams import WORKERS, checkpoint_stream, inbox_stream, new_call_id, run_stream

if TYPE_CHECKING:
    from headway.engine.engine import Engine

logger = logging.getLogger(__name__)

DISPATCH_STOP_TIMEOUT = 1.0
"""Seconds that a stop waits for queues. Who looks after runs without an owner does it otherwise."""

WAITING_MESSAGE = "Waiting for a worker"
"""What the client of a call is told until a worker has it."""


@dataclass(frozen=True, slots=True)
class AcceptedCall:
    """A call that was accepted and is not executed yet."""

    run: Run
    """The request's own."""
    request: Request
    stream: str
    """Of the run that does the work."""


class Dispatch:
    """The calls that this process has given to workers."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._waiting: set[str] = set()
        self._tasks = BackgroundTasks("calls for workers")
        self.queues: Queues | None = None
        """None: there are no workers, and all is executed here."""

    def is_for_workers(self, request: Request) -> bool:
        """Whether a worker is to execute this request."""
        if self.queues is None or request.method != "tools/call" or request.follows is not None:
            return False
        if request.target == CONTINUE_RUN and self._engine.offers_handles:
            return False
        where = self._engine.options_of(request.target).where or self._engine.settings.where
        return where == "worker"

    async def accept_call(self, request: Request, key: str = "") -> AcceptedCall:
        """Make the run of a request, and the worker's where it is for one; both wait for `begin`.

        Raises:
            ProtocolError: There is no room (503), or the journal cannot be written (503).
        """
        engine = self._engine
        if not self.is_for_workers(request):
            run = engine.accept_request(request)
            return AcceptedCall(run, request, run.stream)
        self._check_room()
        stream = run_stream(request.owner, WORKERS + new_call_id())
        own = self._following(request, stream)
        run = engine.accept_request(own)
        run.has_handle = key != ""
        try:
            # From now on it goes on with the worker's, in another process if this one dies.
            engine.store_request(run, own)
            await self._place(request, stream, run, key)
        except JournalError as error:
            self.discard_call(AcceptedCall(run, own, stream))
            logger.warning("a call for a worker was refused: %s", error)
            raise journal_away() from None
        except BaseException:
            self.discard_call(AcceptedCall(run, own, stream))
            raise
        return AcceptedCall(run, own, stream)

    def _check_room(self) -> None:
        """See that one more call may wait for a worker.

        Raises:
            ProtocolError: Not now (503).
        """
        engine, waiting = self._engine, len(self._waiting)
        if engine.is_draining:
            raise stopping_error()
        if engine.journal.is_behind:
            raise busy_error("its journal cannot be written", "keep.max_bytes")
        if waiting >= engine.settings.max_queue:
            raise busy_error(f"{waiting} calls are waiting for a worker", "max_queue")

    def begin_call(self, begun: AcceptedCall) -> Run:
        """Have an accepted call executed; the request's own run is returned.

        Raises:
            ProtocolError: The process came to its end meanwhile, and the call is not begun (503).
        """
        if self._engine.is_over:
            self.discard_call(begun)
            raise stopping_error()
        run, request = begun.run, begun.request
        if request.owns:
            self._waiting.add(begun.stream)
            run.on_end(lambda: self._waiting.discard(begun.stream))
            self.enqueue(begun.stream, self._engine.options_of(request.target).queue)
        self._engine.execute_accepted(run, request)
        return run

    def discard_call(self, begun: AcceptedCall) -> None:
        """End a call that was accepted and is not to be executed."""
        self._engine.discard_accepted(begun.run)
        if begun.request.owns:
            self._tasks.start(self._withdraw(begun.stream))

    async def _withdraw(self, stream: str) -> None:
        journal = self._engine.journal
        await retry_until_available(
            self._engine.clock, lambda: end_waiting(journal, stream, NEVER_EXECUTED)
        )

    def enqueue(self, stream: str, queue: str) -> None:
        """Put a run into its queue, as soon as it can be written."""
        if self.queues is not None:
            self._tasks.start(
                retry_until_available(self._engine.clock, partial(self.queues.put, queue, stream))
            )

    async def stop(self) -> None:
        """Finish what is on its way to a queue, or out of one; what takes longer is given up."""
        await self._tasks.stop(DISPATCH_STOP_TIMEOUT)

    def mirror_again(self, stream: str, *, owns: bool) -> Execute:
        """What is executed for a request that repeats a run, here or in another process before."""
        return mirror_request(stream, owns=owns, begun=lambda: self._waiting.discard(stream))

    def _following(self, request: Request, stream: str) -> Request:
        execute = self.mirror_again(stream, owns=True)
        return structs.replace(request, execute=execute, follows=stream, owns=True)

    async def _place(self, request: Request, stream: str, run: Run, key: str) -> None:
        """Begin the worker's run, with all that it takes to execute it."""
        engine = self._engine
        handed = engine.handed_over(run)
        said: list[Event] = [
            Accepted(request.method, request.target, request.owner),
            Progress(0, None, WAITING_MESSAGE),
        ]
        queue = engine.options_of(request.target).queue
        begun = structs.replace(stored_request(request, can_ask=True), queue=queue, key=key)
        await engine.journal.begin({stream: said})
        # Behind it: what lies beside a run that does not exist may be cleared away.
        beside: dict[str, list[Event]] = {
            checkpoint_stream(stream): [begun],
            inbox_stream(stream): [HandedOver(handed.created, handed.ttl)],
        }
        await asyncio.gather(engine.journal.begin(beside), run.wait_until_stored())
