"""2026-07-28 requests, whatever carries them: each is complete by itself, and is a run.

This module must not know HTTP or pipes. How a run's stream is read is the transport's own.
"""

from collections.abc import Callable, Mapping
from typing import cast

from mcp.shared.inbound import InboundModernRoute
from mcp.shared.message import ServerMessageMetadata
from mcp.shared.transport_context import TransportContext
from mcp_types import CLIENT_INFO_META_KEY, LOG_LEVEL_META_KEY
from mcp_types.jsonrpc import INVALID_PARAMS

from headway.auth import name_of_caller, source_to_keep
from headway.engine import Request, Run, RunContext, check_limits, submit
from headway.errors import ProtocolError
from headway.protocol import render
from headway.protocol.client_introduction import introduction_of_envelope, name_of_client
from headway.protocol.eras import LOG_LEVELS, MODERN, NO_LOGS, rank_of
from headway.protocol.idempotency_key import key_of
from headway.protocol.jsonrpc_message import Message, subscribed_resources
from headway.protocol.methods import kind_of
from headway.stream_names import principal_tag
from headway.transport.hand_over import EarlyResponse, TaskContext
from headway.transport.shared_parts import Endpoint
from headway.transport.subscriptions.task_updates import ListenContext, subscribed_tasks


class Messages2026:
    """Starts the runs of 2026-07-28 requests."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._sdk = endpoint.sdk
        self._engine = endpoint.engine
        self._subscriptions = endpoint.subscriptions
        self._hand_over = endpoint.hand_over

    def bound_message(self, message: Message) -> Message:
        """Return the request with only what is kept while it is handled.

        Raises:
            ProtocolError: It describes its client at too great length, or listens to too much.
        """
        settings = self._engine.settings
        return introduction_of_envelope(message, settings.max_client, settings.max_subscriptions)

    def make_context(
        self,
        message: Message,
        *,
        kind: str,
        headers: Mapping[str, str] | None = None,
        request: object = None,
    ) -> RunContext:
        """Return the context for a request's handler; `request` is the transport's own object.

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

    async def run_request(
        self,
        message: Message,
        route: InboundModernRoute,
        context: RunContext,
        owner: str,
        key: str | None = None,
        *,
        scopes: frozenset[str] | None = None,
        rated_as: Callable[[], str] | None = None,
    ) -> Run:
        """Start the run of a request of the principal `owner`, or one that follows its key's run.

        `scopes` are those of its token; None: callers are not checked. `rated_as` returns whom its
        rates are counted for; None: they are not counted.

        Raises:
            ProtocolError: Its tool needs more scopes (403), the server has as much to do as it may
                (503), calls come too often (429), or the idempotency key was used for another call.
        """
        tag = principal_tag(owner)
        execute = self._sdk.serve_2026(route, message)
        version = route.protocol_version
        method = cast("str", message.method)
        call_key = key_of(message, key)
        request = Request(
            method,
            message.target,
            tag,
            context,
            execute,
            version,
            tag,
            caller=name_of_caller(),
            client_name=name_of_client(message.meta.get(CLIENT_INFO_META_KEY)),
            source=source_to_keep(message.meta, "" if call_key is None else call_key.name),
            scopes=scopes,
        )
        await check_limits(self._engine, request, call_key, rated_as)
        run = await submit(self._engine, request, call_key)
        await self._subscriptions.watch_runs(tag, subscribed_resources(message))
        return run

    def offer_hand_over(
        self, run: Run, answer: EarlyResponse, message: Message, *, is_told: bool = True
    ) -> None:
        """Let the answer become a handle, in the way that its client knows.

        `is_told`: progress and logs are part of the answer.
        """
        if kind_of(message.method).can_hand_over:
            shown = self._hand_over.traits_of_request(message, is_told=is_told)
            self._hand_over.offer_hand_over(run, answer, message, shown)


def reader_of(message: Message, run: Run) -> render.Reader:
    """Return the reader that stands for the client of a request."""
    rank = rank_of(message.meta.get(LOG_LEVEL_META_KEY))
    identity = cast("str | int", message.id)
    return render.Reader(identity, message.token, MODERN, lambda: rank, run.id, run.request.method)
