"""The 2025 sessions of a process: opened, found, closed and forgotten.

A session is a stream of facts in the journal, and what a process holds of it is their fold:
whichever process gets the next request takes the session up by reading on in its stream. Messages
of a server outside of any request are entries of that stream too; a GET reads them.
"""

import asyncio
import secrets
from collections import Counter
from functools import partial
from typing import Any

from headway.background import BackgroundTasks
from headway.clock import Clock
from headway.errors import (
    EntriesTrimmed,
    JournalError,
    StreamNotFound,
    journal_away,
)
from headway.events import (
    Alive,
    Entry,
    Event,
    SessionClosed,
    SessionOpened,
    encode_json,
    size_of,
)
from headway.journal import Journal
from headway.journal.cursor import PAGE_ENTRIES
from headway.log_lines import quiet_logger
from headway.settings import Settings
from headway.stream_names import principal_tag, session_stream
from headway.transport.sessions.expiry import close_if_unused, no_session, too_many
from headway.transport.sessions.session import Session, shared_params
from headway.transport.sessions.session_broadcasts import SessionBroadcasts
from headway.transport.sessions.session_eviction import OVERHEAD, SessionBounds
from headway.transport.sessions.session_index import KnownSessions
from headway.transport.sessions.session_sweep import SessionSweep

logger = quiet_logger(__name__)

SESSIONS_STOP_TIMEOUT = 5.0
"""Seconds that a stop waits for what sessions still write."""

STORE_WITHIN = 1.0
"""Seconds that a client who closes its session waits for all processes to know."""


