"""A bound for the bytes of all requests that are still arriving, on all connections.

Each request has its own bound, and ten thousand connections are many such bounds. When all requests
together hold more than they may, the one that has been arriving longest gives way. A request of an
honest client is complete within moments, so a client that sends slowly on purpose only pushes out
itself.
"""

from collections.abc import Callable
from typing import Final

from headway.counters import Counters
from headway.errors import ProtocolError

RETRY_AFTER: Final = 5
"""Seconds until a request that had to give way may be sent again."""

_BUSY: Final = -32000


class UnfinishedRequests:
    """The requests of one app that are arriving, and how many bytes are held of them."""

    def __init__(self, most: int, counters: Counters) -> None:
        self._most = most
        self._counters = counters
        self._open: dict[UnfinishedRequest, None] = {}  # in the order in which they began
        self.held = 0

    @property
    def is_timed_elsewhere(self) -> bool:
        """True when Headway's own server listens: it limits how long a body may take."""
        return self._counters.connections is not None

    def begin(self, give_way: Callable[[], object]) -> "UnfinishedRequest":
        """Return the account of one more request; `give_way` is called when it has to make room."""
        arrival = UnfinishedRequest(self, give_way)
        self._open[arrival] = None
        return arrival

    def end(self, arrival: "UnfinishedRequest") -> None:
        """Forget a request: it is there, refused or gone."""
        if arrival in self._open:
            del self._open[arrival]
            self.held -= arrival.size

    def make_room(self) -> None:
        """Refuse the requests that have been arriving longest, until the rest fits."""
        while self.held > self._most and self._open:
            oldest = next(iter(self._open))
            self.end(oldest)
            oldest.has_given_way = True
            oldest.give_way()

    def refusal_error(self) -> ProtocolError:
        """Return the refusal of a request that had to give way."""
        return ProtocolError(_BUSY, self.reason, status=503, retry_after=RETRY_AFTER, limit=LIMIT)

    @property
    def reason(self) -> str:
        """The sentence for a request that had to give way."""
        return (
            f"Requests that are still arriving hold more than {self._most} bytes ({LIMIT}), and "
            "this one has been arriving longest; send it again, in one go"
        )


LIMIT: Final = "max_arriving"


class UnfinishedRequest:
    """The bytes that have arrived of one request."""

    __slots__ = ("_all", "give_way", "has_given_way", "size")

    def __init__(self, everything: UnfinishedRequests, give_way: Callable[[], object]) -> None:
        self._all = everything
        self.give_way = give_way
        self.has_given_way = False
        self.size = 0

    def grow(self, more: int) -> None:
        """Count `more` bytes; a request may have to give way for them, this one too."""
        if self.has_given_way:
            return
        self.size += more
        self._all.held += more
        self._all.make_room()

    def end(self) -> None:
        """Hold nothing any more."""
        self._all.end(self)
