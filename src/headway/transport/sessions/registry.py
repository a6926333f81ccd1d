"""The 2025 sessions of a process, and what processes publish to each other about them.

A session is a stream of facts in the journal, and what a process holds of it is their fold:
whichever process gets the next request takes the session up by reading on in its stream. What a
server says outside of any request are entries of that stream too; a GET reads them.

Two broadcast streams join the processes. `changes` has what clients are sent: a list or a resource
has changed. `notices` has what only processes need: a session has news, a request is to be
stopped, a stream has a newer reader.
"""

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from headway.background import BackgroundTasks
from headway.clock import Clock, Timer
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
    decode_json,
    encode_json,
    size_of,
)
from headway.journal import Journal
from headway.journal.cursor import PAGE_ENTRIES
from headway.notices import Changed, ReaderCame, RequestCancelled, SessionTold
from headway.settings import Settings
from headway.streams import CHANGES, NOTICES, principal_tag, session_stream, session_tag_of
from headway.transport.sessions.bounds import OVERHEAD, READY_WITHIN, SessionBounds
from headway.transport.sessions.broadcast import BroadcastStream
from headway.transport.sessions.expiry import close_abandoned, close_if_unused, no_session, too_many
from headway.transport.sessions.session import Session, shared_params

logger = logging.getLogger(__name__)

SWEEP_SHARE = 10
"""Idle sessions are looked for this many times within `session_ttl`."""

SIGN_SHARE = 2
"""A session in use says so in a journal that outlives the process this often within
`session_ttl`."""

ABANDONED = 1 + 1 / SIGN_SHARE + 1 / SWEEP_SHARE
"""Times `session_ttl` without an entry: by then every process would have noticed some use."""

SESSIONS_STOP_TIMEOUT = 5.0
"""Seconds that a stop waits for what sessions still write."""

STORE_WITHIN = 1.0
"""Seconds that a client who closes its session waits for all processes to know."""

CHANGES_HELD = 256
"""The newest changes that are held in memory, for streams that are open."""


