"""A client's connection with an end to every wait for the client.

uvicorn reads a head of any size and trailers without end, waits for the rest of a request as long
as the client likes, and takes as many connections as come, with as many requests on each. Here
whoever opens thousands and says nothing is sent away, and everybody else notices nothing.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from headway.cli.server.connection_limiter import LATER, ConnectionLimiter, refusal
from headway.cli.server.framing import (
    BadTarget,
    Trailers,
    chunk_overhead,
    head_without_upgrade,
    origin_form,
    parser_for,
)
from headway.transport.http.unfinished_requests import LIMIT as MAX_ARRIVING
from headway.transport.http.unfinished_requests import UnfinishedRequest

CLOSE_LINGER: Final = 1.0
"""Seconds that a client has to read why it was refused, or its last answer."""

MOST_PIPELINED: Final = 100
"""Requests of one connection that wait for the answers before theirs; what follows is not read. Its
client sends it again on another connection, as where any connection ends (RFC 9112, 9.3.2)."""

_HEAD, _BODY, _NOTHING = "head", "body", ""

_TOO_LARGE: Final = "431 Request Header Fields Too Large"
_CODING: Final = b"transfer-encoding"
_VERSIONS: Final = ("1.1", "1.0")


def protocol(doorkeeper: ConnectionLimiter) -> Callable[..., asyncio.Protocol]:
    """What makes the connections of a server, for `uvicorn.Config(http=…)`."""
    return partial(Connection, doorkeeper)


class Connection(HttpToolsProtocol):
    """One connection: a head and a body each have to arrive in time, and all besides a body to
    stay small."""

    def __init__(self, doorkeeper: ConnectionLimiter, **options: Any) -> None:
        super().__init__(**options)
        self._doorkeeper = doorkeeper
        self._is_refused = False
        self._waits_for = _HEAD
        self._head_size = 0  # of a head that is not there yet; at least
        self._read_size = 0  # of the read with which a head begins that has it for itself
        self._is_shared = False  # the head began in a read with what is before it
        self._body_size = 0  # of the body that is arriving
        self._part_size = 0  # of its chunk, as HTTP has chunks
        self._overhead = 0  # what comes with it, but for what its chunks need; at least
        self._trailers = Trailers()
        self._has_offer = False  # the head that was read offers another protocol
        self._arrival: UnfinishedRequest | None = None  # of a head that takes more than one read
        self._active: RequestResponseCycle | None = None  # what is being answered
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
            transport.write(self._doorkeeper.refuse_connection(self.loop.time()))
            transport.close()
        else:
            self._set_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the client."""
        self._drop_timer()
        self._end_arrival()
        self._tell_apps_it_is_gone()
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
        self._unset_keepalive_if_required()
        self._read_size = len(data)
        if self._waits_for is _BODY:
            self._overhead += len(data)
            self._read_size = 0
        else:
            self._head_size += len(data)
        try:
            self._feed(data)
        except httptools.HttpParserError:
            self._refuse_nonsense(data)
        if self._is_refused:
            return
        if self._stage != self._stage_timed:
            self._stage_timed = self._stage
            self._set_timer()
        if self._waits_for is not _NOTHING:
            self._check_what_arrives()

    def _feed(self, data: bytes) -> None:
        rest: bytes | memoryview = data
        while True:
            try:
                self.parser.feed_data(rest)
                return
            except httptools.HttpParserUpgrade as end_of_head:
                if not self._has_offer:
                    return
                # The parser is past the head, and behind it for good.
                rest = memoryview(rest)[end_of_head.args[0] :]
                head = self._head_without_offer()
                self.parser = parser_for(self)
                self.parser.feed_data(head)

    def _head_without_offer(self) -> bytes:
        self._has_offer = False
        method, version = self.parser.get_method(), self.parser.get_http_version()
        return head_without_upgrade(method, self.url, version, self.headers)

    def _check_what_arrives(self) -> None:
        """Look at a request that is not there yet, after each read."""
        if self._waits_for is _HEAD:
            if self._head_size > self._doorkeeper.settings.max_head:
                self._refuse_head()
            elif self._head_size:
                self._note_arrival(self._head_size)
            return
        # Of the read in which the head ended it is not known how much was the body's.
        self._overhead = max(0, self._overhead)
        if self._overhead > self._doorkeeper.settings.max_head:
            self._refuse_trailers()
        elif self._body_size > self._doorkeeper.settings.max_body and self._is_answered:
            self._hang_up()

    def _note_arrival(self, size: int) -> None:
        if self._arrival is None:
            self._arrival = self._doorkeeper.arrivals.begin(self._give_way)
        self._arrival.grow(size - self._arrival.size)

    @property
    def _lines(self) -> list[tuple[bytes, bytes]]:
        """The headers of the request that is arriving, as far as they are there."""
        return self.scope["headers"] if self.scope else []  # pyright: ignore[reportReturnType]

    def _end_arrival(self) -> None:
        if self._arrival is not None:
            self._arrival.end()
            self._arrival = None

    def _give_way(self) -> None:
        if self._is_answering:
            self._doorkeeper.tally.limit_hit(MAX_ARRIVING)
            self._read_no_more()
        else:
            reason = self._doorkeeper.arrivals.reason
            self._refuse("503 Service Unavailable", reason, MAX_ARRIVING, LATER)

    def _refuse_nonsense(self, data: bytes) -> None:
        """Refuse what is no HTTP, unless the client was refused already."""
        if not self._is_refused:
            reason = _what_is_wrong(data)
            self._doorkeeper.log.warning("a connection was refused: %s", reason)
            self.send_400_response(reason)

    def send_400_response(self, msg: str) -> None:
        """Refuse a request, unless its client hears another answer."""
        self._refuse("400 Bad Request", msg)

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that nothing was asked on for long."""
        if not self.transport.is_closing():
            self._doorkeeper.tally.limit_hit("keep_alive")
        super().timeout_keep_alive_handler()

    # What the parser sees

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self._stage += 1
        self._waits_for = _HEAD
        self._is_shared = not self._read_size
        self._head_size, self._read_size = self._read_size, 0

    def on_headers_complete(self) -> None:
        """A head is there; a body may follow."""
        if self._is_refused:
            return
        most = self._doorkeeper.settings.max_head
        may_be_large = self._head_size > most or self._is_shared
        if may_be_large and _size(self.url, self.headers) > most:
            self._refuse_head()
        elif self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            self._has_offer = True
        elif len(self.pipeline) >= MOST_PIPELINED:
            self._read_no_more()
        elif self._is_well_formed():
            self._stage += 1
            self._waits_for = _BODY
            self._body_size = self._part_size = self._overhead = self._trailers.size = 0
            if self._arrival is not None:
                self._end_arrival()
            super().on_headers_complete()
            self.headers = self._trailers
            if self._doorkeeper.is_leaving:
                self.leave()

    def _is_well_formed(self) -> bool:
        """Whether a head asks for something here; one that does not is refused."""
        try:
            if self.url[:1] != b"/" and self.url != b"*":
                self.url = origin_form(self.url, self.headers)
        except BadTarget:
            self.send_400_response("The target of the request is no path and no URL; send one")
        if self.parser.get_http_version() not in _VERSIONS:
            self._refuse("505 HTTP Version Not Supported", "Send HTTP/1.1")
        return not self._is_refused

    def on_body(self, body: bytes) -> None:
        """More of a body is there."""
        if not self._is_refused:
            self._body_size += len(body)
            self._part_size += len(body)
            self._overhead -= len(body)
            super().on_body(body)

    def on_chunk_header(self) -> None:
        """A body comes in chunks; they are all that may be done to it."""
        if self._body_size or self._is_refused:
            return
        codings = [value.strip().lower() for name, value in self._lines if name == _CODING]
        if codings != [b"chunked"]:
            self._refuse("501 Not Implemented", "Send Transfer-Encoding: chunked, and no other")
        elif self.parser.get_http_version() != "1.1":  # RFC 9112, 6.1
            self.send_400_response("HTTP/1.0 has no Transfer-Encoding; send Content-Length")

    def on_chunk_complete(self) -> None:
        """A chunk is there, or the end of them all."""
        self._overhead -= chunk_overhead(self._part_size)
        self._part_size = 0

    def on_message_complete(self) -> None:
        """A request is there."""
        if self._is_refused or self._has_offer:
            return
        if max(self._overhead, self._trailers.size) > self._doorkeeper.settings.max_head:
            self._refuse_trailers()
            return
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
            self._doorkeeper.tally.limit_hit(limit)
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

    @property
    def _is_answered(self) -> bool:
        """Whether the last request has its whole answer."""
        cycle = cast("RequestResponseCycle | None", self.cycle)
        return cycle is not None and cycle.response_complete

    @property
    def _may_speak(self) -> bool:
        """Whether what is said now is taken for the answer to what is refused.

        It is not while another answer is being given, or the refused request has had its own.
        """
        if self._is_answering:
            return self._is_unanswered and not self.pipeline
        return self._waits_for is not _BODY

    def _refuse_head(self) -> None:
        most = self._doorkeeper.settings.max_head
        text = f"The head of the request is larger than {most} bytes; send fewer or shorter headers"
        if self._is_answering:  # the one before
            self._is_refused = True
            self._doorkeeper.tally.limit_hit("max_head")
            self._tell_apps_it_is_gone()
            self.transport.close()
        else:
            self._refuse(_TOO_LARGE, text, "max_head")

    def _refuse_trailers(self) -> None:
        most = self._doorkeeper.settings.max_head
        text = f"What comes with the body is more than {most} bytes; send it without trailers"
        self._refuse(_TOO_LARGE, text, "max_head")

    def _refuse(self, status: str, text: str, limit: str | None = None, headers: str = "") -> None:
        """Say why, and close a moment later: what is still being sent would undo the answer."""
        if self._is_refused:
            return
        may_speak = self._may_speak
        self._is_refused = True
        self._end_arrival()
        self._drop_timer()
        self._tell_apps_it_is_gone()
        if not may_speak:
            self._doorkeeper.tally.limit_hit(limit)
            self.transport.close()
            return
        self._doorkeeper.tally.count_refusal(int(status[:3]), limit)
        headers += self._doorkeeper.cors(self._lines)
        self.transport.write(refusal(status, text, headers))
        self._linger()

    def _tell_apps_it_is_gone(self) -> None:
        """Have whoever answers a request here hear that its client is gone, and say no more.

        uvicorn tells it to the request that came last, which may be waiting behind another one.
        """
        waiting = (cycle for cycle, _ in self.pipeline)
        for cycle in (self._active, *waiting, cast("RequestResponseCycle | None", self.cycle)):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._active = cycle
        super()._start_asgi_task(cycle, app)

    def _hang_up(self) -> None:
        """Close behind an answer whose client goes on to send the body of the request."""
        self._is_refused = True
        self._doorkeeper.tally.limit_hit("max_body")
        if not self.transport.is_closing():
            self._linger()

    def _linger(self) -> None:
        self._drop_timer()
        self.transport.write_eof()
        self._timer = self.loop.call_later(CLOSE_LINGER, self.transport.close)

    def _read_no_more(self) -> None:
        """Leave what follows to another connection; this one is closed behind its last answer."""
        self._is_refused = True
        self._end_arrival()
        self._drop_timer()
        last = self.pipeline[0][0] if self.pipeline else self.cycle
        last.keep_alive = False


def _what_is_wrong(data: bytes) -> str:
    """Why these bytes cannot be read, as a sentence for the client and the log."""
    if data.startswith(b"\x16\x03"):
        return "TLS is not spoken on this port; use http://, or a proxy that has TLS"
    if data.startswith(b"PRI * HTTP/2"):
        return "HTTP/2 is not spoken on this port; send HTTP/1.1"
    return "This is no valid request of HTTP/1.1"


def _size(url: bytes, headers: list[tuple[bytes, bytes]]) -> int:
    return len(url) + sum(len(name) + len(value) for name, value in headers)
