"""A session's own stream as its client reads it: the entries of the session, and the changes.

A change of the server is one entry on a broadcast stream, whatever the number of sessions; here
that stream and the session's own are read as one. An outbox has the methods of a cursor
(`journal/cursor.py`) and its rule: a wake-up is a hint, a read is the truth. Its session wakes it,
so that thousands of outboxes without news ask the journal nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from headway.broadcast_events import Changed
from headway.errors import EntriesTrimmed, JournalUnavailable
from headway.events import TERMINAL, Entry, Log, Notified, StreamPositionSent, encode_json

if TYPE_CHECKING:
    from headway.transport.sessions.session import Session

SPANS: Final = 64
"""Number of spans that are remembered of what each GET stream of a session was sent. A client that
comes back later than that may get a message again."""


class OutboxPosition(NamedTuple):
    """How far a client has read: in its session's own stream, and in the changes."""

    seq: int
    changes: int

    def later_of(self, other: "OutboxPosition") -> "OutboxPosition":
        """Return the position after everything that either position is after."""
        return OutboxPosition(max(self.seq, other.seq), max(self.changes, other.changes))


class Span(NamedTuple):
    """A range that one stream of a session was sent: all after `begin`, up to `end`."""

    listener: str
    begin: OutboxPosition
    end: OutboxPosition


class SentSpans:
    """The spans that each GET stream of a session was sent; the newest `SPANS` are kept."""

    def __init__(self) -> None:
        self._spans: list[Span] = []

    def add_span(self, span: Span) -> None:
        """Note what a stream was sent; a span that goes on from an earlier one prolongs it."""
        for index, known in enumerate(self._spans):
            if known.listener == span.listener and known.begin == span.begin:
                self._spans[index] = known._replace(end=known.end.later_of(span.end))
                return
        self._spans.append(span)
        del self._spans[:-SPANS]

    def is_sent_elsewhere(self, listener: str, *, seq: int = 0, changes: int = 0) -> bool:
        """Return whether another stream was sent the entry with this number."""
        return bool(self._spans) and any(
            span.listener != listener
            and (
                span.begin.seq < seq <= span.end.seq
                or span.begin.changes < changes <= span.end.changes
            )
            for span in self._spans
        )


class Deliveries:
    """The messages that a session's client was sent outside of requests, and its open outboxes."""

    __slots__ = ("outboxes", "position", "spans")

    def __init__(self) -> None:
        self.position = OutboxPosition(0, 0)
        """The position up to which all was sent: a GET without an event id goes on from there."""
        self.spans = SentSpans()
        self.outboxes: set[SessionOutbox] = set()

    def mark_sent(self, position: OutboxPosition) -> None:
        """Note that the client was sent all up to this position."""
        self.position = self.position.later_of(position)

    def wake_outboxes(self) -> None:
        """Let the readers of the session's stream look for more."""
        for outbox in self.outboxes:
            outbox.wake(has_news=True)


