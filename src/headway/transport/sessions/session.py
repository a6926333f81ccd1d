"""One 2025 session in this process: the fold of its stream, and what this process handles of it.

Any process may add to the stream and any may answer the next request, so nothing here is more
than a copy: a request begins by taking up what the stream says since.
"""

import asyncio
import secrets
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import msgspec
from mcp.server.connection import Connection
from mcp.server.runner import ServerRunner, aclose_shielded
from mcp.shared.dispatcher import CallOptions
from mcp.shared.exceptions import MCPError, NoBackChannelError
from mcp_types import INTERNAL_ERROR, InitializeRequestParams
from msgspec import Raw

from headway.engine import RunContext, as_event, client_error, executing_run, notify_run
from headway.errors import JournalError, StreamEnded
from headway.events import (
    Alive,
    Entry,
    Event,
    InputAnswered,
    InputReceived,
    InputRequested,
    SessionOpened,
    SessionReady,
    StreamPositionSent,
    Subscribed,
    Unsubscribed,
    decode_json,
    encode_json,
)
from headway.log_lines import quiet_logger
from headway.stream_names import session_name, session_stream, session_tag
from headway.transport.sessions.outbox import Deliveries, OutboxPosition, Span
from headway.transport.sessions.session_parts import SessionFacts, SessionUsage

if TYPE_CHECKING:
    from headway.transport.sessions.registry import Sessions

logger = quiet_logger(__name__)

ANSWER_WITHIN: Final = 300.0
"""Seconds a question outside of any request waits for its answer."""

RESTATE_EVERY: Final = 1000
"""Entries of a session's stream after which a summary of the session is written anew: the oldest
entries of a long stream are dropped."""

_NO_NEWS: Final = (Alive, StreamPositionSent, SessionOpened, SessionReady)
"""Events that other processes need not read at once: the next request does."""

_FOR_EVERY_TOKEN: Final = (
    "notifications/prompts/list_changed",
    "notifications/resources/list_changed",
    "notifications/resources/updated",
    "notifications/tools/list_changed",
)
"""Notifications of changes: they say nothing of the run that causes them."""

_BEFORE_CHANGES: Final = (Subscribed, Unsubscribed)
"""Events that other processes must read before the changes that follow them."""


