"""The messages that processes broadcast to each other about sessions.

Two broadcast streams join the processes. `changes` is for clients: a list or a resource has
changed. `notices` is for processes only: a session has news, a request has to be stopped, a stream
has a newer reader.
"""

import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from headway.broadcast_events import Changed, ReaderCame, RequestCancelled, SessionTold
from headway.clock import Clock
from headway.errors import ProtocolError
from headway.events import Entry, decode_json, encode_json
from headway.journal import Journal
from headway.stream_names import CHANGES, NOTICES, session_tag_of
from headway.transport.sessions.broadcast_stream import BroadcastStream
from headway.transport.sessions.session import Session
from headway.transport.sessions.session_index import KnownSessions

CHANGES_HELD = 256
"""The newest changes that are held in memory, for streams that are open."""


class SessionBroadcasts:
    """Publishes to other processes what concerns sessions, and acts on what they publish.

    Args:
        journal: The one that the processes share.
        clock: Of the process.
        known: The sessions of this process.
        spawn: Runs a coroutine on its own.
        refresh: Reads on in the stream of a known session.
    """

    def __init__(
        self,
        journal: Journal,
        clock: Clock,
        known: KnownSessions,
        spawn: Callable[[Any], None],
        refresh: Callable[[Session], Awaitable[None]],
    ) -> None:
        self.process = secrets.token_urlsafe(8)
        """A name for this process that no other one has."""
        self.changes = BroadcastStream(journal, clock, CHANGES, self._on_change, kept=CHANGES_HELD)
        self.notices = BroadcastStream(journal, clock, NOTICES, self._on_notice)
        self.on_change: Callable[[Changed], Awaitable[None]] = _ignore_change
        """Called with each change that another process has published."""
        self.on_reader: Callable[[str, int, str | None, str], None] = _do_nothing
        """Called for a stream that a client reads in another process: since which notice, under
        which name where it may have several readers, and the tag of the process."""
        self.on_reader_left: Callable[[str, int], None] = _do_nothing
        """Called when this reader is there no longer."""
        self.tag: Callable[[], str] = str
        """Returns the tag of this process."""
        self._journal = journal
        self._known = known
        self._spawn = spawn
        self._refresh = refresh

    async def open(self) -> None:
        """Read what other processes publish, from now on.

        Raises:
            JournalError: The journal cannot be written.
        """
        await self.changes.open()
        await self.notices.open()

    async def close(self) -> None:
        """Read nothing any more."""
        await self.changes.close()
        await self.notices.close()

    async def announce_news(self, session: Session, *, in_order: bool = False) -> None:
        """Tell the other processes to read on in a session; `in_order`: before later changes."""
        if self._journal.is_durable:
            stream = self.changes if in_order else self.notices
            await stream.publish(SessionTold(session.tag))

    async def cancel_elsewhere(
        self,
        session: Session,
        identity: object,
        reason: object,
        scopes: frozenset[str] | None = None,
    ) -> None:
        """Stop a request of a session that this process does not handle.

        `scopes` are those of the token that asks for it; None: they do not count.
        """
        if self._journal.is_durable:
            why = reason[:200] if isinstance(reason, str) else None
            held = None if scopes is None else sorted(scopes)
            notice = RequestCancelled(session.tag, encode_json(identity), why, held)
            await self.notices.publish(notice)

    async def announce_reader(self, stream: str, listener: str | None = None) -> int:
        """Announce that a client reads a stream here now; what another process sends of it ends.

        With a `listener` the stream may have several readers: of those elsewhere only the one of
        that name ends, and the others wait. Returns the number of the notice: of two readers the
        one with the higher number is the newer.
        """
        if not self._journal.is_durable:
            return 0
        came = ReaderCame(stream, self.process, listener or "", self.tag() if listener else "")
        return await self.notices.publish(came)

    async def announce_reader_left(self, stream: str, came: int) -> None:
        """Announce that the reader of this notice is gone; others may go on."""
        if came:
            await self.notices.publish(ReaderCame(stream, self.process, left=came))

    def publish_change(self, method: str, uri: str = "") -> None:
        """Publish a change to all clients; that of a resource to those that subscribed to it."""
        self._spawn(self.changes.publish(Changed(method, uri, self.process)))

    def notify_subscribers(self, uri: str, told: Callable[[Session], None]) -> None:
        """Call `told` for the sessions known here that subscribed to `uri`."""
        for session in self._known:
            if uri in session.facts.subscriptions:
                told(session)

    def _on_change(self, entry: Entry) -> None:
        match entry.event:
            case SessionTold(tag):
                self._on_news(tag)
            case Changed(by=by) as change:
                if by != self.process:
                    self._spawn(self.on_change(change))
                for session in self._known:
                    for outbox in session.deliveries.outboxes:
                        outbox.wake()
            case _:
                pass

    def _on_notice(self, entry: Entry) -> None:
        match entry.event:
            case SessionTold(tag):
                self._on_news(tag)
            case RequestCancelled(tag, request, reason, scopes):
                session = self._known.with_tag(tag)
                held = None if scopes is None else frozenset(scopes)
                if session is not None:
                    with suppress(ProtocolError):  # it may not, and nobody is there to be told
                        session.cancel_request(decode_json(request), reason, held)
            case ReaderCame(stream, by, left=came) if came and by != self.process:
                self._spawn(self._reader_left(stream, came))
            case ReaderCame(stream, by, listener, process) if by != self.process:
                self.on_reader(stream, entry.seq, listener or None, process)
            case _:
                pass

    async def _reader_left(self, stream: str, came: int) -> None:
        session = self._known.with_tag(session_tag_of(stream))
        if session is not None:  # its stream says what that reader was sent
            await self._refresh(session)
        self.on_reader_left(stream, came)

    def _on_news(self, tag: str) -> None:
        """Wake the outboxes of a session that has news, and read on in its stream."""
        session = self._known.with_tag(tag)
        if session is not None:
            session.deliveries.wake_outboxes()
            self._spawn(self._refresh(session))


def _do_nothing(*_: object) -> None:
    pass


async def _ignore_change(_change: Changed) -> None:
    pass
