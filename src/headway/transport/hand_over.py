"""Hand-over: answering a request with a handle while its run goes on.

A call that ends inside its window is answered as if this module did not exist. One that does not,
or that has something to ask, is answered with a task where the client declared that it knows
tasks; what the run says from then on is in the journal for whoever comes with the handle.
"""

import asyncio
import logging
from collections.abc import Mapping
from math import isinf
from typing import Any, Protocol, cast

from mcp.shared.dispatcher import CallOptions
from mcp.shared.exceptions import MCPError, NoBackChannelError
from mcp.shared.message import ServerMessageMetadata
from mcp.shared.transport_context import TransportContext
from mcp_types import CLIENT_CAPABILITIES_META_KEY, MISSING_REQUIRED_CLIENT_CAPABILITY
from mcp_types import SERVER_INFO_META_KEY as SERVER_INFO

from headway.engine import Engine, Run, RunContext
from headway.errors import JournalError, ProtocolError
from headway.events import HandedOver, encode_json
from headway.protocol import render
from headway.protocol.inbound import Message
from headway.protocol.tasks import EXTENSION, declares_tasks, handle
from headway.transport.kernel import Kernel
from headway.transport.listening import subscribed_tasks
from headway.transport.reading import End

logger = logging.getLogger(__name__)

_NEEDS: Mapping[str, str] = {
    "elicitation/create": "elicitation",
    "sampling/createMessage": "sampling",
    "roots/list": "roots",
}
"""The capability that a client has to declare to be asked."""


class Offered(Protocol):
    """An answer that can end with a handle instead of the run's own end."""

    end: End | None

    def conclude(self, message: bytes) -> None:
        """End with this JSON-RPC message, unless it has ended."""
        ...


class HandOver:
    """Hands runs over to clients that know tasks."""

    def __init__(self, engine: Engine, kernel: Kernel) -> None:
        self._engine = engine
        self._kernel = kernel
        self._tasks: set[asyncio.Task[None]] = set()

    def applies(self, message: Message) -> bool:
        """Whether this request may be answered with a task.

        Raises:
            ProtocolError: It must be, and its client does not know tasks (-32021).
        """
        is_call = message.method == "tools/call"
        knows_tasks = declares_tasks(message.meta.get(CLIENT_CAPABILITIES_META_KEY))
        needs_tasks = is_call and self._engine.options_of(message.target).needs_task
        if (needs_tasks or subscribed_tasks(message)) and not knows_tasks:
            raise ProtocolError(
                MISSING_REQUIRED_CLIENT_CAPABILITY,
                f"This needs the {EXTENSION} extension, which the request does not declare",
                data={"requiredCapabilities": {"extensions": {EXTENSION: {}}}},
            )
        return is_call and knows_tasks and not isinf(self._window(message.target))

    def offer(self, run: Run, answer: Offered, message: Message) -> None:
        """Let the answer become a handle when the window is over, or the run asks something."""

        def hand_over() -> None:
            run.on_ask = run.on_enter = _nothing
            task = asyncio.create_task(self._hand_over(run, answer, message))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        run.on_ask = hand_over
        window = self._window(message.target)
        if self._engine.options_of(message.target).hand_over == 0:
            # The author's own `at once` begins with the author's function: what a client is
            # asked for before, it is asked in the answer to this request.
            run.on_enter = hand_over
            return
        timer = self._engine.clock.call_later(window, lambda: run.on_ask())
        run.on_end(timer.cancel)

    def _window(self, tool: str | None) -> float:
        own = self._engine.options_of(tool).hand_over
        return self._engine.settings.hand_over if own is None else own

    async def _hand_over(self, run: Run, answer: Offered, message: Message) -> None:
        if answer.end is not None:
            return
        now = self._engine.clock.time()
        age = self._engine.clock.now() - run.born
        limit = self._engine.options_of(run.target).timeout or self._engine.settings.timeout
        handed = HandedOver(now - age, limit + run.journal.retention.ttl)
        try:
            await self._engine.inboxes.open(run, handed)
            entries = await run.journal.kept(run.stream)
        except JournalError as error:
            logger.warning("run %s stays with its request: %s", run.reference, error)
            return
        result = handle(run.id, entries, handed, now)
        result["_meta"] = {SERVER_INFO: self._kernel.server.server_info_stamp}
        answer.conclude(render.escape_lines(render.response(message.id, encode_json(result))))


class TaskContext(RunContext):
    """The context of a request that may become a task: its client can be asked, in `tasks/get`."""

    __slots__ = ("_declared",)

    def __init__(
        self,
        message: Message,
        transport: TransportContext,
        metadata: ServerMessageMetadata,
    ) -> None:
        super().__init__(message.id, transport, metadata, message.token, message.body)
        declared: object = message.meta.get(CLIENT_CAPABILITIES_META_KEY)
        self._declared = cast("dict[str, object]", declared if isinstance(declared, dict) else {})

    async def send_raw_request(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> dict[str, Any]:
        """Put the question into the task and wait for `tasks/update`.

        Raises:
            MCPError: The client did not declare that it can answer, or nobody did in time.
            NoBackChannelError: The run has ended.
        """
        if self.run is None or not self.can_send_request:
            raise NoBackChannelError(method)
        need = _NEEDS.get(method)
        if need is not None and need not in self._declared:
            raise MCPError(
                MISSING_REQUIRED_CLIENT_CAPABILITY,
                f"The client cannot be asked: it does not declare {need!r}",
                {"requiredCapabilities": {need: {}}},
            )
        return await super().send_raw_request(method, params, opts)


def _nothing() -> None:
    pass
