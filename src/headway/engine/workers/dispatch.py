"""Calls that a worker executes, as the process sees them that accepts them.

A call is two runs. One is the worker's: it is stored here, with all that is needed to execute it,
and waits in a queue. The other one is the request's own and mirrors the first one, as a call that
is sent again with its key does: what its client answers or cancels here reaches the worker.
"""

import asyncio
from functools import partial

from msgspec import structs

from headway.background import BackgroundTasks
from headway.engine.idempotency import NEVER_EXECUTED
from headway.engine.limits.admission import busy_error, stopping_error
from headway.engine.recovery.retry_storage import retry_until_available
from headway.engine.recovery.stored_request import stored_request
from headway.engine.remote.mirror import mirror_request
from headway.engine.remote.run_inbox import end_waiting, handed_over_event
from headway.engine.request import Execute, Request
from headway.engine.run.accepted_event import accepted_event
from headway.engine.run.run import Run
from headway.engine.services import Services
from headway.events import Event, HandedOver, Progress
from headway.log_lines import quiet_logger
from headway.protocol.continue_run_tool import CONTINUE_RUN
from headway.protocol.methods import kind_of
from headway.queues import Queues
from headway.stream_names import WORKERS, checkpoint_stream, inbox_stream, new_call_id, run_stream

logger = quiet_logger(__name__)

DISPATCH_STOP_TIMEOUT = 1.0
"""Seconds that a stop waits for queues. What is left over is done by a process that serves on."""

WAITING_MESSAGE = "Waiting for a worker"
"""The progress message of a call until a worker has taken it."""


class Dispatch:
    """The calls that this process has given to workers."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._waiting: set[str] = set()
        self._tasks = BackgroundTasks("calls for workers")
        self._queues: Queues | None = None

    def use_queues(self, queues: Queues | None) -> None:
        """Give calls to workers from now on; with None everything is executed here."""
        self._queues = queues

    @property
    def queues(self) -> Queues | None:
        """The queues that calls wait in, or None where there are no workers."""
        return self._queues

    def is_waiting(self, stream: str) -> bool:
        """Return whether no worker is known to have begun the run that a call here waits for."""
        return stream in self._waiting

    def is_for_workers(self, request: Request) -> bool:
        """Return whether a worker is to execute this request."""
        if self._queues is None or request.follows is not None:
            return False
        if not kind_of(request.method).is_restartable:
            return False
        if request.target == CONTINUE_RUN and self._services.offers_handles:
            return False
        where = self._services.options_of(request.target).where or self._services.settings.where
        return where == "worker"

    def check_room(self) -> None:
        """Check that one more call may wait for a worker.

        Raises:
            ProtocolError: It may not (503).
        """
        services, waiting = self._services, len(self._waiting)
        if services.lifecycle.is_draining:
            raise stopping_error()
        if services.journal.is_behind:
            raise busy_error("its journal cannot be written", "keep.max_bytes")
        if waiting >= services.settings.max_queue:
            raise busy_error(f"{waiting} calls are waiting for a worker", "max_queue")

    # The two runs of a call

    def new_worker_stream(self, request: Request) -> str:
        """Return a stream for the run that a worker will execute."""
        return run_stream(request.owner, WORKERS + (request.call or new_call_id()))

    def mirror_of(self, request: Request, stream: str) -> Request:
        """Return the request of the run that mirrors the worker's run in `stream`."""
        execute = self.mirror_again(stream, owns=True)
        return structs.replace(request, execute=execute, follows=stream, owns=True)

    def mirror_again(self, stream: str, *, owns: bool) -> Execute:
        """Return the handler of a request that mirrors a run, of this process or another one."""
        return mirror_request(stream, owns=owns, begun=lambda: self._waiting.discard(stream))

    async def store_call(self, request: Request, mirror: Run, stream: str, key: str) -> None:
        """Write the worker's run into `stream`, with all that it takes to execute it.

        Returns when that and the mirror are in the storage.

        Raises:
            JournalError: The journal cannot be written.
        """
        services = self._services
        handed = handed_over_event(mirror, services)
        first: list[Event] = [
            accepted_event(
                request, services.options.server_name, services.access.stored_scopes(request)
            ),
            Progress(0, None, WAITING_MESSAGE),
        ]
        queue = services.options_of(request.target).queue
        stored = structs.replace(stored_request(request, can_ask=True), queue=queue, key=key)
        await services.journal.begin_streams({stream: first})
        # Not at once with it: what lies beside a run that does not exist may be cleared away.
        beside: dict[str, list[Event]] = {
            checkpoint_stream(stream): [stored],
            inbox_stream(stream): [HandedOver(handed.created, handed.ttl)],
        }
        await asyncio.gather(services.journal.begin_streams(beside), mirror.wait_until_stored())

    def start_call(self, mirror: Run, stream: str) -> None:
        """Count the worker's run as waiting, and put it into its queue."""
        # Counted before it is in the queue, so that a burst cannot pass `max_queue` while the queue
        # is written.
        self._waiting.add(stream)
        mirror.on_end(lambda: self._waiting.discard(stream))
        self.enqueue(stream, mirror.request.options.queue)

    def enqueue(self, stream: str, queue: str) -> None:
        """Put a run into its queue, as soon as the queue can be written."""
        if self._queues is not None:
            put = partial(self._queues.put, queue, stream)
            self._tasks.start(retry_until_available(self._services.clock, put))

    def withdraw_later(self, stream: str) -> None:
        """End a worker's run that was accepted and is not to be executed."""
        self._tasks.start(self._withdraw(stream))

    async def _withdraw(self, stream: str) -> None:
        end = partial(end_waiting, self._services.journal, stream, NEVER_EXECUTED)
        await retry_until_available(self._services.clock, end)

    async def stop(self) -> None:
        """Wait for runs that are being enqueued or withdrawn; give up those that take longer."""
        await self._tasks.stop(DISPATCH_STOP_TIMEOUT)
