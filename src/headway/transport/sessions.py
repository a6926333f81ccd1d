"""2025 sessions: who shook hands, what they asked to hear, and their own stream.

A session is a stream of facts in the journal, and what a process holds of it is their fold:
another process, or the same one after a restart, takes a session up by reading its stream.
What a server says outside of any request are entries of that stream too; a GET reads them.
"""

import asyncio
import logging
import secrets
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from mcp.server.connection import Connection
from mcp.server.runner import ServerRunner
from mcp.shared.dispatcher import CallOptions
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, InitializeRequestParams
from msgspec import Raw

from headway.clock import Clock, Timer
from headway.engine import BUSY, RunContext, as_event, current_run, tell
from headway.errors import EntriesTrimmed, JournalError, ProtocolError, StreamNotFound
from headway.events import (
    Alive,
    Entry,
    Event,
    InputReceived,
    InputRequested,
    LevelSet,
    Notified,
    SessionClosed,
    SessionOpened,
    SessionReady,
    Subscribed,
    Unsubscribed,
    decode_json,
    encode_json,
)
from headway.journal import Journal
from headway.protocol.cursors import tag_of
from headway.protocol.eras import ERAS, Era, rank_of
from headway.settings import Settings

logger = logging.getLogger(__name__)

ANSWER_WITHIN = 300.0
"""Seconds a question outside of any request waits for its answer."""

SWEEP_SHARE = 10
"""Idle sessions are looked for this many times within `session_ttl`."""

SIGN_SHARE = 2
"""A session in use says so in a journal that outlives the process this often within
`session_ttl`."""

ABANDONED = 1 + 1 / SIGN_SHARE + 1 / SWEEP_SHARE
"""Times `session_ttl` without an entry: by then every process would have noticed some use."""


class Session:
    """One 2025 session in this process."""

    __slots__ = (
        "_asks", "_waiting", "connection", "delivered", "era", "holds", "id", "is_open",
        "level_rank", "owner",
        "requests", "runner", "seq", "sessions", "signed", "subscriptions", "tag", "used",
    )  # fmt: skip

    def __init__(self, sessions: "Sessions", session_id: str, owner: str) -> None:
        self.sessions = sessions
        self.id = session_id
        self.tag = tag_of(session_id)
        self.owner = owner
        self.era: Era = ERAS["2025-11-25"]
        self.level_rank = 0
        self.subscriptions: frozenset[str] = frozenset()
        self.requests: dict[str | int, RunContext] = {}
        self.connection = Connection.for_loop(_SessionChannel(self), session_id=session_id)
        self.runner: ServerRunner[Any] | None = None
        self.seq = 0
        self.delivered = 0
        self.used = self.signed = sessions.clock.now()
        self.holds = 0
        self.is_open = True
        self._waiting: dict[str, asyncio.Future[Any]] | None = None
        self._asks = 0

    @property
    def stream(self) -> str:
        """The session's stream in the journal."""
        return f"session/{self.tag}"

    def __enter__(self) -> None:
        """A request or an open stream keeps the session alive while it lasts."""
        self.holds += 1

    def __exit__(self, *exc_info: object) -> None:
        self.holds -= 1
        self.used = self.sessions.clock.now()

    def deliver(self, seq: int) -> None:
        """The client was sent its stream up to `seq`; the next GET goes on from there."""
        self.delivered = max(self.delivered, seq)

    def record(self, event: Event) -> None:
        """Add a fact to the session's stream."""
        self._apply(event)
        journal = self.sessions.journal
        try:
            self.seq = journal.append_nowait(self.stream, event, after=self.seq)
        except JournalError as error:
            # Another process wrote the stream since: take up its number and try once more.
            logger.info("session %s…: %s", self.tag[:6], error)
            self.sessions.later(self._record_again(event))

    async def _record_again(self, event: Event) -> None:
        try:
            head = await self.sessions.journal.attach(self.stream)
            self.seq = await self.sessions.journal.append(self.stream, [event], after=head.last)
        except JournalError as error:
            logger.warning("session %s…: a fact was not stored: %s", self.tag[:6], error)

    def fold(self, entries: Iterable[Entry]) -> None:
        """Take up what the stream says."""
        for entry in entries:
            self._apply(entry.event)
            self.seq = entry.seq

    def _apply(self, event: Event) -> None:
        match event:
            case SessionOpened():
                self.owner = event.owner
                self.era = ERAS.get(event.version, self.era)
                self.connection.client_params = _client_params(bytes(event.params))
                self.connection.protocol_version = event.version
            case SessionReady():
                self.connection.initialized.set()
            case LevelSet():
                self.level_rank = rank_of(event.level)
            case Subscribed():
                self.subscriptions |= {event.uri}
            case Unsubscribed():
                self.subscriptions -= {event.uri}
            case _:
                pass

    async def ask(self, method: str, params: object, limit: float | None) -> dict[str, Any]:
        """Put a question to the client on the session's own stream and wait for the answer."""
        self._asks += 1
        key = f"get.{self.tag}.{secrets.token_urlsafe(6)}{self._asks}"
        if self._waiting is None:
            self._waiting = {}
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
            self.record(InputReceived(key))

    def answer(self, key: str, result: object, error: Exception | None) -> bool:
        """Hand a client's answer to whoever waits for it; False when nobody does."""
        for context in list(self.requests.values()):
            run = context.run
            if run is not None and key.startswith(run.id) and run.answer(key, result, error):
                return True
        waiting = (self._waiting or {}).get(key)
        if waiting is None or waiting.done():
            return False
        if error is None:
            waiting.set_result(result)
        else:
            waiting.set_exception(error)
        return True


