"""The messages of a 2025 session, whatever transport carries them.

This module must not know HTTP or pipes. A transport brings each message with the context it is
handled in; a request becomes a run, and how its stream is read is the transport's own.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Final, cast

import msgspec
from mcp.server.runner import ServerRunner
from mcp.shared.jsonrpc_dispatcher import handler_exception_to_error_data
from mcp_types import INTERNAL_ERROR
from mcp_types.jsonrpc import INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND

from headway.auth import name_of_caller, source_to_keep
from headway.engine import (
    Request,
    Run,
    RunContext,
    as_exception,
    check_limits,
    message_of,
    submit,
)
from headway.errors import CodeEnded, JournalError, ProtocolError, journal_away
from headway.events import (
    InputAnswered,
    LevelSet,
    Notified,
    Progress,
    SessionReady,
    Subscribed,
    Unsubscribed,
    encode_json,
)
from headway.journal import next_available
from headway.log_lines import quiet_logger
from headway.protocol import render, tasks_2025
from headway.protocol.client_introduction import (
    check_uri,
    introduction_of,
    name_of_introduced,
)
from headway.protocol.eras import Era, without_promises
from headway.protocol.idempotency_key import CallKey, key_of
from headway.protocol.jsonrpc_message import Message, as_id, is_id, read_message
from headway.protocol.methods import kind_of
from headway.stream_names import (
    is_run_id,
    principal_tag,
    process_of,
    run_id_of,
    run_of_question,
    run_stream,
)
from headway.transport.hand_over import EarlyResponse
from headway.transport.sessions.session import Session
from headway.transport.shared_parts import Endpoint
from headway.wrapped_handlers import has_own

logger = quiet_logger(__name__)


CATCH_UP_TIMEOUT: Final = 2.0
"""Seconds in which a question of one process must be stored for the others."""

LOOK_INTERVAL: Final = 0.05
"""Seconds until the question is looked for again; they double each time."""


class Messages2025:
    """Handles the messages of 2025 sessions."""

    def __init__(self, endpoint: Endpoint, *, is_read: Callable[[str], bool]) -> None:
        """`is_read` tells whether the client reads a run's stream at the moment."""
        self._is_read = is_read
        self._sdk = endpoint.sdk
        self._engine = endpoint.engine
        self._subscriptions = endpoint.subscriptions
        self._hand_over = endpoint.hand_over

    async def open_session(
        self, session: Session, message: Message, context: RunContext
    ) -> dict[str, Any]:
        """Open a drafted session with its `initialize`, and return the result for the client.

        Raises:
            ProtocolError: The server refuses the client; the session is not kept.
        """
        message = introduction_of(message, self._engine.settings.max_client)
        try:
            result = await self._sdk.serve_2025(self._runner_of(session), message)(context)
            version = session.connection.protocol_version
            if session.is_single:
                return without_promises(result)
            given = message.params or {}
            said = {name: value for name, value in given.items() if name != "_meta"}
            await session.sessions.open_session(session, version, said)
        except ProtocolError:
            session.close_connection()
            raise
        except BaseException as error:
            session.close_connection()
            raised = as_exception(error)  # the server's middleware may raise anything
            if not isinstance(raised, Exception):
                raise
            raise _failed_handshake(raised, error) from None
        capabilities = result.get("capabilities", {})
        if version == tasks_2025.VERSION and "tools" in capabilities:
            capabilities["tasks"] = dict(tasks_2025.CAPABILITY)
            if session.facts.owner:
                capabilities["tasks"]["list"] = {}
        return result

    async def run_request(
        self,
        session: Session,
        message: Message,
        context: RunContext,
        key: str | None = None,
        *,
        scopes: frozenset[str] | None = None,
        rated_as: Callable[[], str] | None = None,
    ) -> Run:
        """Return the run of a request: a new one, or that of the request it repeats.

        `key` is the idempotency key that the transport found, if any. `scopes` are those of the
        caller's token; None: callers are not checked. `rated_as` returns whom its rates are counted
        for; None: they are not counted.

        Raises:
            ProtocolError: Its tool needs more scopes (403), its id is in use for another request,
                its key was used for another call, the server is busy (503), or calls come too
                often (429).
        """
        identity: Any = message.id
        is_in_use = identity in session.requests
        if is_in_use and (known := self._find_joined(session, message, scopes)) is not None:
            return known
        self._check_task(session, message)
        if message.method in _KEPT:
            self._check_room(session, message)
        call_key = key_of(message, key)
        request = self._make_request(session, message, context, scopes, call_key)
        await check_limits(self._engine, request, call_key, rated_as)
        # The check above may have waited for the storage, so the look-up is repeated: a client that
        # sends a request twice gets one run.
        is_in_use = identity in session.requests
        if is_in_use and (known := self._find_joined(session, message, scopes)) is not None:
            return known
        if call_key is None and message.token is not None:
            self._check_token(session, message.token)
        run = await submit(self._engine, request, call_key)
        session.requests[identity] = context
        run.on_end(partial(_forget_request, session, identity, context))
        return run

    def _find_joined(
        self, session: Session, message: Message, scopes: frozenset[str] | None
    ) -> Run | None:
        """Return the run of a request that its client sends again while it runs, or None.

        Raises:
            ProtocolError: The id is in use for another request, or the first one came with a token
                that may see more (403).
        """
        known = find_running(session, message)
        if known is not None:
            self._engine.services.access.check_joined(known.request, scopes)
        return known

    def _make_request(
        self,
        session: Session,
        message: Message,
        context: RunContext,
        scopes: frozenset[str] | None,
        key: CallKey | None,
    ) -> Request:
        call = self._sdk.serve_2025(self._runner_of(session), message)

        async def execute(context: RunContext) -> dict[str, Any]:
            result = await call(context)
            if message.method in _KEPT:
                await self._record_request(session, message)
            return result

        return Request(
            cast("str", message.method),
            message.target,
            session.tag,
            context,
            execute,
            session.connection.protocol_version,
            principal_tag(session.facts.owner),
            client=session.facts.client,
            caller=name_of_caller(),
            client_name=name_of_introduced(bytes(session.facts.client or b"{}")),
            source=source_to_keep(message.meta, "" if key is None else key.name),
            scopes=scopes,
        )

    async def _record_request(self, session: Session, message: Message) -> None:
        """Store what a successful request changes in its session, for all processes."""
        params = message.params or {}
        match message.method:
            case "logging/setLevel":
                await session.store_event(LevelSet(str(params.get("level"))))
            case "resources/subscribe":
                known = session.sessions.broadcasts.changes.last
                await session.store_event(Subscribed(str(params.get("uri")), known))
                await self._subscriptions.watch_runs(session.tag, [params.get("uri")])
            case "resources/unsubscribe":
                await session.store_event(Unsubscribed(str(params.get("uri"))))
            case _:
                pass

    async def make_task(self, session: Session, run: Run, message: Message) -> bytes | None:
        """Return the response to a call that asks for a task of 2025-11-25; None for all others.

        Raises:
            ProtocolError: The journal cannot be written (503).
        """
        if not _asks_for_task(session, message):
            return None
        request_id = cast("str | int", message.id)
        run.hooks.on_handed_over = partial(_free_request_id, session, request_id, run)
        response = await self._hand_over.make_task(run, message)
        if message.token is not None:
            session.sessions.spawn_task(_stream_task_progress(session, run, message.token))
        return response

    def offer_hand_over(
        self,
        session: Session,
        run: Run,
        answer: EarlyResponse,
        message: Message,
        *,
        can_reconnect: bool = False,
        is_told: bool = True,
    ) -> None:
        """Let the answer end before the run, in the way that its client knows.

        `is_told`: progress and logs are part of the answer.
        """
        request_id = cast("str | int", message.id)
        run.hooks.on_handed_over = partial(_free_request_id, session, request_id, run)
        shown = self._hand_over.traits_in_session(
            session, message, is_told=is_told, can_reconnect=can_reconnect
        )
        self._hand_over.offer_hand_over(run, answer, message, shown)

    def reconnect_after(self, session: Session, token: object) -> float:
        """Return the seconds until a resumed stream is closed early again; inf: never."""
        return self._hand_over.reconnect_after(self._hand_over.profile_of_session(session), token)

    def _check_room(self, session: Session, message: Message) -> None:
        """Refuse a subscription where the session keeps as much as it may.

        Raises:
            ProtocolError: It has as many subscriptions as it may, the URI is too long (400), or
                there is no room for more (503).
        """
        if session.is_single:
            return
        uri = (message.params or {}).get("uri")
        if not isinstance(uri, str):
            session.sessions.check_bytes(session, 0)
            return  # the SDK refuses it, where the method has one
        check_uri(uri)
        if message.method == "resources/subscribe" and uri not in session.facts.subscriptions:
            most = self._engine.settings.max_subscriptions
            if len(session.facts.subscriptions) >= most:
                raise ProtocolError(
                    INVALID_PARAMS,
                    f"This session has {most} subscriptions, as many as it may "
                    "(max_subscriptions); unsubscribe from some",
                    limit="max_subscriptions",
                )
        session.sessions.check_bytes(session, len(uri))

    def _check_token(self, session: Session, token: str | int) -> None:
        """Refuse a token whose progress the client could not tell apart (progress, 2025-11-25).

        Raises:
            ProtocolError: A request whose answer is being read has the same one.
        """
        for context in session.requests.values():
            run = context.run
            if context.token == token and run is not None and self._is_read(run.stream):
                raise ProtocolError(
                    INVALID_PARAMS,
                    f"progressToken {token!r} belongs to request {context.request_id!r}, which has "
                    "not ended; give each request a token of its own",
                )

    def _check_task(self, session: Session, message: Message) -> None:
        """Refuse a call that wants a task of a tool that is none, or the other way round.

        Raises:
            ProtocolError: -32601, as the chapter on tasks of 2025-11-25 wants.
        """
        if not _may_ask_for_task(session, message):
            return
        support = self._engine.services.options_of(message.target).task_support
        wants = _asks_for_task(session, message)
        if wants and support == "forbidden":
            raise ProtocolError(
                METHOD_NOT_FOUND, f"{message.target} cannot be a task; call it without 'task'"
            )
        if support == "required" and not wants:
            raise ProtocolError(
                METHOD_NOT_FOUND, f"{message.target} has to be a task; call it with 'task'"
            )

    def is_for_author(self, method: str) -> bool:
        """Return whether the server's author handles a method himself."""
        return has_own(self._sdk.server, method)

    async def handle_message(
        self,
        session: Session,
        message: Message,
        context: RunContext,
        *,
        scopes: frozenset[str] | None = None,
    ) -> None:
        """Act on a notification or an answer of the client.

        `scopes` are those of the caller's token; None: callers are not checked.

        Raises:
            ProtocolError: It is an answer to a question that no run asked, or stops a call of a
                tool that needs more scopes (403).
        """
        if message.method is None:
            await self._handle_answer(session, message, scopes)
            return
        if message.method == "notifications/cancelled":
            await _handle_cancel(session, message, scopes)
        await self.notify_client(session, message, context)

    async def _handle_answer(
        self, session: Session, message: Message, scopes: frozenset[str] | None
    ) -> None:
        """Hand an answer to the run that asked, in whichever process."""
        is_error, key = "error" in message.body, str(message.id)
        said = encode_json(message.body["error"] if is_error else message.body.get("result"))
        try:
            may_answer = await self._may_answer(session, key, scopes)
            if may_answer and await session.accept_answer(key, said, is_error=is_error):
                return
            if await self._send_to_owner(session, InputAnswered(key, said, is_error), scopes):
                return
        except JournalError as error:
            logger.warning("an answer was not handed on: %s", error)
            raise journal_away() from None
        raise ProtocolError(
            INVALID_REQUEST, f"No question {key[:64]!r} waits for an answer in this session"
        )

    async def _may_answer(self, session: Session, key: str, scopes: frozenset[str] | None) -> bool:
        """Return whether a caller may answer a question, which is named after its run.

        Raises:
            JournalError: The journal cannot be read.
        """
        run_id = run_of_question(key)
        if not is_run_id(run_id):  # asked outside of any call
            return True
        stream = run_stream(session.tag, run_id)
        return await self._engine.services.access.may_see(stream, scopes)

    async def _send_to_owner(
        self, session: Session, answered: InputAnswered, scopes: frozenset[str] | None
    ) -> bool:
        """Give an answer to the process that executes the run; False: that question is not open.

        A question of this moment may not be stored yet, so it is looked for more than once.
        """
        # A run's questions are named after it; one of another session is not found.
        run_id = run_of_question(answered.key)
        if not is_run_id(run_id) or not self._engine.journal.is_durable:
            return False
        clock, pause = self._engine.clock, LOOK_INTERVAL
        # A question of this process's own run is stored already, or is closed.
        own = process_of(run_id) == self._engine.lease.tag
        limit = clock.now() + (0 if own else CATCH_UP_TIMEOUT)
        stream, answers = run_stream(session.tag, run_id), self._engine.services.remote_answers
        while not (
            await self._may_answer(session, answered.key, scopes)
            and await answers.accept_answer(stream, answered)
        ):
            if clock.now() >= limit:
                return False
            await clock.sleep(pause)
            pause *= 2
        return True

    async def notify_client(self, session: Session, message: Message, context: RunContext) -> None:
        """Hand a notification to the server's own handlers; they may take their time."""
        await self._sdk.notify_server(self._runner_of(session), context, message)
        if message.method == "notifications/initialized":
            await session.store_event(SessionReady())

    def _runner_of(self, session: Session) -> ServerRunner[Any]:
        if session.runner is None:
            session.runner = self._sdk.make_runner(session.connection)
        return session.runner


