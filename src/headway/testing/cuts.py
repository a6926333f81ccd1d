"""The faults of a proxy: where it cuts a connection, how, and how it passes bytes on."""

from dataclasses import dataclass
from typing import Literal

from headway.testing.http_responses import Mark

CutManner = Literal["close", "reset", "half"]
"""How a connection ends: `close` as when a process ends in order (TCP's FIN; all that was passed
on arrives), `reset` as when a machine has forgotten it (RST; what was not read yet may be lost),
`half` for one direction only: the side hears the end, what it says is still passed on."""

Side = Literal["both", "client", "server"]
"""The side that notices. The other one is left with a connection on which nothing comes any more.
"""

CHUNK = 65536


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A place in an answer, and what is done to its connection there.

    The place is found by the fields that are given: after the first `text`, then `messages` SSE
    messages further, then `plus` bytes further, then `seconds` later. Without any it is before the
    first byte of the next answer. Counting begins when the plan is made, on each connection by
    itself; the first connection to get there is cut.
    """

    text: bytes = b""
    messages: int = 0
    plus: int = 0
    seconds: float = 0.0
    request: bytes = b""
    """Only on a connection whose latest request has this in its head or body."""
    how: CutManner = "close"
    side: Side = "both"
    notice: float | None = None
    """Seconds after which a side that did not notice is reset; None: when the proxy ends."""


@dataclass(frozen=True, kw_only=True)
class Manner:
    """How answers are passed on where nothing is cut."""

    delay: float = 0.0
    """Seconds by which each piece comes later."""
    hold: int = 0
    """Bytes of an answer that are collected before they are passed on, as a buffering proxy does;
    the end of the answer passes on the rest."""
    piece: int = CHUNK
    """At most so many bytes at once."""
    pause: float = 0.0
    """Seconds between two pieces."""
    idle: float | None = None
    """Seconds without a byte after which a connection that waits for an answer, or for more of
    one, is closed, as proxies do."""


@dataclass
class Counts:
    """The bytes and messages that have passed through a connection."""

    connections: int = 0
    refused: int = 0
    """Connections that found the proxy down, or no server behind it."""
    answers: int = 0
    """Answers whose head came from the server."""
    messages: int = 0
    """SSE messages that came from the server."""
    cuts: int = 0
    idle: int = 0
    """Cuts that an idle limit made."""
    asked: int = 0
    """Bytes from clients."""
    told: int = 0
    """Bytes from the server."""


class CutPoint:
    """How far a connection has come towards a cut."""

    def __init__(self, cut: Cut) -> None:
        self.cut = cut
        self._is_found = not cut.text
        self._tail = b""
        self._messages = cut.messages
        self._bytes = cut.plus

    @property
    def is_begun(self) -> bool:
        """Return whether the cut has chosen this connection, so that no other one can be meant."""
        return self._is_found and not self._messages

    def reached(self, data: bytes, marks: list[Mark]) -> int | None:
        """Return how many bytes of the next piece come before the place; None: the place is not in
        it.
        """
        at = 0
        if not self._is_found:
            known = self._tail + data
            found = known.find(self.cut.text)
            if found < 0:
                self._tail = known[1 - len(self.cut.text) :] if len(self.cut.text) > 1 else b""
                return None
            self._is_found = True
            at = found + len(self.cut.text) - len(self._tail)
        if self._messages:
            ends = [m.at for m in marks if m.kind == "message" and m.at > at][: self._messages]
            self._messages -= len(ends)
            if self._messages:
                return None
            at = ends[-1]
        here = min(self._bytes, len(data) - at)
        self._bytes -= here
        return None if self._bytes else at + here