class SessionOutbox:
    """A cursor over what a session's client is to be sent; for one task at a time.

    Woken by its session from its making until `close`.
    """

    def __init__(
        self,
        session: "Session",
        reach: OutboxPosition,
        listener: str = "",
        may_see: Callable[[str], Awaitable[bool]] | None = None,
    ) -> None:
        """`listener` is the GET stream's name: entries that another one was sent are left out.

        So are those of runs for whose stream `may_see` returns False: another one may be sent them.
        """
        self.begin = reach
        self.listener = listener
        self._sent = self._recorded = Span(listener, reach, reach)
        self.after, self._changes = reach
        self.done = False
        """The session is over and everything was handed out."""
        self._may_see = may_see
        self._session = session
        self._journal = session.sessions.journal
        self._changes_stream = session.sessions.broadcasts.changes
        self._has_news = True  # in the session's own stream
        self._nudged = False
        self._of_changes = False  # what was handed out last
        self._waiter: asyncio.Future[None] | None = None
        session.deliveries.outboxes.add(self)

    def close(self) -> None:
        """Stop being woken."""
        self._session.deliveries.outboxes.discard(self)

    @property
    def position(self) -> OutboxPosition:
        """The position up to which entries were handed out."""
        return OutboxPosition(self.after, self._changes)

    def mark_sent(self) -> None:
        """Note that all that was handed out is sent: no other stream of the session sends it."""
        self._sent = Span(self.listener, self.begin, self.position)
        self._session.deliveries.mark_sent(self.position)
        self._session.deliveries.spans.add_span(self._sent)

    def record_sent(self) -> None:
        """Store what was sent, for readers in other processes and for those that follow."""
        if self._sent != self._recorded and self._session.facts.is_open:
            self._recorded = self._sent
            (seq, changes), begin = self._sent.end, self._sent.begin
            self._session.record_event(StreamPositionSent(seq, changes, self.listener, *begin))

    def event_id_mark(self, entry: Entry) -> bytes:
        """Return the position after the last entry that was handed out, as in an event id."""
        name = self.listener.encode()
        if self._of_changes:
            return b"%d-%d-%b" % (self.after, entry.seq, name)
        return b"%d-%d-%b" % (entry.seq, self._changes, name)

    async def next(self) -> list[Entry]:
        """Return the entries after the position, waiting until there are some.

        Empty when the session is over (`done`) or the outbox was nudged.

        Raises:
            StreamNotFound: The session is forgotten.
            EntriesTrimmed: The next entry is gone; set `after` to `error.first - 1` to go on.
            JournalUnavailable: The storage cannot be read, or the journal was closed.
        """
        while not self.done:
            # Another stream may have been sent a whole page, and there may be more after it.
            while self._has_news and not self.done:
                if entries := await self._read_session():
                    return entries
            if entries := await self._read_changes():
                return entries
            if self._nudged:
                self._nudged = False
                return []
            await self._wait_for_news()
        return []

    def nudge(self) -> None:
        """Make the current or the following wait of `next` return empty-handed."""
        self._nudged = True
        self.wake()

    def wake(self, *, has_news: bool = False) -> None:
        """Look again: there may be changes, or news in the session's own stream."""
        self._has_news |= has_news
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _read_session(self) -> list[Entry]:
        if not self._has_news:
            return []
        # Cleared before the read: news that come during it set the flag again.
        self._has_news = False
        try:
            entries = await self._journal.read(self._session.stream, after=self.after)
        except EntriesTrimmed:
            self._has_news = True
            raise
        if entries:
            self._has_news = True  # there may be more
            self._session.fold_entries(entries)
            hidden = await self._hidden_among(entries)
            self._of_changes = False
            entries = self._skip_others(entries, hidden)
        return entries

    async def _hidden_among(self, entries: list[Entry]) -> set[int]:
        """Return the numbers of the entries that this reader may not have."""
        if self._may_see is None:
            return set()
        said_by = {
            entry.seq: entry.event.run
            for entry in entries
            if isinstance(entry.event, Log | Notified) and entry.event.run
        }
        seen = {run: await self._may_see(run) for run in set(said_by.values())}
        return {seq for seq, run in said_by.items() if not seen[run]}

    def _skip_others(self, entries: list[Entry], hidden: set[int]) -> list[Entry]:
        """Return the entries before the next ones that are another stream's, which are skipped."""
        told = self._session.deliveries.spans
        others = [
            entry.seq in hidden or told.is_sent_elsewhere(self.listener, seq=entry.seq)
            for entry in entries
        ]
        if others[0]:
            count = others.index(False) if False in others else len(others)
        else:
            count = others.index(True) if True in others else len(others)
        self.after = entries[count - 1].seq
        self.done = type(entries[count - 1].event) in TERMINAL
        if others[0]:
            self.begin = self.position  # a new span begins here
            return []
        return entries[:count]

    async def _read_changes(self) -> list[Entry]:
        """Return the next changes that the client subscribed to."""
        while self._changes < self._changes_stream.last and not self._has_news:
            some = await self._changes_stream.read_after(self._changes)
            if not some:
                break
            self._of_changes = True
            told = self._session.deliveries.spans
            wanted: list[Entry] = []
            for entry in some:
                if told.is_sent_elsewhere(self.listener, changes=entry.seq):
                    if wanted:
                        return wanted
                    self._changes = entry.seq
                    self.begin = self.position
                    continue
                self._changes = entry.seq
                if (found := self._as_notification(entry)) is not None:
                    wanted.append(found)
            if wanted:
                return wanted
        return []

    def _as_notification(self, entry: Entry) -> Entry | None:
        change = entry.event
        if not isinstance(change, Changed):
            return None
        if change.uri:
            since = self._session.facts.subscriptions.get(change.uri)
            if since is None or entry.seq <= since:
                return None
        params = encode_json({"uri": change.uri}) if change.uri else None
        return Entry(entry.seq, entry.time, Notified(change.method, params))

    async def _wait_for_news(self) -> None:
        if self._journal.closed:
            raise JournalUnavailable("the journal is closed")
        if self._has_news or self._changes < self._changes_stream.last:
            return
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