class Session:
    """One 2025 session in this process."""

    __slots__ = (
        "_has_left", "_waiting", "connection", "deliveries", "facts", "id", "is_single", "requests",
        "runner", "sessions", "tag", "usage",
    )  # fmt: skip

    def __init__(self, sessions: "Sessions", session_id: str, owner: str) -> None:
        self.sessions = sessions
        self.id = session_id
        self.tag = session_tag(owner, session_id)
        self.facts = SessionFacts(owner)
        self.usage = SessionUsage(sessions.clock.now())
        self.deliveries = Deliveries()
        self.requests: dict[str | int, RunContext] = {}
        """The requests that this process handles, by their JSON-RPC ids."""
        self.connection = Connection.for_loop(_SessionChannel(self), session_id=session_id)
        self.runner: ServerRunner[Any] | None = None
        self.is_single = False
        """Whether it is for one POST only: nobody reads its stream, so there is none."""
        self._has_left = False
        self._waiting: dict[str, asyncio.Future[Any]] = {}
        """Questions outside of any request that this process has asked, by their ids."""

    @property
    def stream(self) -> str:
        """The name of the session's stream in the journal."""
        return session_stream(self.tag)

    @property
    def name(self) -> str:
        """The session's own part of its tag, for its client and the logs."""
        return session_name(self.tag)

    @property
    def is_in_use(self) -> bool:
        """True while something goes on in the session here: a request, a run or an open stream."""
        return self.usage.holders > 0 or bool(self.requests)

    def __enter__(self) -> "Session":
        """Keep the session alive while a request or an open stream lasts."""
        self.usage.holders += 1
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.usage.holders -= 1
        self.usage.used = self.sessions.clock.now()
        if self.is_single and not self.usage.holders:
            self.close_connection()

    # Facts

    def record_event(self, event: Event) -> None:
        """Add an event to the session's stream, after those recorded before it; do not wait."""
        self.sessions.spawn_task(self.store_event(event))

    async def store_event(self, event: Event) -> bool:
        """Add an event to the session's stream; every process knows it when this returns.

        If the journal cannot be written only this process knows it, and False is returned.
        """
        # Applied at once, although it is not stored yet: this process must act on what its client
        # has just said. It is applied again when its entry is read, which leads to the same state.
        self._apply_event(event)
        if self.is_single:
            return True
        self.sessions.charge_event(self, event)
        try:
            await self.sessions.journal.append_shared(self.stream, event)
        except StreamEnded:
            return True
        except JournalError as error:
            logger.warning("session %s…: a fact was not stored: %s", self.name[:6], error)
            return False
        # After it is stored: an outbox reads the journal, and would find nothing before.
        self.deliveries.wake_outboxes()
        if _is_news(event):
            await self.sessions.broadcasts.announce_news(
                self, in_order=isinstance(event, _BEFORE_CHANGES)
            )
        return True

    def fold_entries(self, entries: Iterable[Entry]) -> None:
        """Apply entries of the stream, each once, whoever reads them."""
        for entry in entries:
            if entry.seq > self.facts.seq:
                self.facts.seq = entry.seq
                if isinstance(entry.event, SessionOpened):
                    self.facts.summary_seq = entry.seq
                self._apply_event(entry.event)

    @property
    def is_to_be_restated(self) -> bool:
        """True when the stream has grown so long that it needs a new summary."""
        most = min(RESTATE_EVERY, self.sessions.journal.retention.stream_entries // 4)
        return self.facts.is_open and self.facts.seq - self.facts.summary_seq >= most

    def summary_event(self) -> SessionOpened:
        """Return one event that says all that the stream says."""
        params = self.connection.client_params
        said = (
            {}
            if params is None
            else params.model_dump(mode="json", by_alias=True, exclude_none=True)
        )
        return SessionOpened(
            self.connection.protocol_version,
            encode_json(said),
            self.facts.owner,
            self.deliveries.position.changes,
            self.facts.level,
            dict(self.facts.subscriptions),
            self.connection.initialized.is_set(),
        )

    def _apply_event(self, event: Event) -> None:
        if isinstance(event, SessionOpened) and self.facts.is_known:
            return  # a summary of what is known
        self.facts.apply_event(event, self.sessions.broadcasts.process)
        match event:
            case SessionOpened():
                self._apply_opened(event)
            case SessionReady():
                self.connection.initialized.set()
            case StreamPositionSent(seq, changes, listener, begin, begin_changes):
                end = OutboxPosition(seq, changes)
                self.deliveries.mark_sent(end)
                span = Span(listener, OutboxPosition(begin, begin_changes), end)
                self.deliveries.spans.add_span(span)
            case InputAnswered(key, result, is_error):
                self._resolve_question(key, decode_json(result), is_error=is_error)
            case _:
                pass

    def _apply_opened(self, opened: SessionOpened) -> None:
        self.connection.client_params = _client_params(bytes(opened.params))
        self.connection.protocol_version = opened.version
        self.deliveries.mark_sent(OutboxPosition(0, opened.changes))
        if opened.is_ready:
            self.connection.initialized.set()

    # Messages to its client outside of requests

    async def ask_client(self, method: str, params: object, limit: float | None) -> dict[str, Any]:
        """Put a question to the client on the session's own stream and wait for the answer."""
        key = f"get.{self.name}.{secrets.token_urlsafe(9)}"
        answer = self._waiting[key] = asyncio.get_running_loop().create_future()
        self.record_event(
            InputRequested(key, method, None if params is None else encode_json(params))
        )
        late = MCPError(INTERNAL_ERROR, "The client did not answer in time")
        timer = self.sessions.clock.call_later(
            limit or ANSWER_WITHIN, lambda: answer.done() or answer.set_exception(late)
        )
        try:
            return await answer
        finally:
            timer.cancel()
            self._waiting.pop(key, None)
            given_up = answer.cancelled() or not answer.done() or answer.exception() is late
            self.record_event(InputReceived(key, given_up))

    async def accept_answer(self, key: str, result: Raw, *, is_error: bool) -> bool:
        """Hand a client's answer to the call that waits for it here; False when none does.

        An answer to a question outside of any request goes to the process that asked it.
        """
        value = decode_json(result)
        for context in list(self.requests.values()):
            run = context.run
            if run is not None and key.startswith(run.id):
                error = client_error(value) if is_error else None
                return run.answer_question(key, None if is_error else value, error)
        if key not in self.facts.asked:
            return False
        self.facts.asked.discard(key)
        await self.store_event(InputAnswered(key, result, is_error))
        return True

    def _resolve_question(self, key: str, value: Any, *, is_error: bool) -> None:
        waiting = self._waiting.get(key)
        if waiting is None or waiting.done():
            return
        if is_error:
            waiting.set_exception(client_error(value))
        else:
            waiting.set_result(value)

    # Its requests

    def cancel_request(
        self, identity: object, reason: object, scopes: frozenset[str] | None = None
    ) -> bool:
        """Stop a request that this process handles; False where it handles none of that id.

        `scopes` are those of the token that asks for it; None: they do not count.

        Raises:
            ProtocolError: The request was sent with a token that may do more (403).
        """
        context = self.requests.get(identity) if isinstance(identity, str | int) else None
        if context is None or context.run is None:
            return False
        run = context.run
        run.services.access.check_joined(run.request, scopes)
        run.cancel("client", reason[:200] if isinstance(reason, str) else None)
        return True

    def cancel_all(self) -> None:
        """Stop the requests that this process handles, because the session is over.

        A run that its client can come back to without the session, by a key or as a task, goes on.
        """
        for context in list(self.requests.values()):
            if context.run is not None and not context.run.hooks.has_handle:
                context.run.cancel("session", "the session was closed")

    def close_connection(self) -> None:
        """Close what the server opened for the client, when this process is done with the session.

        It is closed when the last of its requests has ended, since that may use it.
        """
        if self._has_left:
            return
        going_on = [run for context in self.requests.values() if (run := context.run) is not None]
        for run in going_on:
            if not run.ended:
                run.on_end(self.close_connection)
                return
        self._has_left = True
        self.sessions.spawn_task(aclose_shielded(self.connection))


class _SessionChannel:
    """The outbound channel of a session, outside of a request (`mcp.shared.dispatcher.Outbound`).

    A message that is sent while a request is being handled belongs to that request, whether the
    author passed its id or not. Questions and progress go to the request's own stream, which the
    client reads, and not to a GET stream that may not be open.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    def _current_context(self) -> RunContext | None:
        run = executing_run()
        if run is None:
            return None
        for context in self._session.requests.values():
            if context.run is run:
                return context
        return None

    async def notify(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> None:
        if method == "notifications/progress":
            context = self._current_context()
            if context is not None and context.run is not None:
                notify_run(context.run, context.token, method, params)
            return
        event, run = as_event(method, params), executing_run()
        if run is not None and method not in _FOR_EVERY_TOKEN:
            event = msgspec.structs.replace(event, run=run.stream)
        self._session.record_event(event)

    async def send_raw_request(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> dict[str, Any]:
        limit = (opts or {}).get("timeout")
        context = self._current_context()
        if context is not None and context.run is not None:
            if not context.can_send_request:
                raise NoBackChannelError(method)
            return await context.run.ask_client(method, params, limit)
        if self._session.is_single:
            raise NoBackChannelError(method)
        return await self._session.ask_client(method, params, limit)


def _is_news(event: Event) -> bool:
    """Return whether other processes have to read an event at once."""
    if isinstance(event, InputReceived):
        return event.given_up  # a client that reads in another process has to get it
    return not isinstance(event, _NO_NEWS)


@lru_cache(maxsize=256)
def _client_params(params: bytes) -> InitializeRequestParams:
    """Return parsed `initialize` params; clients that send the same bytes share one copy."""
    return InitializeRequestParams.model_validate(decode_json(params), by_name=False)


@lru_cache(maxsize=256)
def shared_params(params: bytes) -> Raw:
    """Return `initialize` params; clients that send the same bytes share one copy."""
    return Raw(params)
