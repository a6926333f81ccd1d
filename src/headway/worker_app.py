"""A worker: a process that executes runs which servers accepted, and serves no client."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from starlette.responses import Response
from starlette.types import Scope

from headway.engine import Phase
from headway.log_lines import quiet_logger
from headway.queues import Queues
from headway.server import worker_app
from headway.settings import Settings

if TYPE_CHECKING:
    from headway.audit import AuditConfig

logger = quiet_logger(__name__)


class Worker:
    """Executes the runs that wait in some queues of a journal, with the tools of `server`.

    It executes up to `concurrency` runs of each queue at once. Without `queues` it serves all that
    the tools of `server` name.

    Raises:
        SetupError: `server` cannot be served, or workers cannot share the journal.
    """

    def __init__(
        self,
        server: object,
        *,
        journal: str,
        settings: Settings,
        queues: Sequence[str] | None,
        concurrency: int,
        audit: "AuditConfig | None" = None,
    ) -> None:
        self._app = worker_app(server, journal=journal, settings=settings, audit=audit)
        self.name = self._app.name
        self.queues = list(queues or self._app.queues)
        self._concurrency = concurrency
        self._serving: list[asyncio.Task[None]] = []

    @property
    def calls_going(self) -> int:
        """The number of runs that it executes."""
        return self._app.calls_going

    def answer_metrics(self, scope: Scope) -> Response | None:
        """Return the answer to a request for `/metrics`; None where there are none."""
        return self._app.answer_metrics(scope)

    @property
    def is_ready(self) -> bool:
        """True while it takes runs out of its queues."""
        return bool(self._serving) and self._app.life.takes_calls

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Serve the queues while entered; what still goes on when it is left ends as interrupted.

        Raises:
            SetupError: The journal cannot be opened, or the server's own code raised.
        """
        async with self._app.lifespan():
            queues = self._app.engine.dispatch.queues
            assert queues is not None
            self._serving = [self._serve_queue(queues, name) for name in self.queues]
            try:
                yield
            finally:
                self._app.life.lifecycle.move_to(Phase.LEAVING)
                await self._stop_serving()

    def _serve_queue(self, queues: Queues, name: str) -> asyncio.Task[None]:
        work = queues.serve(name, self._concurrency, self._app.engine.queued_work.execute_queued)
        return asyncio.create_task(work)

    async def failed(self) -> None:
        """Wait until a queue cannot be served any more, and raise its error."""
        done, _ = await asyncio.wait(self._serving, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    async def drain(self) -> None:
        """Take no more runs; returns when all have ended that go on.

        Cancellation (`asyncio.timeout`): runs that may restart are left to another worker, all
        others end as interrupted. Shielded parts get up to 5 s more.
        """
        engine = self._app.engine
        engine.services.lifecycle.move_to(Phase.LEAVING)
        await self._stop_serving()
        try:
            await engine.drain.finish_calls()
        finally:
            await engine.drain.wait_for_shields()
            for run in engine.drain.release_restartable():
                await engine.queued_work.requeue(run.stream)

    async def _stop_serving(self) -> None:
        for task in self._serving:
            task.cancel()
        for task in self._serving:
            with suppress(asyncio.CancelledError):
                await task
