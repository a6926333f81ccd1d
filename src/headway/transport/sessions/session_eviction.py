"""Bounds of sessions: which of them make room for others, and how much all of them hold.

The idea needed to read it: **what was opened and not used goes first.** To open a session costs its
client one small request, and the server some memory for half an hour. So an anonymous session that
has neither a run nor an open stream makes room for a new one: first the oldest of those that were
never used, then those that were used longest ago. Authenticated callers have limits of their own,
and lose no session that they used.
"""

from collections import Counter, OrderedDict
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headway.transport.sessions.session import Session

READY_WITHIN = 60.0
"""Seconds until a new session must be used, or its client must have said that it is ready."""

TRIES = 100
"""Sessions that are looked at to find one that may go: those with a run are passed over."""

PRINCIPAL_SHARE = 4
"""One authenticated caller may hold one part in so many of the bytes that all sessions may."""

OVERHEAD = 128
"""Bytes that a fact of a session is charged besides its texts."""


class SessionBounds:
    """The sessions that a process knows, by what they are used for."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.held = 0
        """Bytes that all of them hold."""
        self._of_owners = Counter[str]()
        self._unused: OrderedDict[str, Session] = OrderedDict()
        self._idle: OrderedDict[str, Session] = OrderedDict()
        self._unready: OrderedDict[str, Session] = OrderedDict()

    # What becomes of a session

    def add_opened(self, session: "Session") -> None:
        """Add a session that was opened here and in which nothing was asked yet."""
        self._unready[session.id] = session
        if not session.facts.owner:
            self._unused[session.id] = session

    def mark_used(self, session: "Session") -> None:
        """Note that something is asked in a session."""
        self._unused.pop(session.id, None)
        self._unready.pop(session.id, None)
        if not session.facts.owner:
            self._idle[session.id] = session
            self._idle.move_to_end(session.id)

    def forget(self, session: "Session") -> None:
        """Forget a session that this process does not know any more."""
        for known in (self._unused, self._idle, self._unready):
            known.pop(session.id, None)
        self.held -= session.usage.charged
        self._of_owners[session.facts.owner] -= session.usage.charged
        if not self._of_owners[session.facts.owner]:
            del self._of_owners[session.facts.owner]
        session.usage.charged = 0

    def charge(self, session: "Session", size: int) -> None:
        """Count so many bytes that it holds from now on."""
        session.usage.charged += size
        self.held += size
        self._of_owners[session.facts.owner] += size

    # Who makes room

    def is_full(self, owner: str, size: int) -> bool:
        """Return whether a caller may not hold so many bytes more, even if others made room."""
        if not owner:  # many clients, and those that are idle make room for the others
            return size > self.most_bytes
        return self._of_owners[owner] + size > self.most_bytes // PRINCIPAL_SHARE

    def has_room(self, size: int) -> bool:
        """Return whether all sessions together may hold so many bytes more."""
        return self.held + size <= self.most_bytes

    def next_to_go(self, *, but: "Session | None" = None) -> "Session | None":
        """Return the session that makes room before all others, or None where none may."""
        for known in (self._unused, self._idle):
            for session in list(islice(known.values(), TRIES)):
                if session is not but and not session.is_in_use:
                    return session
                known.move_to_end(session.id)  # the next look begins after it
        return None

    def not_ready(self, opened_before: float) -> "list[Session]":
        """Take out the sessions that were opened before then and never used nor ready."""
        found: list[Session] = []
        while self._unready:
            session = next(iter(self._unready.values()))
            if session.usage.opened > opened_before:
                break
            del self._unready[session.id]
            if not session.connection.initialized.is_set() and not session.is_in_use:
                found.append(session)
        return found