_KEPT: Final = ("resources/subscribe", "resources/unsubscribe", "logging/setLevel")
"""Requests that a session remembers; see `_record_request`."""


def _asks_for_task(session: Session, message: Message) -> bool:
    """Return whether a call of 2025-11-25 asks to be a task."""
    asked = message.params is not None and isinstance(message.params.get("task"), dict)
    return asked and _may_ask_for_task(session, message)


def _may_ask_for_task(session: Session, message: Message) -> bool:
    is_known = session.facts.era.version == tasks_2025.VERSION
    return is_known and kind_of(message.method).can_hand_over


def find_running(session: Session, message: Message) -> Run | None:
    """Return the run of a request that its client sends again while it runs, or None.

    Raises:
        ProtocolError: The id is in use for another request.
    """
    identity: Any = message.id
    context = session.requests.get(identity)
    if context is None or context.run is None or context.run.ended:
        return None
    if context.body != message.body:
        raise ProtocolError(
            INVALID_REQUEST,
            f"Request id {message.id!r} is still in use in this session for another request; "
            "give each request an id of its own",
        )
    return context.run


def read_batch(values: list[object], era: Era, most: int) -> list[Message]:
    """Return the messages of an array.

    Raises:
        ProtocolError: It is no batch, the revision knows none, or it has more than `most` messages.
    """
    if not era.takes_batches:
        raise ProtocolError(
            INVALID_REQUEST,
            f"Batches are not part of {era.version}; send one message at a time",
        )
    if len(values) > most:
        raise ProtocolError(
            INVALID_REQUEST,
            f"The batch has {len(values)} messages and {most} are accepted (max_batch); send them "
            "in several",
            status=413,
            limit="max_batch",
        )
    messages = [read_message(value) for value in values]
    if not messages or any(message.method == "initialize" for message in messages):
        raise ProtocolError(
            INVALID_REQUEST, "A batch holds at least one message, and no initialize"
        )
    ids = [message.id for message in messages if message.is_request]
    if len(set(ids)) < len(ids):
        raise ProtocolError(INVALID_REQUEST, "Each request of a batch needs an id of its own")
    return messages


