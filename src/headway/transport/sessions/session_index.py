"""The sessions that a process knows, by their ids, their tags and their callers."""

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headway.transport.sessions.session import Session


class KnownSessions:
    """Sessions by id and by tag, and how many each caller has."""

    def __init__(self) -> None:
        self._by_id: dict[str, Session] = {}
        self._by_tag: dict[str, Session] = {}
        self._of_owners = Counter[str]()

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> "Iterator[Session]":
        """Yield the sessions that are known now; some may be forgotten meanwhile."""
        return iter(list(self._by_id.values()))

    def __contains__(self, session_id: object) -> bool:
        return session_id in self._by_id

    def __getitem__(self, session_id: str) -> "Session":
        return self._by_id[session_id]

    @property
    def most_of_one(self) -> int:
        """The number of sessions of the authenticated caller that has most."""
        return max((many for owner, many in self._of_owners.items() if owner), default=0)

    def count_of(self, owner: str) -> int:
        """Return how many sessions of one caller are known."""
        return self._of_owners[owner]

    def get(self, session_id: str) -> "Session | None":
        """Return the session with this id, or None."""
        return self._by_id.get(session_id)

    def with_tag(self, tag: str) -> "Session | None":
        """Return the session with this tag, or None."""
        return self._by_tag.get(tag)

    def add(self, session: "Session") -> None:
        """Add a session."""
        self._by_id[session.id] = session
        self._by_tag[session.tag] = session
        self._of_owners[session.facts.owner] += 1

    def remove(self, session: "Session") -> bool:
        """Forget a session; False when it was not known."""
        if self._by_id.pop(session.id, None) is None:
            return False
        del self._by_tag[session.tag]
        owner = session.facts.owner
        self._of_owners[owner] -= 1
        if not self._of_owners[owner]:
            del self._of_owners[owner]
        return True

    def clear(self) -> None:
        """Forget all sessions."""
        self._by_id.clear()
        self._by_tag.clear()
        self._of_owners.clear()