class _SessionChannel:
    """What a server says outside of a request (`mcp.shared.dispatcher.Outbound`).

    Said while a request is being handled it belongs to that request, whether the author
    passed its id or not: questions and progress go on the request's own stream, where the
    client listens, not on a GET stream that may not be open.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    def _context(self) -> RunContext | None:
        run = current_run.get()
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
                tell(context.run, context.token, method, params)
            return
        self._session.record(as_event(method, params))

    async def send_raw_request(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> dict[str, Any]:
        limit = (opts or {}).get("timeout")
        context = self._context()
        if context is not None and context.run is not None:
            return await context.run.ask(method, params, limit)
        return await self._session.ask(method, params, limit)


class Sessions:
    """The 2025 sessions that this process serves."""

    def __init__(self, journal: Journal, settings: Settings, clock: Clock) -> None:
        self.journal = journal
        self.settings = settings
        self.clock = clock
        self._known: dict[str, Session] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._sweeping: Timer | None = None

    def __len__(self) -> int:
        return len(self._known)

    def start(self) -> None:
        """Begin to look for idle sessions, those left by processes that are gone among them."""
        if self.journal.is_durable:
            self.later(self._close_abandoned())
        self._sweeping = self.clock.call_later(self.settings.session_ttl / SWEEP_SHARE, self._sweep)

    async def stop(self) -> None:
        """Let go of everything; the sessions stay in the journal."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)
        self._known.clear()

    def later(self, work: Any) -> None:
        """Run a coroutine on its own."""
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def draft(self, owner: str) -> Session:
        """A session that is not open yet: nothing of it is kept until `open`.

        Raises:
            ProtocolError: There are as many sessions as there may be (503).
        """
        if len(self._known) >= self.settings.max_sessions:
            raise ProtocolError(
                BUSY,
                f"{len(self._known)} sessions are open and no more are accepted; "
                "close one with DELETE, or try again later",
                status=503,
                retry_after=10,
            )
        return Session(self, secrets.token_urlsafe(24), owner)

    def open(self, session: Session, version: str, params: object) -> None:
        """The handshake is done: keep the session."""
        self._known[session.id] = session
        session.record(SessionOpened(version, _shared(bytes(encode_json(params))), session.owner))

    async def find(self, session_id: str, owner: str) -> Session:
        """The session with this id, taken up from the journal if another process opened it.

        Raises:
            ProtocolError: 404 for an unknown, an expired and a foreign session alike.
        """
        session = self._known.get(session_id) or await self._adopt(session_id)
        if session is None or session.owner != owner:
            raise ProtocolError(
                -32600,
                "No such session: it has ended or expired; send initialize to open a new one",
                status=404,
            )
        session.used = self.clock.now()
        return session

    async def _adopt(self, session_id: str) -> Session | None:
        session = Session(self, session_id, "")
        try:
            if await self.journal.head(session.stream) is None:
                return None
            while True:
                # Not `head`, which shows an end only when it is stored: the session that a
                # client closed a moment ago must not come back.
                head = await self.journal.attach(session.stream)
                if head.ended:
                    return None
                if session.seq >= head.last:
                    break
                session.fold(await self.journal.read(session.stream, after=session.seq))
        except (StreamNotFound, EntriesTrimmed):
            return None
        session.delivered = session.seq
        return self._known.setdefault(session_id, session)

    def close(self, session: Session, reason: str) -> None:
        """End a session: its id is unknown from now on, its runs are cancelled.

        Not those that a client can come back to without it: by their key, or as a task.
        """
        self._known.pop(session.id, None)
        session.is_open = False
        session.record(SessionClosed(reason))
        for context in list(session.requests.values()):
            if context.run is not None and not context.run.has_handle:
                context.run.cancel("session", "the session was closed")

    def broadcast(self, method: str, params: dict[str, Any] | None, uri: str | None = None) -> None:
        """Tell all sessions of a change; one of a resource only those that subscribed."""
        event = Notified(method, encode_json(params) if params else None)
        for session in list(self._known.values()):
            if uri is None or uri in session.subscriptions:
                session.record(event)

    def _sweep(self) -> None:
        now, ttl = self.clock.now(), self.settings.session_ttl
        for session in list(self._known.values()):
            is_idle = not session.holds and not session.requests and session.used < now - ttl
            if not self.journal.is_durable:
                if is_idle:
                    self.close(session, "idle")
            elif is_idle:
                # Another process may still serve it: its age in the journal decides.
                del self._known[session.id]
            elif session.signed < now - ttl / SIGN_SHARE:
                session.signed = now
                session.record(Alive())
        self.start()

    async def _close_abandoned(self) -> None:
        """End the sessions that no process has seen any use of."""
        limit = self.clock.time() - ABANDONED * self.settings.session_ttl
        try:
            for stream in await self.journal.streams("session/", unfinished=True):
                head = await self.journal.head(stream)
                if head is None or head.ended:
                    continue
                last = await self.journal.read(stream, after=head.last - 1)
                if last and last[-1].time < limit:
                    closing = [SessionClosed("idle")]
                    await self.journal.append(stream, closing, after=head.last)
        except JournalError as error:
            logger.warning("idle sessions were not looked for: %s", error)


@lru_cache(maxsize=256)
def _client_params(params: bytes) -> InitializeRequestParams:
    """Clients of one kind shake hands alike: they share one parsed copy."""
    return InitializeRequestParams.model_validate(decode_json(params), by_name=False)


@lru_cache(maxsize=256)
def _shared(params: bytes) -> Raw:
    return Raw(params)