class Sessions:
    """The 2025 sessions that this process serves."""

    def __init__(self, journal: Journal, settings: Settings, clock: Clock) -> None:
        self.journal = journal
        self.settings = settings
        self.clock = clock
        self.process = secrets.token_urlsafe(8)
        """A name for this process that no other one has."""
        self.changes = BroadcastStream(journal, clock, CHANGES, self._on_change, kept=CHANGES_HELD)
        self.notices = BroadcastStream(journal, clock, NOTICES, self._on_notice)
        self.on_change: Callable[[Changed], Awaitable[None]] = _ignore_change
        """Told of changes that another process has said."""
        self.on_reader: Callable[[str, int, str | None, str], None] = _do_nothing
        """Told of a stream that a client reads in another process: since which notice, under which
        name where it may have several readers, and the tag of the process."""
        self.on_reader_left: Callable[[str, int], None] = _do_nothing
        """Told that this reader is there no longer."""
        self.tag: Callable[[], str] = str
        """The tag of this process."""
        self._known: dict[str, Session] = {}
        self._by_tag: dict[str, Session] = {}
        self._ending: dict[str, Session] = {}  # closed, and not in the journal yet
        self._opening = set[Session]()  # known, but perhaps not in the journal yet
        self._each = Counter[str]()  # of each principal
        self._tasks = BackgroundTasks("sessions")
        self._sweeping: Timer | None = None
        self.expired = 0  # sessions let go of because they were idle
        self.made_room = Counter[str]()  # sessions that made room for others, by the setting
        self.room = SessionBounds(settings.max_session_bytes)
        self._readying: Timer | None = None
        self._is_looking = False

    def __len__(self) -> int:
        return len(self._known)

    @property
    def most_of_one(self) -> int:
        """The number of sessions of the authenticated caller that has most."""
        return max((many for owner, many in self._each.items() if owner), default=0)

    async def start(self) -> None:
        """Read what other processes publish, and begin to look for idle sessions.

        Raises:
            JournalError: The journal cannot be written.
        """
        await self.changes.open()
        await self.notices.open()
        self._schedule_sweep()
        self._look_for_unready()

    async def stop(self) -> None:
        """Let go of everything; the sessions stay in the journal."""
        for timer in (self._sweeping, self._readying):
            if timer is not None:
                timer.cancel()
        for session in list(self._known.values()):
            session.close_connection()
        await self._tasks.stop(SESSIONS_STOP_TIMEOUT)
        await self.changes.close()
        await self.notices.close()
        self._known.clear()
        self._by_tag.clear()
        self._each.clear()

    def spawn_task(self, work: Any) -> None:
        """Run a coroutine on its own."""
        self._tasks.start(work)

    # Opening, finding and closing

    def draft_session(self, owner: str) -> Session:
        """Return a session that is not open yet: nothing of it is kept until `open_session`.

        Raises:
            ProtocolError: This process has as many sessions as it may (503).
        """
        if len(self._known) >= self.settings.max_sessions and not self._make_room("max_sessions"):
            many = f"{len(self._known)} sessions are open and no more are accepted"
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
        # Nothing was waited for since: no other one of this process can have come between.
        self._add_known(session)
        self.room.add_opened(session)
        self._opening.add(session)
        try:
            await session.store_event(
                SessionOpened(version, said, session.facts.owner, self.changes.last)
            )
        finally:
            self._opening.discard(session)

    async def _check_owner(self, owner: str) -> None:
        """See that an authenticated caller may have one more session, of those of all processes.

        Raises:
            ProtocolError: It has as many as it may (503).
        """
        if not owner:
            return
        most = self.settings.max_sessions_each
        prefix = session_stream(principal_tag(owner))
        many = await self.journal.everywhere.count(
            prefix, partial(self._opening_streams, owner), most
        )
        mine = self._each[owner] if many is None else many
        if mine >= most:
            raise too_many(f"{mine} of your sessions are open", "max_sessions_each")

    def _opening_streams(self, owner: str) -> list[str]:
        """Return the caller's sessions that may not be stored yet.

        Of the others the journal knows more than this process: which have been closed.
        """
        return [session.stream for session in self._opening if session.facts.owner == owner]

    async def find_session(self, session_id: str, owner: str, *, uses: bool = True) -> Session:
        """Return the session with this id as it is now, whichever process opened it.

        With `uses` something is about to be asked in it; a client that says no more than that it
        is ready does not use it yet.

        Raises:
            ProtocolError: 404 for an unknown, an expired and a foreign session alike; 503 for one
                that cannot be read at the moment.
        """
        if session_id in self._ending:
            raise no_session()
        known = self._known.get(session_id)
        session = known or Session(self, session_id, owner)
        await self._refresh_session(session, is_known=known is not None)
        if not session.facts.is_open or not session.facts.is_known or session.facts.owner != owner:
            raise no_session()
        if known is None:
            session = self._known.get(session_id) or self._adopt_session(session)
        session.usage.used = self.clock.now()
        if uses:
            self.room.mark_used(session)
        if session.is_to_be_restated:
            session.record_event(session.summary_event())
        return session

    async def _refresh_session(self, session: Session, *, is_known: bool) -> None:
        """Read on in a session's stream.

        Raises:
            ProtocolError: The journal cannot be read, and nothing is known of the session (503).
        """
        try:
            await self._read_on(session)
        except JournalError as error:
            if not is_known:
                raise journal_away() from None
            # What is known may be old, but a client is not to be sent away for that.
            logger.warning("session %s… was not looked at: %s", session.name[:6], error)
        if is_known and not session.facts.is_open:
            self._end_here(session)

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

    def _add_known(self, session: Session) -> Session:
        self._known[session.id] = session
        self._by_tag[session.tag] = session
        self._each[session.facts.owner] += 1
        return session

    def _adopt_session(self, session: Session) -> Session:
        """Keep a session that another process has opened, and let that one know."""
        self._add_known(session)
        self.room.charge(session, OVERHEAD + len(bytes(session.facts.client or b"")))
        session.record_event(Alive(self.process))
        return session

    def _remove_known(self, session: Session) -> None:
        if self._known.pop(session.id, None) is not None:
            self.room.forget(session)
            del self._by_tag[session.tag]
            self._each[session.facts.owner] -= 1
            if not self._each[session.facts.owner]:
                del self._each[session.facts.owner]
        session.close_connection()

    async def close_session(self, session: Session, reason: str) -> None:
        """End a session: its id is unknown from now on, and its runs end as `on_delete` says.

        In every process, unless the journal cannot be written: then here, and in the others when
        it can be.
        """
        self._end_here(session)
        self._ending[session.id] = session
        storing = self._tasks.start(self._store_end(session, reason))
        await asyncio.wait([storing], timeout=STORE_WITHIN)

    async def _store_end(self, session: Session, reason: str) -> None:
        if await session.store_event(SessionClosed(reason)):
            self._ending.pop(session.id, None)

    def _end_here(self, session: Session) -> None:
        """End a session that some process has closed."""
        self._remove_known(session)
        session.facts.is_open = False
        session.deliveries.wake_outboxes()
        if self.settings.on_delete == "cancel":
            session.cancel_all()

    # Making room

    def charge_event(self, session: Session, event: Event) -> None:
        """Count what a fact takes that a session known here has added to its stream."""
        if session.id in self._known:
            most = self.journal.retention.stream_bytes
            size = min(OVERHEAD + size_of(event), max(0, most - session.usage.charged))
            self.room.charge(session, size)

    def check_bytes(self, session: Session, size: int) -> None:
        """See that a session may hold so many bytes more; others make room for it.

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
        self._evict_session(session, "it made room for others")
        return True

    def _evict_session(self, session: Session, reason: str) -> None:
        """Forget a session, and close it unless another process has it."""
        self._remove_known(session)
        if self.journal.is_durable:
            # What another process has done in it, and what its client does meanwhile, is in there.
            self.spawn_task(close_if_unused(session, reason, self._read_on, self._known))
        else:
            session.facts.is_open = False
            self._ending[session.id] = session
            self.spawn_task(self._store_end(session, reason))

    def _look_for_unready(self) -> None:
        """Forget the sessions whose clients opened them and were never heard of again."""
        for session in self.room.not_ready(self.clock.now() - READY_WITHIN):
            self.expired += 1
            self._evict_session(session, "its client was never ready")
        self._readying = self.clock.call_later(READY_WITHIN / 2, self._look_for_unready)

    # Between processes

    async def announce_news(self, session: Session, *, in_order: bool = False) -> None:
        """Tell the other processes to read on in a session; `in_order`: before later changes."""
        if self.journal.is_durable:
            stream = self.changes if in_order else self.notices
            await stream.publish(SessionTold(session.tag))

    async def cancel_elsewhere(self, session: Session, identity: object, reason: object) -> None:
        """Stop a request of a session that this process does not handle."""
        if self.journal.is_durable:
            why = reason[:200] if isinstance(reason, str) else None
            await self.notices.publish(RequestCancelled(session.tag, encode_json(identity), why))

    async def announce_reader(self, stream: str, listener: str | None = None) -> int:
        """Announce that a client reads a stream here now; what another process sends of it ends.

        With a `listener` the stream may have several readers: of those elsewhere only the one of
        that name ends, and the others wait. Returns the number of the notice: of two readers the
        one with the higher number is the newer.
        """
        if not self.journal.is_durable:
            return 0
        came = ReaderCame(stream, self.process, listener or "", self.tag() if listener else "")
        return await self.notices.publish(came)

    async def announce_reader_left(self, stream: str, came: int) -> None:
        """Announce that the reader of this notice is gone; others may go on."""
        if came:
            await self.notices.publish(ReaderCame(stream, self.process, left=came))

    def publish_change(self, method: str, uri: str = "") -> None:
        """Publish a change to all clients; that of a resource to those that subscribed to it."""
        self.spawn_task(self.changes.publish(Changed(method, uri, self.process)))

    def notify_subscribers(self, uri: str, told: Callable[[Session], None]) -> None:
        """Call `told` for the sessions known here that subscribed to `uri`."""
        for session in list(self._known.values()):
            if uri in session.facts.subscriptions:
                told(session)

    def _on_change(self, entry: Entry) -> None:
        match entry.event:
            case SessionTold(tag):
                self._on_news(tag)
            case Changed(by=by) as change:
                if by != self.process:
                    self.spawn_task(self.on_change(change))
                for session in self._known.values():
                    for outbox in session.deliveries.outboxes:
                        outbox.wake()
            case _:
                pass

    def _on_notice(self, entry: Entry) -> None:
        match entry.event:
            case SessionTold(tag):
                self._on_news(tag)
            case RequestCancelled(tag, request, reason):
                session = self._by_tag.get(tag)
                if session is not None:
                    session.cancel_request(decode_json(request), reason)
            case ReaderCame(stream, by, left=came) if came and by != self.process:
                self.spawn_task(self._reader_left(stream, came))
            case ReaderCame(stream, by, listener, process) if by != self.process:
                self.on_reader(stream, entry.seq, listener or None, process)
            case _:
                pass

    async def _reader_left(self, stream: str, came: int) -> None:
        session = self._by_tag.get(session_tag_of(stream))
        if session is not None:  # it was said in its stream what that reader was sent
            await self._refresh_session(session, is_known=True)
        self.on_reader_left(stream, came)

    def _on_news(self, tag: str) -> None:
        """Wake the outboxes of a session that has news, and read on in its stream."""
        session = self._by_tag.get(tag)
        if session is not None:
            session.deliveries.wake_outboxes()
            self.spawn_task(self._refresh_session(session, is_known=True))

    # Idle sessions

    def _schedule_sweep(self) -> None:
        """Look for idle sessions, those left by processes that are gone among them."""
        if self.journal.is_durable and not self._is_looking:
            self.spawn_task(self._close_abandoned())
        self._sweeping = self.clock.call_later(
            self.settings.session_ttl / SWEEP_SHARE, self._sweep_idle
        )

    def _sweep_idle(self) -> None:
        now, ttl = self.clock.now(), self.settings.session_ttl
        for session in list(self._ending.values()):
            self.spawn_task(self._store_end(session, "it was closed"))
        for session in list(self._known.values()):
            is_idle = not session.is_in_use and session.usage.used < now - ttl
            if not self.journal.is_durable:
                if is_idle:
                    self.expired += 1
                    self.spawn_task(self.close_session(session, "idle"))
            elif is_idle:
                # Another process may still serve it: its age in the journal decides.
                self.expired += 1
                self._remove_known(session)
            elif session.usage.signed < now - ttl / SIGN_SHARE:
                session.usage.signed = now
                session.record_event(Alive(self.process))
        self._schedule_sweep()

    async def _close_abandoned(self) -> None:
        """End the sessions that no process has seen any use of."""
        self._is_looking = True  # one pass may take longer than the time to the next
        try:
            known = {session.stream for session in self._known.values()}
            limit = self.clock.time() - ABANDONED * self.settings.session_ttl
            await close_abandoned(self.journal, limit, known)
        finally:
            self._is_looking = False


def _do_nothing(*_: object) -> None:
    pass


async def _ignore_change(_change: Changed) -> None:
    pass