async def _handle_cancel(session: Session, message: Message, scopes: frozenset[str] | None) -> None:
    identity = as_id((message.params or {}).get("requestId"))
    reason = (message.params or {}).get("reason")
    # A value that can be no request's id is not passed on.
    if is_id(identity) and not session.cancel_request(identity, reason, scopes):
        await session.sessions.broadcasts.cancel_elsewhere(session, identity, reason, scopes)


TASK_PROGRESS_INTERVAL: Final = 5.0
"""Seconds between progress messages of a task on its session's stream, which keeps them all: a task
may last for hours."""


async def _stream_task_progress(session: Session, run: Run, token: str | int) -> None:
    """Send the progress of a task on the session's own stream: its token stays good for it."""
    stream = run.request.follows or run.stream
    meta = tasks_2025.related_meta(run_id_of(stream))
    due = 0.0
    cursor = run.journal.open_cursor(stream)
    run.on_end(cursor.nudge)  # it may be left to the next process, and then its stream goes on
    with suppress(JournalError):
        while not (cursor.done or run.is_released):
            for entry in await next_available(run.journal, cursor):
                progress, now = entry.event, run.services.clock.now()
                if not session.facts.is_open:
                    return
                if isinstance(progress, Progress) and (
                    now >= due or progress.progress == progress.total
                ):
                    due = now + TASK_PROGRESS_INTERVAL
                    session.record_event(_progress_notification(progress, token, meta, stream))


