"""One 2025 session in this process: the fold of its stream, and what this process handles of it.

Any process may add to the stream and any may answer the next request, so nothing here is more
than a copy: a request begins by taking up what the stream says since.
"""

import asyncio
import logging
import secrets
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

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
    LevelSet,
    SessionClosed,
    SessionOpened,
    SessionReady,
    StreamPositionSent,
    Subscribed,
    Unsubscribed,
    decode_json,
    encode_json,
)
from headway.protocol.eras import ERAS, LOG_LEVELS, Era, rank_of
from headway.streams import session_name, session_stream, session_tag
from headway.transport.sessions.outbox import OutboxPosition, SentSpans, SessionOutbox, Span

if TYPE_CHECKING:
    from headway.transport.sessions.registry import Sessions

logger = logging.getLogger(__name__)

ANSWER_WITHIN: Final = 300.0
"""Seconds a question outside of any request waits for its answer."""

RESTATE_EVERY: Final = 1000
"""Entries of a session's stream after which it is said again what the session is: the oldest
entries of a long stream are dropped."""

_OF_NO_NEWS: Final = (Alive, StreamPositionSent, SessionOpened, SessionReady)
"""What other processes need not hear at once: they take it up with the next request."""

_BEFORE_CHANGES: Final = (Subscribed, Unsubscribed)
"""What has to be heard before the changes that are told behind it."""


