"""2026-07-28 requests, whatever carries them: each says all that is to be known and is a run.

This module must not know HTTP or pipes. How a run's stream is read is the transport's own.
"""

from collections.abc import Mapping
from typing import cast

from mcp.shared.inbound import InboundModernRoute
from mcp.shared.message import ServerMessageMetadata
from mcp.shared.transport_context import TransportContext
from mcp_types import LOG_LEVEL_META_KEY
from mcp_types.jsonrpc import INVALID_PARAMS

from headway.engine import Engine, Request, Run, RunContext, check_caller_limit, submit
from headway.errors import ProtocolError
from headway.protocol import render
from headway.protocol.client_introduction import introduction_of_envelope
from headway.protocol.eras import LOG_LEVELS, MODERN, NO_LOGS, rank_of
from headway.protocol.idempotency_key import key_of
from headway.protocol.inbound import Message, subscribed_resources
from headway.streams import principal_tag
from headway.transport.hand_over import HandOver, Offered, TaskContext
from headway.transport.sdk import Sdk
from headway.transport.subscriptions.run_updates import RunSubscriptions
from headway.transport.subscriptions.task_updates import ListenContext, subscribed_tasks


class Messages2026:
    """Starts the runs of 2026-07-28 requests."""

    def __init__(
        self, kernel: Sdk, engine: Engine, watchers: RunSubscriptions, hand_over: HandOver
    ) -> None:
        self._kernel = kernel
        self._engine = engine
        self._watchers = watchers
        self._hand_over = hand_over

    def bounded(self, message: Message) -> Message:
        """What is kept of a request while it is handled.

        Raises:
            ProtocolError: It says more of its client, or wants to hear of more, than it may.
        """
        settings = self._engine.settings
        return introduction_of_envelope(message, settings.max_client, settings.max_subscriptions)

    def context(
        self,
        message: Message,
        *,
        kind: str,
        headers: Mapping[str, str] | None = None,
        request: object = None,
    ) -> RunContext:
        """What the handler of a request holds; `request` is what the transport has of it.

        Raises:
            ProtocolError: The request needs an extension that it does not declare, or wants to
                be told of a log level that does not exist.
        """
        level = message.meta.get(LOG_LEVEL_META_KEY)
        if level is not None and rank_of(level) == NO_LOGS:
            raise ProtocolError(
                INVALID_PARAMS, f"There is no such log level; use one of {', '.join(LOG_LEVELS)}"
            )
        may_hand_over = self._hand_over.may_be_task(message)
        # In a task the client can be asked; else the SDK's multi-round-trip requests do it.
        transport = TransportContext(kind=kind, can_send_request=may_hand_over, headers=headers)
        metadata = ServerMessageMetadata(request_context=request, can_send_request=False)
        tasks = subscribed_tasks(message)
        if tasks:
            return ListenContext(message, transport, metadata, tasks)
        if may_hand_over:
            return TaskContext(message, transport, metadata)
        return RunContext(message.id, transport, metadata, message.token, message.body)

    async def launch(
        self,
        message: Message,
        route: InboundModernRoute,
        context: RunContext,
        owner: str,
        key: str | None = None,
    ) -> Run:
        """Start the run of a request of the principal `owner`, or one that follows its key's run.

        Raises:
            ProtocolError: The server has as much to do as it may (503), or the idempotency key
                was used for another call.
        """
        tag = principal_tag(owner)
        execute = self._kernel.serve_2026(route, message)
        version = route.protocol_version
        method = cast("str", message.method)
        request = Request(method, message.target, tag, context, execute, version, tag)
        call_key = key_of(message, key)
        await check_caller_limit(self._engine, request, call_key)
        run = await submit(self._engine, request, call_key)
        await self._watchers.watch(tag, subscribed_resources(message))
        return run

    def offer(self, run: Run, answer: Offered, message: Message, *, is_told: bool = True) -> None:
        """Let the answer become a handle, in the way that its client knows.

        `is_told`: the answer carries what is said on the way.
        """
        if message.method == "tools/call":
            shown = self._hand_over.shown_modern(message)
            shown = shown._replace(has_token=shown.has_token and is_told)
            self._hand_over.offer(run, answer, message, shown)


def reader_of(message: Message, run: Run) -> render.Reader:
    """Who reads the run of a request: its client."""
    rank = rank_of(message.meta.get(LOG_LEVEL_META_KEY))
    identity = cast("str | int", message.id)
    return render.Reader(identity, message.token, MODERN, lambda: rank, run.id, run.request.method)
