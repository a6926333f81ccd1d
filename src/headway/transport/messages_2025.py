"""What the messages of a 2025 session do, whatever carries them.

This module must not know HTTP or pipes. A transport brings each message with the context it is
handled in; a request becomes a run, and how its stream is read is the transport's own.
"""

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Final, cast

import msgspec
from mcp.server.runner import ServerRunner
from mcp.shared.jsonrpc_dispatcher import handler_exception_to_error_data
from mcp_types import INTERNAL_ERROR
from mcp_types.jsonrpc import INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND

from headway.engine import (
    Engine,
    Request,
    Run,
    RunContext,
    as_exception,
    check_caller_limit,
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
from headway.handlers import has_own
from headway.journal import next_available
from headway.protocol import render, tasks_2025
from headway.protocol.client_introduction import check_uri, introduction_of
from headway.protocol.eras import Era, without_promises
from headway.protocol.idempotency_key import key_of
from headway.protocol.inbound import Message, as_id, is_id, read_message
from headway.streams import (
    is_run_id,
    principal_tag,
    process_of,
    run_id_of,
    run_of_question,
    run_stream,
)
from headway.transport.hand_over import HandOver, Offered
from headway.transport.sdk import Sdk
from headway.transport.sessions.session import Session
from headway.transport.subscriptions.run_updates import RunSubscriptions

logger = logging.getLogger(__name__)


CATCH_UP_TIMEOUT: Final = 2.0
"""Seconds in which a question that one process has put has to be stored for the others."""

LOOK_INTERVAL: Final = 0.05
"""Seconds until it is looked for again; each time twice as many."""


class Messages2025:
    """Handles the messages of 2025 sessions."""

    def __init__(
        self,
        kernel: Sdk,
        engine: Engine,
        watchers: RunSubscriptions,
        hand_over: HandOver,
        *,
        is_read: Callable[[str], bool],
    ) -> None:
        """`is_read` tells whether the client reads a run's stream at the moment."""
        self._is_read = is_read
        self._kernel = kernel
        self._engine = engine
        self._watchers = watchers
        self._hand_over = hand_over

    async def open(self, session: Session, message: Message, context: RunContext) -> dict[str, Any]:
        """Open a drafted session with its `initialize`; gives the result for the client.

        Raises:
            ProtocolError: The server refuses the client; the session is not kept.
        """
        message = introduction_of(message, self._engine.settings.max_client)
        try:
            result = await self._kernel.serve_2025(self._runner(session), message)(context)
            version = session.connection.protocol_version
            if session.is_single:
                return without_promises(result)
            given = message.params or {}
            said = {name: value for name, value in given.items() if name != "_meta"}
            await session.sessions.open(session, version, said)
        except ProtocolError:
            session.leave()
            raise
        except BaseException as error:
            session.leave()
            raised = as_exception(error)  # the server's middleware may raise anything
            if not isinstance(raised, Exception):
                raise
            raise _failed_handshake(raised, error) from None
        capabilities = result.get("capabilities", {})
        if version == tasks_2025.VERSION and "tools" in capabilities:
            capabilities["tasks"] = dict(tasks_2025.CAPABILITY)
            if session.owner:
                capabilities["tasks"]["list"] = {}
        return result

    async def run_of(
        self, session: Session, message: Message, context: RunContext, key: str | None = None
    ) -> Run:
        """The run of a request: a new one, or the one its repetition asks for again.

        `key` is the idempotency key that the transport has of it, if it has one.

        Raises:
            ProtocolError: Its id is in use for another request, its key was used for another
                call, or the server is busy (503).
        """
        known = going_on(session, message)
        if known is not None:
            return known
        self._check_task(session, message)
        self._check_held(session, message)
        request, call_key = self._request(session, message, context), key_of(message, key)
        await check_caller_limit(self._engine, request, call_key)
        known = going_on(session, message)
        if known is not None:  # it was sent again meanwhile
            return known
        if call_key is None:
            self._check_token(session, message.token)
        run = await submit(self._engine, request, call_key)
        identity = cast("str | int", message.id)
        session.requests[identity] = context
        run.on_end(partial(_forget, session, identity, context))
        return run

    def _request(self, session: Session, message: Message, context: RunContext) -> Request:
        call = self._kernel.serve_2025(self._runner(session), message)

        async def execute(context: RunContext) -> dict[str, Any]:
            result = await call(context)
            await _remember(session, message)
            if message.method == "resources/subscribe":
                await self._watchers.watch(session.tag, [(message.params or {}).get("uri")])
            return result

        return Request(
            cast("str", message.method),
            message.target,
            session.tag,
            context,
            execute,
            session.connection.protocol_version,
            principal_tag(session.owner),
            client=session.client,
        )

    async def task(self, session: Session, run: Run, message: Message) -> bytes | None:
        """The response to a call that asks for a task of 2025-11-25; None for all others.

        Raises:
            ProtocolError: The journal cannot be written (503).
        """
        if not _asks_for_task(session, message):
            return None
        run.hooks.on_handed_over = partial(_set_aside, session, cast("str | int", message.id), run)
        response = await self._hand_over.task(run, message)
        if message.token is not None:
            session.sessions.later(_go_on_telling(session, run, message.token))
        return response

    def offer(
        self,
        session: Session,
        run: Run,
        answer: Offered,
        message: Message,
        *,
        can_reconnect: bool = False,
        is_told: bool = True,
    ) -> None:
        """Let the answer end before the run, in the way that its client knows.

        `is_told`: the answer carries what is said on the way.
        """
        run.hooks.on_handed_over = partial(_set_aside, session, cast("str | int", message.id), run)
        shown = self._hand_over.shown(session, message, can_reconnect=can_reconnect)
        shown = shown._replace(has_token=shown.has_token and is_told)
        self._hand_over.offer(run, answer, message, shown)

    def reconnect_after(self, session: Session, token: object) -> float:
        """Seconds until a stream that was resumed is closed early again; inf: never."""
        return self._hand_over.reconnect_after(self._hand_over.profile(session), token)

    def _check_held(self, session: Session, message: Message) -> None:
        """Refuse what a session would have to keep, where it keeps as much as it may.

        Raises:
            ProtocolError: It has as many subscriptions as it may, the URI is too long (400), or
                there is no room for more (503).
        """
        if message.method not in _KEPT or session.is_single:
            return
        uri = (message.params or {}).get("uri")
        if not isinstance(uri, str):
            session.sessions.check_bytes(session, 0)
            return  # the SDK refuses it, where the method has one
        check_uri(uri)
        if message.method == "resources/subscribe" and uri not in session.subscriptions:
            most = self._engine.settings.max_subscriptions
            if len(session.subscriptions) >= most:
                raise ProtocolError(
                    INVALID_PARAMS,
                    f"This session has {most} subscriptions, as many as it may "
                    "(max_subscriptions); unsubscribe from some",
                    limit="max_subscriptions",
                )
        session.sessions.check_bytes(session, len(uri))

    def _check_token(self, session: Session, token: str | int | None) -> None:
        """Refuse a token whose progress the client could not tell apart (progress, 2025-11-25).

        Raises:
            ProtocolError: A request whose answer is being read has the same one.
        """
        if token is None:
            return
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
            ProtocolError: -32601, as tasks, 2025-11-25 has it.
        """
        if message.method != "tools/call" or session.era.version != tasks_2025.VERSION:
            return
        support = self._engine.options_of(message.target).task_support
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
        """Whether the server's author handles a method himself."""
        return has_own(self._kernel.server, method)

    async def handle_message(self, session: Session, message: Message, context: RunContext) -> None:
        """Do what a notification or an answer of the client says.

        Raises:
            ProtocolError: It answers a question that nobody asked.
        """
        if message.method is None:
            await self._take_answer(session, message)
            return
        if message.method == "notifications/cancelled":
            await _take_cancel(session, message)
        await self.notify_client(session, message, context)

    async def _take_answer(self, session: Session, message: Message) -> None:
        """Hand an answer to the run that asked, in whichever process."""
        is_error, key = "error" in message.body, str(message.id)
        said = encode_json(message.body["error"] if is_error else message.body.get("result"))
        if await session.answer(key, said, is_error=is_error):
            return
        try:
            if await self._hand_on(session, InputAnswered(key, said, is_error)):
                return
        except JournalError as error:
            logger.warning("an answer was not handed on: %s", error)
            raise journal_away() from None
        raise ProtocolError(
            INVALID_REQUEST, f"No question {key[:64]!r} waits for an answer in this session"
        )

    async def _hand_on(self, session: Session, answered: InputAnswered) -> bool:
        """Give an answer to the process that executes the run; False: that question is not open.

        One that was asked a moment ago may not be stored yet.
        """
        # A run's questions are named after it; one of another session is not found.
        run_id = run_of_question(answered.key)
        if not is_run_id(run_id) or not self._engine.journal.is_durable:
            return False
        clock, pause = self._engine.clock, LOOK_INTERVAL
        # What this process asked itself it has stored, or is done with.
        own = process_of(run_id) == self._engine.lease.tag
        limit = clock.now() + (0 if own else CATCH_UP_TIMEOUT)
        while not await self._engine.remote_answers.accept_answer(
            run_stream(session.tag, run_id), answered
        ):
            if clock.now() >= limit:
                return False
            await clock.sleep(pause)
            pause *= 2
        return True

    async def notify_client(self, session: Session, message: Message, context: RunContext) -> None:
        """Hand a notification to the server's own handlers; they may take their time."""
        await self._kernel.notify(self._runner(session), context, message)
        if message.method == "notifications/initialized":
            await session.keep(SessionReady())

    def _runner(self, session: Session) -> ServerRunner[Any]:
        if session.runner is None:
            session.runner = self._kernel.runner(session.connection)
        return session.runner


_KEPT: Final = ("resources/subscribe", "resources/unsubscribe", "logging/setLevel")
"""Requests that a session remembers; see `_remember`."""


def _asks_for_task(session: Session, message: Message) -> bool:
    """Whether a call of 2025-11-25 wants to be a task."""
    is_call = message.method == "tools/call" and session.era.version == tasks_2025.VERSION
    return is_call and isinstance((message.params or {}).get("task"), dict)


def going_on(session: Session, message: Message) -> Run | None:
    """The run of a request that its client sends again while it lasts.

    Raises:
        ProtocolError: The id is in use for another request.
    """
    context = session.requests.get(cast("str | int", message.id))
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
        ProtocolError: It is no batch, the revision has none, or there are more than `most`.
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


async def _take_cancel(session: Session, message: Message) -> None:
    identity = as_id((message.params or {}).get("requestId"))
    reason = (message.params or {}).get("reason")
    # What can be no request's id is told to nobody.
    if is_id(identity) and not session.cancel_request(identity, reason):
        await session.sessions.cancel_elsewhere(session, identity, reason)


async def _remember(session: Session, message: Message) -> None:
    """What a successful request says about its session; known to all processes when it returns."""
    params = message.params or {}
    match message.method:
        case "logging/setLevel":
            await session.keep(LevelSet(str(params.get("level"))))
        case "resources/subscribe":
            known = session.sessions.changes.last
            await session.keep(Subscribed(str(params.get("uri")), known))
        case "resources/unsubscribe":
            await session.keep(Unsubscribed(str(params.get("uri"))))
        case _:
            pass


TELL_EVERY: Final = 5.0
"""Seconds between progress messages of a task on its session's stream, which keeps them all."""


async def _go_on_telling(session: Session, run: Run, token: str | int) -> None:
    """Send the progress of a task on the session's own stream: its token stays good for it."""
    stream = run.request.follows or run.stream
    meta = tasks_2025.related(run_id_of(stream))
    due = 0.0
    cursor = run.journal.open_cursor(stream)
    with suppress(JournalError):
        while not cursor.done:
            for entry in await next_available(run.journal, cursor):
                progress, now = entry.event, run.clock.now()
                if not session.is_open:
                    return
                if isinstance(progress, Progress) and (
                    now >= due or progress.progress == progress.total
                ):
                    due = now + TELL_EVERY
                    session.record(_told(progress, token, meta))


def _told(progress: Progress, token: str | int, meta: Mapping[str, Any]) -> Notified:
    said = msgspec.structs.asdict(progress)
    params = {name: value for name, value in said.items() if value is not None}
    params |= {"progressToken": token, "_meta": meta}
    return Notified("notifications/progress", encode_json(params))


def _set_aside(session: Session, identity: str | int, run: Run) -> None:
    """The request is answered and its id means nothing more; the run can still be answered."""
    context = session.requests.get(identity)
    if context is not None and context.run is run and not run.ended:
        aside = f"handed over {run.id}"
        session.requests[aside] = session.requests.pop(identity)
        run.on_end(partial(_forget, session, aside, context))


def _forget(session: Session, identity: str | int, context: RunContext) -> None:
    if session.requests.get(identity) is context:
        del session.requests[identity]
    # They hold the context that holds them.
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