class Session:
    """One 2025 session in this process."""

    __slots__ = (
        "_asked", "_has_left", "_level", "_stated", "_waiting", "client", "connection", "era",
        "feeds", "heard", "held", "holds", "id", "is_elsewhere", "is_known", "is_open", "is_single",
        "opened", "owner", "requests", "runner", "seq", "sessions", "signed", "subscriptions",
        "tag", "told", "used",
    )  # fmt: skip

    def __init__(self, sessions: "Sessions", session_id: str, owner: str) -> None:
        self.sessions = sessions
        self.id = session_id
        self.tag = session_tag(owner, session_id)
        self.owner = owner
        self.era: Era = ERAS["2025-11-25"]
        self.client: Raw | None = None
        """Its `initialize` params."""
        self.subscriptions: dict[str, int] = {}
        self.requests: dict[str | int, RunContext] = {}
        self.connection = Connection.for_loop(_SessionChannel(self), session_id=session_id)
        self.runner: ServerRunner[Any] | None = None
        self.seq = 0
        """The last entry of its stream that was taken up."""
        self.heard = OutboxPosition(0, 0)
        """What its client was sent: a GET without an id goes on from there."""
        self.told = SentSpans()
        self.feeds: set[SessionOutbox] = set()
        self.used = self.signed = self.opened = sessions.clock.now()
        self.holds = 0
        self.held = 0
        """Bytes that it is charged in this process."""
        self.is_elsewhere = False
        """Whether another process has been asked something in it."""
        self.is_known = False
        """Whether it was read who opened it."""
        self.is_open = True
        self.is_single = False
        """Whether it is for one POST only: nobody reads its stream, so there is none."""
        self._has_left = False
        self._level = ""
        self._stated = 0
        self._asked: set[str] = set()
        self._waiting: dict[str, asyncio.Future[Any]] = {}

    @property
    def stream(self) -> str:
        """The session's stream in the journal."""
        return session_stream(self.tag)

    @property
    def name(self) -> str:
        """Its part of the tag: what its client and the logs are told."""
        return session_name(self.tag)

    @property
    def level_rank(self) -> int:
        """Log messages below this are not for its client."""
        return rank_of(self._level or LOG_LEVELS[0])

    @property
    def is_in_use(self) -> bool:
        """Whether something goes on in it here: a request, a run or an open stream."""
        return self.holds > 0 or bool(self.requests)

    def __enter__(self) -> "Session":
        """A request or an open stream keeps the session alive while it lasts."""
        self.holds += 1
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.holds -= 1
        self.used = self.sessions.clock.now()
        if self.is_single and not self.holds:
            self.leave()

    # Facts

    def record(self, event: Event) -> None:
        """Add a fact to the session's stream, behind those recorded before it."""
        self.sessions.later(self.keep(event))

    async def keep(self, event: Event) -> bool:
        """Add a fact to the session's stream; every process knows it when this returns.

        Where the journal cannot be written only this one does, and False is returned.
        """
        self._apply(event)
        if self.is_single:
            return True
        self.sessions.charge(self, event)
        try:
            await self.sessions.journal.append_shared(self.stream, event)
        except StreamEnded:
            return True
        except JournalError as error:
            logger.warning("session %s…: a fact was not stored: %s", self.name[:6], error)
            return False
        self.wake()
        if _is_news(event):
            await self.sessions.tell_of(self, in_order=isinstance(event, _BEFORE_CHANGES))
        return True

    def fold(self, entries: Iterable[Entry]) -> None:
        """Take up what the stream says, once, whoever reads it."""
        for entry in entries:
            if entry.seq > self.seq:
                self.seq = entry.seq
                if isinstance(entry.event, SessionOpened):
                    self._stated = entry.seq
                self._apply(entry.event)

    @property
    def is_to_be_restated(self) -> bool:
        """Whether so much was said since it was said what the session is."""
        most = min(RESTATE_EVERY, self.sessions.journal.retention.stream_entries // 4)
        return self.is_open and self.seq - self._stated >= most

    def restated(self) -> SessionOpened:
        """All that the stream says, as one fact."""
        params = self.connection.client_params
        said = (
            {}
            if params is None
            else params.model_dump(mode="json", by_alias=True, exclude_none=True)
        )
        return SessionOpened(
            self.connection.protocol_version,
            encode_json(said),
            self.owner,
            self.heard.changes,
            self._level,
            dict(self.subscriptions),
            self.connection.initialized.is_set(),
        )

    def _apply(self, event: Event) -> None:
        match event:
            case SessionOpened():
                if not self.is_known:
                    self._open(event)
            case SessionReady():
                self.connection.initialized.set()
            case LevelSet():
                self._level = event.level
            case Subscribed():
                self.subscriptions[event.uri] = event.changes
            case Unsubscribed():
                self.subscriptions.pop(event.uri, None)
            case StreamPositionSent(seq, changes, listener, begin, begin_changes):
                self.deliver(OutboxPosition(seq, changes))
                begun = OutboxPosition(begin, begin_changes)
                self.told.add(Span(listener, begun, OutboxPosition(seq, changes)))
            case InputRequested(key):
                self._asked.add(key)
            case InputReceived(key):
                self._asked.discard(key)
            case InputAnswered(key, result, is_error):
                self._hand_on(key, decode_json(result), is_error=is_error)
            case SessionClosed():
                self.is_open = False
            case Alive(by):
                self.is_elsewhere |= by not in ("", self.sessions.process)
            case _:
                pass

    def _open(self, opened: SessionOpened) -> None:
        self.is_known = True
        self.owner, self.client = opened.owner, opened.params
        self.era = ERAS.get(opened.version, self.era)
        self.connection.client_params = _client_params(bytes(opened.params))
        self.connection.protocol_version = opened.version
        self.deliver(OutboxPosition(0, opened.changes))
        self._level = opened.level
        self.subscriptions = dict(opened.subscriptions)
        if opened.is_ready:
            self.connection.initialized.set()

    # What its client hears outside of requests

    def deliver(self, reach: OutboxPosition) -> None:
        """The client was sent all up to this place."""
        self.heard = self.heard.behind(reach)

    def wake(self) -> None:
        """Have who reads the session's stream look for more."""
        for feed in self.feeds:
            feed.wake(has_news=True)

    async def ask(self, method: str, params: object, limit: float | None) -> dict[str, Any]:
        """Put a question to the client on the session's own stream and wait for the answer."""
        key = f"get.{self.name}.{secrets.token_urlsafe(9)}"
        answer = self._waiting[key] = asyncio.get_running_loop().create_future()
        self.record(InputRequested(key, method, None if params is None else encode_json(params)))
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
            self.record(InputReceived(key, given_up))

    async def answer(self, key: str, result: Raw, *, is_error: bool) -> bool:
        """Hand a client's answer to whoever waits for it here; False when nobody does.

        One to a question outside of any request goes to the process that asked it.
        """
        value = decode_json(result)
        for context in list(self.requests.values()):
            run = context.run
            if run is not None and key.startswith(run.id):
                error = client_error(value) if is_error else None
                return run.answer_question(key, None if is_error else value, error)
        if key not in self._asked:
            return False
        self._asked.discard(key)
        await self.keep(InputAnswered(key, result, is_error))
        return True

    def _hand_on(self, key: str, value: Any, *, is_error: bool) -> None:
        waiting = self._waiting.get(key)
        if waiting is None or waiting.done():
            return
        if is_error:
            waiting.set_exception(client_error(value))
        else:
            waiting.set_result(value)

    # Its requests

    def cancel_request(self, identity: object, reason: object) -> bool:
        """Stop a request that this process handles; False where it handles none of that id."""
        context = self.requests.get(identity) if isinstance(identity, str | int) else None
        if context is None or context.run is None:
            return False
        context.run.cancel("client", reason[:200] if isinstance(reason, str) else None)
        return True

    def cancel_all(self) -> None:
        """Stop what this process handles of it, because it is over.

        Not what its client can come back to without it: by a key, or as a task.
        """
        for context in list(self.requests.values()):
            if context.run is not None and not context.run.hooks.has_handle:
                context.run.cancel("session", "the session was closed")

    def leave(self) -> None:
        """This process has done with it: what its server opened for the client is closed.

        Not before the last of its requests has ended, which may use it.
        """
        if self._has_left:
            return
        going_on = [run for context in self.requests.values() if (run := context.run) is not None]
        for run in going_on:
            if not run.ended:
                run.on_end(self.leave)
                return
        self._has_left = True
        self.sessions.later(aclose_shielded(self.connection))


class _SessionChannel:
    """What a server says outside of a request (`mcp.shared.dispatcher.Outbound`).

    Said while a request is being handled it belongs to that request, whether the author
    passed its id or not: questions and progress go on the request's own stream, where the
    client listens, not on a GET stream that may not be open.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    def _context(self) -> RunContext | None:
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
            context = self._context()
            if context is not None and context.run is not None:
                notify_run(context.run, context.token, method, params)
            return
        self._session.record(as_event(method, params))

    async def send_raw_request(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> dict[str, Any]:
        limit = (opts or {}).get("timeout")
        context = self._context()
        if context is not None and context.run is not None:
            if not context.can_send_request:
                raise NoBackChannelError(method)
            return await context.run.ask_client(method, params, limit)
        if self._session.is_single:
            raise NoBackChannelError(method)
        return await self._session.ask(method, params, limit)


def _is_news(event: Event) -> bool:
    """Whether other processes are to hear of it at once."""
    if isinstance(event, InputReceived):
        return event.given_up  # a client that reads elsewhere is told
    return not isinstance(event, _OF_NO_NEWS)


@lru_cache(maxsize=256)
def _client_params(params: bytes) -> InitializeRequestParams:
    """Clients of one kind shake hands alike: they share one parsed copy."""
    return InitializeRequestParams.model_validate(decode_json(params), by_name=False)


@lru_cache(maxsize=256)
def shared(params: bytes) -> Raw:
    """The `initialize` params of clients of one kind, once for all of them."""
    return Raw(params)
