"""2026-07-28 over HTTP: each POST stands for itself, and its stream is its life."""

from typing import cast

from mcp.shared.inbound import ERROR_CODE_HTTP_STATUS
from mcp.shared.message import ServerMessageMetadata
from mcp.shared.transport_context import TransportContext
from mcp_types import LOG_LEVEL_META_KEY
from mcp_types.jsonrpc import INVALID_REQUEST

from headway.engine import Engine, Request, RunContext
from headway.errors import ProtocolError
from headway.events import Event
from headway.protocol import render
from headway.protocol.cursors import tag_of
from headway.protocol.eras import MODERN, rank_of
from headway.protocol.inbound import (
    Message,
    check_version,
    classify_modern,
    subscribed_resources,
)
from headway.transport.answers import Answers
from headway.transport.exchange import JSON, SSE, Exchange, Refusal
from headway.transport.guard import check_accept
from headway.transport.hand_over import HandOver, TaskContext
from headway.transport.kernel import Kernel
from headway.transport.listening import ListenContext, subscribed_tasks
from headway.transport.sse import Voice, send_empty
from headway.transport.watching import Watchers


class Modern:
    """Answers the POSTs of 2026-07-28 clients."""

    def __init__(
        self, kernel: Kernel, engine: Engine, answers: Answers, watchers: Watchers
    ) -> None:
        self._kernel = kernel
        self._engine = engine
        self._answers = answers
        self._watchers = watchers
        self._hand_over = HandOver(engine, kernel)

    async def post(self, exchange: Exchange, message: Message) -> None:
        """Answer one self-contained message.

        Raises:
            ProtocolError: It is refused; the id of a request goes with it.
        """
        if message.method is None:
            raise ProtocolError(
                INVALID_REQUEST,
                "At 2026-07-28 a client posts no answers; send the request again with them",
            )
        if not message.is_request:
            # Nothing is defined for a client to notify of over HTTP; it does no harm either.
            check_version(exchange.version)
            await send_empty(exchange.send, 202)
            return
        try:
            await self._request(exchange, message)
        except ProtocolError as error:
            raise Refusal(error, message.id) from None

    async def _request(self, exchange: Exchange, message: Message) -> None:
        check_accept(exchange.headers, JSON, SSE)
        route = classify_modern(message, exchange.headers, exchange.scope["headers"])
        may_hand_over = self._hand_over.applies(message)
        context = _context(exchange, message, may_hand_over=may_hand_over)
        await self._kernel.check_param_headers(route, message, exchange.request.headers, context)
        tag = tag_of(f"principal {exchange.owner}")
        execute = self._kernel.modern(route, message)
        request = Request(cast("str", message.method), message.target, tag, context, execute)
        run = self._engine.launch(request)
        for uri in subscribed_resources(message):
            self._watchers.watch(tag, uri)
        rank = rank_of(message.meta.get(LOG_LEVEL_META_KEY))
        reader = render.Reader(
            cast("str | int", message.id), message.token, MODERN, lambda: rank, run.id
        )
        answer = self._answers.open(
            run.stream, 0, Voice(reader, status=_status), exchange.receive, exchange.send
        )
        if may_hand_over:
            self._hand_over.offer(run, answer, message)
        await self._answers.answer(run, answer, MODERN)


def _context(exchange: Exchange, message: Message, *, may_hand_over: bool) -> RunContext:
    transport = TransportContext(
        kind="streamable-http",
        # In a task the client can be asked; else the SDK's multi-round-trip requests do it.
        can_send_request=may_hand_over,
        headers=exchange.request.headers,
    )
    metadata = ServerMessageMetadata(request_context=exchange.request, can_send_request=False)
    tasks = subscribed_tasks(message)
    if tasks:
        return ListenContext(message, transport, metadata, tasks)
    if may_hand_over:
        return TaskContext(message, transport, metadata)
    identity = cast("str | int", message.id)
    return RunContext(identity, transport, metadata, message.token, message.body)


def _status(event: Event) -> int:
    """The HTTP status of an answer that is nothing but its end."""
    code = render.error_code(event)
    return 200 if code is None else ERROR_CODE_HTTP_STATUS.get(code, 200)