def _progress_notification(
    progress: Progress, token: str | int, meta: Mapping[str, Any], stream: str
) -> Notified:
    said = msgspec.structs.asdict(progress)
    params = {name: value for name, value in said.items() if value is not None}
    params |= {"progressToken": token, "_meta": meta}
    return Notified("notifications/progress", encode_json(params), stream)


def _free_request_id(session: Session, identity: str | int, run: Run) -> None:
    """Free the id of an answered request; the run can still be answered under another."""
    context = session.requests.get(identity)
    if context is not None and context.run is run and not run.ended:
        aside = f"handed over {run.id}"
        session.requests[aside] = session.requests.pop(identity)
        run.on_end(partial(_forget_request, session, aside, context))


def _forget_request(session: Session, identity: str | int, context: RunContext) -> None:
    if session.requests.get(identity) is context:
        del session.requests[identity]
    # The run and its context hold each other: this breaks the cycle.
    context.message_metadata.close_sse_stream = None
    context.message_metadata.close_standalone_sse_stream = None


def _failed_handshake(error: Exception, origin: BaseException) -> ProtocolError:
    known = handler_exception_to_error_data(error)
    if known is None:
        logger.error("initialize failed: %s", type(origin).__name__, exc_info=origin)
        text = None if isinstance(error, CodeEnded) else message_of(error)
        if text is not None:
            return ProtocolError(render.RAISED, text, status=200)
        return ProtocolError(INTERNAL_ERROR, "Internal server error", status=200)
    return ProtocolError(known.code, known.message, status=200, data=known.data)