class Sessions:
    """The 2025 sessions that this process serves."""

    def __init__(self, journal: Journal, settings: Settings, clock: Clock) -> None:
        self.journal = journal
        self.settings = settings
        self.clock = clock
        self.known = KnownSessions()
        self.broadcasts = SessionBroadcasts(
            journal,
            clock,
            self.known,
            self.spawn_task,
            self._refresh_known,
        )
        self.sweep = SessionSweep(self)
        self.room = SessionBounds(settings.max_session_bytes)
        self.made_room = Counter[str]()  # sessions that made room for others, by the setting
        self._ending: dict[str, Session] = {}  # closed, and not in the journal yet
        self._opening = set[Session]()  # known, but perhaps not in the journal yet
        self._tasks = BackgroundTasks("sessions")

    def __len__(self) -> int:
        return len(self.known)

    async def start(self) -> None:
        """Read what other processes publish, and begin to look for idle sessions.

        Raises:
            JournalError: The journal cannot be written.
        """
        await self.broadcasts.open()
        self.sweep.start()

    async def stop(self) -> None:
        """Let go of everything; the sessions stay in the journal."""
        self.sweep.stop()
        for session in self.known:
            session.close_connection()
        await self._tasks.stop(SESSIONS_STOP_TIMEOUT)
        await self.broadcasts.close()
        self.known.clear()

    def spawn_task(self, work: Any) -> None:
        """Run a coroutine on its own."""
        self._tasks.start(work)

    # Opening, finding and closing

    def draft_session(self, owner: str) -> Session:
        """Return a session that is not open yet: nothing of it is kept until `open_session`.

        Raises:
            ProtocolError: This process has as many sessions as it may (503).
        """
        if len(self.known) >= self.settings.max_sessions and not self._make_room("max_sessions"):
            many = f"{len(self.known)} sessions are open and no more are accepted"
            raise too_many(many, "max_sessions")
        return Session(self, secrets.token_urlsafe(24), owner)

    async def open_session(self, session: Session, version: str, params: object) -> None:
        """Keep a session after its handshake, where every process finds it.

        Raises:
            ProtocolError: Its caller has as many sessions as it may (503).
        """
        await self._check_owner(session.facts.owner)
        said = shared_params(bytes(encode_json(params)))
        self.check_bytes(session, len(bytes(said)))
        # Nothing was awaited since the checks, so no other session of this process came between.
        self.known.add(session)
        self.room.add_opened(session)
        self._opening.add(session)
        try:
            await session.store_event(
                SessionOpened(version, said, session.facts.owner, self.broadcasts.changes.last)
            )
        finally:
            self._opening.discard(session)

    async def _check_owner(self, owner: str) -> None:
        """Check that an authenticated caller may have one more session, counted over all processes.

        Raises:
            ProtocolError: It has as many as it may (503).
        """
        if not owner:
            return
        most = self.settings.max_sessions_each
        prefix = session_stream(principal_tag(owner))
        many = await self.journal.global_count.count_unfinished(
            prefix, partial(self._opening_streams, owner), most
        )
        mine = self.known.count_of(owner) if many is None else many
        if mine >= most:
            raise too_many(f"{mine} of your sessions are open", "max_sessions_each")

    def _opening_streams(self, owner: str) -> list[str]:
        """Return the caller's sessions that may not be stored yet.

        The journal counts all others, and it knows which of them have been closed.
        """
        return [session.stream for session in self._opening if session.facts.owner == owner]

    async def find_session(self, session_id: str, owner: str, *, uses: bool = True) -> Session:
        """Return the session with this id as it is now, whichever process opened it.

        With `uses` a request is about to be made in it; a client that only says that it is ready
        does not use it yet.

        Raises:
            ProtocolError: 404 for an unknown, an expired and a foreign session alike; 503 for one
                that cannot be read at the moment.
        """
        if session_id in self._ending:
            raise no_session()
        known = self.known.get(session_id)
        session = known or Session(self, session_id, owner)
        await self._refresh_session(session, is_known=known is not None)
        if not session.facts.is_open or not session.facts.is_known or session.facts.owner != owner:
            raise no_session()
        if known is None:
            session = self.known.get(session_id) or self._adopt_session(session)
        session.usage.used = self.clock.now()
        if uses:
            self.room.mark_used(session)
        if session.is_to_be_restated:
            session.record_event(session.summary_event())
        return session

    async def _refresh_known(self, session: Session) -> None:
        await self._refresh_session(session, is_known=True)

    async def _refresh_session(self, session: Session, *, is_known: bool) -> None:
        """Read on in a session's stream.

        Raises:
            ProtocolError: The journal cannot be read, and nothing is known of the session (503).
        """
        try:
            if not self._is_current(session):
                await self._read_on(session)
        except JournalError as error:
            if not is_known:
                raise journal_away() from None
            # The known facts may be old, but that is no reason to refuse the client.
            logger.warning("session %s… was not looked at: %s", session.name[:6], error)
        if is_known and not session.facts.is_open:
            self._end_here(session)

    def _is_current(self, session: Session) -> bool:
        """Return whether its stream is in memory, and has nothing that was not read."""
        buffer, seq = self.journal.buffer_of(session.stream), session.facts.seq
        return buffer is not None and buffer.base <= seq and buffer.visible <= seq

    async def _read_on(self, session: Session) -> None:
        page: list[Entry] | None = None
        while page is None or page:
            try:
                page = await self.journal.read(session.stream, after=session.facts.seq)
            except EntriesTrimmed as error:
                session.facts.seq = error.first - 1
                continue
            except StreamNotFound:
                session.facts.is_open = False
                return
            before = session.facts.seq
            session.fold_entries(page)
            if session.facts.seq == before or not session.facts.is_open or len(page) < PAGE_ENTRIES:
                return

    def _adopt_session(self, session: Session) -> Session:
        """Keep a session that another process has opened, and let that process know."""
        self.known.add(session)
        self.room.charge(session, OVERHEAD + len(bytes(session.facts.client or b"")))
        session.record_event(Alive(self.broadcasts.process))
        return session

    def forget_session(self, session: Session) -> None:
        """Let go of a session here; it stays open for the others."""
        if self.known.remove(session):
            self.room.forget(session)
        session.close_connection()

    async def close_session(self, session: Session, reason: str) -> None:
        """End a session: its id is unknown from now on, and its runs end as `on_delete` says.

        That holds in every process. If the journal cannot be written it holds here, and in the
        others as soon as it can.
        """
        # Unknown here from this moment, also while the journal is away: `_ending` keeps
        # `find_session` from adopting it again.
        self._end_here(session)
        self._ending[session.id] = session
        storing = self._tasks.start(self._store_end(session, reason))
        await asyncio.wait([storing], timeout=STORE_WITHIN)

    def store_ends_again(self) -> None:
        """Try again to store the ends that the journal did not take."""
        for session in list(self._ending.values()):
            self.spawn_task(self._store_end(session, "it was closed"))

    async def _store_end(self, session: Session, reason: str) -> None:
        if await session.store_event(SessionClosed(reason)):
            self._ending.pop(session.id, None)

    def _end_here(self, session: Session) -> None:
        """End a session that some process has closed."""
        self.forget_session(session)
        session.facts.is_open = False
        session.deliveries.wake_outboxes()
        if self.settings.on_delete == "cancel":
            session.cancel_all()

    # Making room

    def charge_event(self, session: Session, event: Event) -> None:
        """Count the bytes of an event that a known session has added to its stream."""
        if session.id in self.known:
            most = self.journal.retention.stream_bytes
            size = min(OVERHEAD + size_of(event), max(0, most - session.usage.charged))
            self.room.charge(session, size)

    def check_bytes(self, session: Session, size: int) -> None:
        """Check that a session may hold so many bytes more; others make room for it.

        Raises:
            ProtocolError: All that may be held is, or its caller's part of it (503).
        """
        size += OVERHEAD
        is_full = self.room.is_full(session.facts.owner, size)
        while not self.room.has_room(size) and not is_full:
            is_full = not self._make_room("max_session_bytes", but=session)
        if is_full:
            what = f"sessions hold as many bytes as they may ({self.room.held})"
            raise too_many(what, "max_session_bytes")

    def _make_room(self, setting: str, *, but: Session | None = None) -> bool:
        """Remove the session that is the first to make room; False where none may."""
        session = self.room.next_to_go(but=but)
        if session is None:
            return False
        self.made_room[setting] += 1
        self.evict_session(session, "it made room for others")
        return True

    def evict_session(self, session: Session, reason: str) -> None:
        """Forget a session, and close it unless another process has it."""
        self.forget_session(session)
        if self.journal.is_durable:
            # The journal has what other processes did in it, and what its client does meanwhile.
            self.spawn_task(close_if_unused(session, reason, self._read_on, self.known))
        else:
            session.facts.is_open = False
            self._ending[session.id] = session
            self.spawn_task(self._store_end(session, reason))
