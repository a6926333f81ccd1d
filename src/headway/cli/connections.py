"""A client's connection with an end to every wait for the client.

uvicorn reads a head of any size, waits for the rest of a request as long as the client likes, and
takes as many connections as come. Here whoever opens thousands and says nothing is sent away,
and everybody else notices nothing.
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Final, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from headway.settings import Settings
from headway.tally import Tally

logger = logging.getLogger(__name__)

RESERVED: Final = 100
"""Descriptors that connections leave to the journal, to tools and to their programs."""

WARN_EVERY: Final = 60.0
"""Seconds between warnings that connections are turned away."""

RETRY_AFTER: Final = 5

LINGER: Final = 1.0
"""Seconds that a client has to read why it was refused."""

_HEAD, _BODY, _NOTHING = "head", "body", ""


class Doorkeeper:
    """What all connections of a server have in common: what they may do, and how many they are."""

    def __init__(self, settings: Settings, tally: Tally | None = None) -> None:
        self.settings = settings
        self.tally = tally or Tally()
        self.most = min(settings.max_connections, max(1, _descriptors() - RESERVED))
        self.tally.connections = self.tally.connections or 0
        self.tally.most_connections += self.most
        self.is_leaving = False
        """Whether each answer asks its client to come back on another connection."""
        self._warned = float("-inf")

    def turn_away(self, now: float) -> bytes:
        """What a connection is told that is one too many."""
        if now - self._warned >= WARN_EVERY:
            self._warned = now
            logger.warning("%d connections are open; more are turned away", self.most)
        self.tally.refuse(503, "max_connections")
        text = f"The server has as many connections as it takes ({self.most}); try again later"
        return _answer("503 Service Unavailable", text, f"retry-after: {RETRY_AFTER}\r\n")


def protocol(doorkeeper: Doorkeeper) -> Callable[..., asyncio.Protocol]:
    """What makes the connections of a server, for `uvicorn.Config(http=…)`."""
    return partial(Connection, doorkeeper)


class Connection(HttpToolsProtocol):
    """One connection: a head and a body each have to arrive in time, and a head to stay small."""

    def __init__(self, doorkeeper: Doorkeeper, **options: Any) -> None:
        super().__init__(**options)
        self._doorkeeper = doorkeeper
        self._is_refused = False
        self._waits_for = _HEAD
        self._head_size = 0  # of a head that is not there yet; at least
        self._chunk_size = 0
        # Counts heads and bodies begun and ended: most requests are one chunk, and no timer is
        # ever set for them.
        self._stage = 0
        self._stage_timed = 0
        self._timer: asyncio.TimerHandle | None = None
        self._quiet_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Take the connection, or turn it away."""
        super().connection_made(transport)
        self._quiet_since = self.loop.time()
        self._count(1)
        if len(self.connections) > self._doorkeeper.most:
            self._is_refused = True
            transport.write(self._doorkeeper.turn_away(self.loop.time()))
            transport.close()
        else:
            self._set_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the client."""
        self._drop_timer()
        # Of a connection that was reset, uvicorn's timer would hold everything for `keep_alive`.
        self._unset_keepalive_if_required()
        self._count(-1)
        super().connection_lost(exc)

    def _count(self, more: int) -> None:
        tally = self._doorkeeper.tally
        tally.connections = (tally.connections or 0) + more

    def data_received(self, data: bytes) -> None:
        """Read on."""
        if self._is_refused:
            return
        self._chunk_size = len(data)
        if self._waits_for is _HEAD:
            self._head_size += len(data)
        super().data_received(data)
        if self._waits_for is _HEAD and self._head_size > self._doorkeeper.settings.max_head:
            self._refuse_head()
        elif self._stage != self._stage_timed:
            self._stage_timed = self._stage
            self._set_timer()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, unless the client was refused already or hears another answer."""
        if self._is_answering and not self._is_unanswered:
            self._is_refused = True
            self.transport.close()
        else:
            self._refuse("400 Bad Request", msg)

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that nothing was asked on for long."""
        if not self.transport.is_closing():
            self._doorkeeper.tally.reach("keep_alive")
        super().timeout_keep_alive_handler()

    # What the parser sees

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self._stage += 1
        self._waits_for = _HEAD
        self._head_size = self._chunk_size

    def on_headers_complete(self) -> None:
        """A head is there; a body may follow."""
        if self._is_refused:
            return
        self._stage += 1
        most = self._doorkeeper.settings.max_head
        if self._head_size > most and _size(self.url, self.headers) > most:
            self._refuse_head()
        else:
            self._waits_for = _BODY
            super().on_headers_complete()
            if self._doorkeeper.is_leaving:
                self.leave()

    def on_body(self, body: bytes) -> None:
        """More of a body is there."""
        if not self._is_refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """A request is there."""
        if not self._is_refused:
            self._stage += 1
            self._waits_for = _NOTHING
            super().on_message_complete()

    # The end of the server

    def leave(self) -> None:
        """Have the answer say that it is the last one here, if it has not begun.

        One that has begun cannot: its client may ask once more on this connection.
        """
        if self._is_unanswered:
            self.cycle.keep_alive = False

    def may_be_asked(self, patience: float) -> bool:
        """Whether a request may be on its way: nothing was heard or said for less than `patience`.

        To close a connection in that moment is to lose the request.
        """
        is_idle = not (self._is_answering or self._is_refused or self.transport.is_closing())
        return is_idle and self.loop.time() - self._quiet_since < patience

    def on_response_complete(self) -> None:
        """An answer was given."""
        self._quiet_since = self.loop.time()
        super().on_response_complete()

    # The end of waiting

    def _set_timer(self) -> None:
        self._drop_timer()
        settings = self._doorkeeper.settings
        if self._waits_for is _HEAD:
            self._timer = self.loop.call_later(settings.head_timeout, self._expire)
        elif self._waits_for is _BODY:
            self._timer = self.loop.call_later(settings.body_timeout, self._expire)

    def _drop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        self._timer = None
        if self.transport.is_closing():
            return
        if self.flow.read_paused or (self._is_answering and self._waits_for is _HEAD):
            self._set_timer()  # it is the server that takes its time
            return
        is_silent = self._waits_for is _HEAD and not self._head_size
        is_answered = self._waits_for is _BODY and not self._is_unanswered
        limit = f"{self._waits_for}_timeout"
        if is_silent or is_answered:
            self._doorkeeper.tally.reach(limit)
            self.transport.close()
        else:
            text = f"The request's {self._waits_for} did not arrive in time; send it again"
            self._refuse("408 Request Timeout", text, limit)

    @property
    def _is_answering(self) -> bool:
        cycle = cast("RequestResponseCycle | None", self.cycle)
        return cycle is not None and not cycle.response_complete

    @property
    def _is_unanswered(self) -> bool:
        """Whether the app has a request and has said nothing yet."""
        return self._is_answering and not self.cycle.response_started

    def _refuse_head(self) -> None:
        most = self._doorkeeper.settings.max_head
        text = f"The head of the request is larger than {most} bytes; send fewer or shorter headers"
        if self._is_answering:  # the one before; nothing can be said in between
            self._is_refused = True
            self._doorkeeper.tally.reach("max_head")
            self.transport.close()
        else:
            self._refuse("431 Request Header Fields Too Large", text, "max_head")

    def _refuse(self, status: str, text: str, limit: str | None = None) -> None:
        """Say why, and close a moment later: what is still being sent would undo the answer."""
        if self._is_refused:
            return
        self._is_refused = True
        self._doorkeeper.tally.refuse(int(status[:3]), limit)
        if self._is_unanswered:
            self.cycle.disconnected = (
                True  # the app hears that its client is gone, and says no more
            )
            self.cycle.message_event.set()
        self._drop_timer()
        self.transport.write(_answer(status, text))
        self.transport.write_eof()
        self._timer = self.loop.call_later(LINGER, self.transport.close)


def _answer(status: str, text: str, headers: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\ncontent-type: text/plain; charset=utf-8\r\n{headers}"
    return f"{head}content-length: {len(text)}\r\nconnection: close\r\n\r\n{text}".encode()


def _size(url: bytes, headers: list[tuple[bytes, bytes]]) -> int:
    return len(url) + sum(len(name) + len(value) for name, value in headers)


def _descriptors() -> int:
    """How many files and sockets this process may have open."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return 2**31
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 2**31 if soft == resource.RLIM_INFINITY else soft
