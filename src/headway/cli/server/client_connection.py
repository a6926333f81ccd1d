"""A client's connection with a limit to every wait for the client.

uvicorn reads a head of any size and trailers without end. It waits for the rest of a request as
long as the client likes, and it takes any number of connections, with any number of requests on
each. Here each of these has a limit. A client that opens thousands of connections and sends nothing
is sent away; the others notice nothing.

A connection waits for one thing at a time, and each wait has its timer:

```
             first byte                 end of head               end of body
  _HEAD ──────────────────▶ _HEAD ──────────────────▶ _BODY ──────────────────▶ _NOTHING
 (quiet)                  head_timeout              body_timeout             (it is answered)
    ▲                                                                             │
    └────────────────────── the next request's head begins ───────────────────────┘
```
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
"""Requests of one connection that wait for the answers before theirs; no more are read. Their
client sends them again on another connection, as where any connection ends (RFC 9112, 9.3.2)."""

_HEAD, _BODY, _NOTHING = "head", "body", ""

_TOO_LARGE: Final = "431 Request Header Fields Too Large"
_CODING: Final = b"transfer-encoding"
_VERSIONS: Final = ("1.1", "1.0")


def protocol(limiter: ConnectionLimiter) -> Callable[..., asyncio.Protocol]:
    """Return the factory of a server's connections, for `uvicorn.Config(http=…)`."""
    return partial(Connection, limiter)


class _RequestSizes:
    """Bytes of the request that is arriving, by its parts."""

    __slots__ = ("body", "chunk", "head", "is_head_shared", "overhead", "read", "trailers")

    def __init__(self) -> None:
        self.head = 0
        """Bytes of a head that is not complete, at least."""
        self.read = 0
        """Bytes of the read in progress, if a head begins in it and it has nothing else."""
        self.is_head_shared = False
        """Whether the head began in a read with the end of another request."""
        self.body = 0
        self.chunk = 0
        """Bytes of the chunk that is arriving, where the body has chunks."""
        self.overhead = 0
        """Bytes around the chunks of the body that are not needed for them, at least."""
        self.trailers = Trailers()

    def begin_body(self) -> None:
        """Count the parts of a body from zero."""
        self.body = self.chunk = self.overhead = self.trailers.size = 0


class Connection(HttpToolsProtocol):
    """One connection. Heads and bodies have to arrive in time, and everything but a body has to
    stay small.
    """

    def __init__(self, limiter: ConnectionLimiter, **options: Any) -> None:
        super().__init__(**options)
        self._limiter = limiter
        self._is_refused = False
        self._waits_for = _HEAD
        self._sizes = _RequestSizes()
        self._has_offer = False  # whether the head that was read offers another protocol
        self._arrival: UnfinishedRequest | None = None  # a head that takes more than one read
        self._active: RequestResponseCycle | None = None  # the request that is being answered
        # Counts heads and bodies begun and ended: most requests are one chunk, and no timer is
        # ever set for them.
        self._stage = 0
        self._timed_stage = 0
        self._timer: asyncio.TimerHandle | None = None
        self._quiet_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Take the connection, or refuse it where there are too many."""
        super().connection_made(transport)
        self._quiet_since = self.loop.time()
        self._count_connection(1)
        if len(self.connections) > self._limiter.most:
            self._is_refused = True
            transport.write(
                self._limiter.refuse_connection(self.loop.time(), _address_of(transport))
            )
            transport.close()
        else:
            self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the client."""
        self._stop_timer()
        self._end_arrival()
        self._disconnect_apps()
        # uvicorn's timer would keep a connection that was reset in memory for `keep_alive` seconds.
        self._unset_keepalive_if_required()
        self._count_connection(-1)
        super().connection_lost(exc)

    def _count_connection(self, more: int) -> None:
        counters = self._limiter.counters
        counters.connections = (counters.connections or 0) + more

    def data_received(self, data: bytes) -> None:
        """Feed the parser, and check what has arrived against the limits."""
        if self._is_refused:
            return
        self._unset_keepalive_if_required()
        sizes = self._sizes
        if self._waits_for is _BODY:
            sizes.overhead += len(data)
            sizes.read = 0
        else:
            sizes.read = len(data)
            sizes.head += len(data)
        try:
            self._feed_parser(data)
        except httptools.HttpParserError:
            self._refuse_invalid(data)
        if self._is_refused:
            return
        if self._stage != self._timed_stage:
            self._timed_stage = self._stage
            self._start_timer()
        if self._waits_for is not _NOTHING:
            self._check_what_arrives()

    def _feed_parser(self, data: bytes) -> None:
        rest: bytes | memoryview = data
        while True:
            try:
                self.parser.feed_data(rest)
                return
            except httptools.HttpParserUpgrade as end_of_head:
                if not self._has_offer:
                    return
                # The parser is past the head, and will not come back to it.
                rest = memoryview(rest)[end_of_head.args[0] :]
                head = self._head_without_offer()
                self.parser = parser_for(self)
                self.parser.feed_data(head)

    def _head_without_offer(self) -> bytes:
        self._has_offer = False
        method, version = self.parser.get_method(), self.parser.get_http_version()
        return head_without_upgrade(method, self.url, version, self.headers)

    def _check_what_arrives(self) -> None:
        """Check the sizes of a request that is not complete, after each read."""
        if self._waits_for is _HEAD:
            if self._sizes.head > self._limiter.settings.max_head:
                self._refuse_head()
            elif self._sizes.head:
                self._track_arrival(self._sizes.head)
            return
        # The read in which the head ended may have had some of the body: how much is not known.
        self._sizes.overhead = max(0, self._sizes.overhead)
        if self._sizes.overhead > self._limiter.settings.max_head:
            self._refuse_trailers()
        elif self._sizes.body > self._limiter.settings.max_body and self._is_answered:
            self._close_after_answer()

    def _track_arrival(self, size: int) -> None:
        if self._arrival is None:
            self._arrival = self._limiter.arrivals.begin(self._end_for_others)
        self._arrival.grow(size - self._arrival.size)

    @property
    def _headers_so_far(self) -> list[tuple[bytes, bytes]]:
        """Return the headers of the request that is arriving, as far as they are there."""
        return self.scope["headers"] if self.scope else []  # pyright: ignore[reportReturnType]

    def _end_arrival(self) -> None:
        if self._arrival is not None:
            self._arrival.end()
            self._arrival = None

    def _end_for_others(self) -> None:
        if self._is_answering:
            self._limiter.counters.limit_hit(MAX_ARRIVING)
            self._stop_reading()
        else:
            reason = self._limiter.arrivals.reason
            self._refuse_request("503 Service Unavailable", reason, MAX_ARRIVING, LATER)

    def _refuse_invalid(self, data: bytes) -> None:
        """Refuse bytes that are no HTTP, unless the client was refused already."""
        if not self._is_refused:
            reason = _describe_invalid(data)
            self._limiter.log.warning("a connection was refused: %s", reason)
            self.send_400_response(reason)

    def send_400_response(self, msg: str) -> None:
        """Refuse a request, unless another answer is being given."""
        self._refuse_request("400 Bad Request", msg)

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection on which no request has come for long."""
        if not self.transport.is_closing():
            self._limiter.counters.limit_hit("keep_alive")
        super().timeout_keep_alive_handler()

    # Called by the parser

    def on_message_begin(self) -> None:
        """Note that a head begins."""
        super().on_message_begin()
        self._stage += 1
        self._waits_for = _HEAD
        sizes = self._sizes
        sizes.is_head_shared = not sizes.read
        sizes.head, sizes.read = sizes.read, 0

    def on_headers_complete(self) -> None:
        """Check a complete head, and start its request; a body may follow."""
        if self._is_refused:
            return
        most = self._limiter.settings.max_head
        may_be_large = self._sizes.head > most or self._sizes.is_head_shared
        if may_be_large and _head_size(self.url, self.headers) > most:
            self._refuse_head()
        elif self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            self._has_offer = True
        elif len(self.pipeline) >= MOST_PIPELINED:
            self._stop_reading()
        elif self._is_well_formed():
            self._stage += 1
            self._waits_for = _BODY
            self._sizes.begin_body()
            if self._arrival is not None:
                self._end_arrival()
            super().on_headers_complete()
            self.headers = self._sizes.trailers
            if self._limiter.is_leaving:
                self.leave()

    def _is_well_formed(self) -> bool:
        """Return whether a head has a target and a version that are served; refuse it otherwise."""
        try:
            if self.url[:1] != b"/" and self.url != b"*":
                self.url = origin_form(self.url, self.headers)
        except BadTarget:
            self.send_400_response("The target of the request is no path and no URL; send one")
        if self.parser.get_http_version() not in _VERSIONS:
            self._refuse_request("505 HTTP Version Not Supported", "Send HTTP/1.1")
        return not self._is_refused

    def on_body(self, body: bytes) -> None:
        """Pass on more of a body."""
        if not self._is_refused:
            sizes, size = self._sizes, len(body)
            sizes.body += size
            sizes.chunk += size
            sizes.overhead -= size
            super().on_body(body)

    def on_chunk_header(self) -> None:
        """Refuse transfer codings other than chunks."""
        if self._sizes.body or self._is_refused:
            return
        codings = [value.strip().lower() for name, value in self._headers_so_far if name == _CODING]
        if codings != [b"chunked"]:
            self._refuse_request(
                "501 Not Implemented", "Send Transfer-Encoding: chunked, and no other"
            )
        elif self.parser.get_http_version() != "1.1":  # RFC 9112, 6.1
            self.send_400_response("HTTP/1.0 has no Transfer-Encoding; send Content-Length")

    def on_chunk_complete(self) -> None:
        """Note the end of a chunk; of the last one, too."""
        self._sizes.overhead -= chunk_overhead(self._sizes.chunk)
        self._sizes.chunk = 0

    def on_message_complete(self) -> None:
        """Note the end of a request."""
        if self._is_refused or self._has_offer:
            return
        if max(self._sizes.overhead, self._sizes.trailers.size) > self._limiter.settings.max_head:
            self._refuse_trailers()
            return
        self._stage += 1
        self._waits_for = _NOTHING
        super().on_message_complete()

    # The end of the server

    def leave(self) -> None:
        """Add `Connection: close` to an answer that has not begun.

        An answer that has begun cannot have it, so its client may send one more request on this
        connection.
        """
        if self._is_unanswered:
            self.cycle.keep_alive = False

    def may_be_asked(self, patience: float) -> bool:
        """Return whether a request may be under way: the last bytes came less than `patience` ago.

        To close a connection in that moment is to lose the request.
        """
        is_idle = not (self._is_answering or self._is_refused or self.transport.is_closing())
        return is_idle and self.loop.time() - self._quiet_since < patience

    def on_response_complete(self) -> None:
        """Note the end of an answer."""
        self._quiet_since = self.loop.time()
        super().on_response_complete()

    def close_if_idle(self) -> None:
        """Close the connection unless something is to be answered on it, or is arriving."""
        if not (self._is_answering or self._is_refused or self._arrival is not None):
            self.transport.close()

    # The end of waiting

    def _start_timer(self) -> None:
        self._stop_timer()
        settings = self._limiter.settings
        if self._waits_for is _HEAD:
            self._timer = self.loop.call_later(settings.head_timeout, self._handle_timeout)
        elif self._waits_for is _BODY:
            self._timer = self.loop.call_later(settings.body_timeout, self._handle_timeout)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _handle_timeout(self) -> None:
        self._timer = None
        if self.transport.is_closing():
            return
        if self.flow.read_paused or (self._is_answering and self._waits_for is _HEAD):
            self._start_timer()  # the server is still at work
            return
        is_silent = self._waits_for is _HEAD and not self._sizes.head
        is_answered = self._waits_for is _BODY and not self._is_unanswered
        limit = f"{self._waits_for}_timeout"
        if is_silent or is_answered:
            self._limiter.counters.limit_hit(limit)
            self.transport.close()
        else:
            text = f"The request's {self._waits_for} did not arrive in time; send it again"
            self._refuse_request("408 Request Timeout", text, limit)

    @property
    def _is_answering(self) -> bool:
        cycle = cast("RequestResponseCycle | None", self.cycle)
        return cycle is not None and not cycle.response_complete

    @property
    def _is_unanswered(self) -> bool:
        """Return whether the app has a request and has not begun its answer."""
        return self._is_answering and not self.cycle.response_started

    @property
    def _is_answered(self) -> bool:
        """Return whether the last request has its whole answer."""
        cycle = cast("RequestResponseCycle | None", self.cycle)
        return cycle is not None and cycle.response_complete

    @property
    def _can_answer(self) -> bool:
        """Return whether the client would take an answer sent now for that of the refused request.

        It would not while another answer is being given, nor after the request's own answer.
        """
        if self._is_answering:
            return self._is_unanswered and not self.pipeline
        return self._waits_for is not _BODY

    def _refuse_head(self) -> None:
        most = self._limiter.settings.max_head
        text = f"The head of the request is larger than {most} bytes; send fewer or shorter headers"
        if self._is_answering:  # the request before this one
            self._is_refused = True
            self._limiter.counters.limit_hit("max_head")
            self._disconnect_apps()
            self.transport.close()
        else:
            self._refuse_request(_TOO_LARGE, text, "max_head")

    def _refuse_trailers(self) -> None:
        most = self._limiter.settings.max_head
        text = f"What comes with the body is more than {most} bytes; send it without trailers"
        self._refuse_request(_TOO_LARGE, text, "max_head")

    def _refuse_request(
        self, status: str, text: str, limit: str | None = None, headers: str = ""
    ) -> None:
        """Answer with the reason, and close a moment later.

        To close at once while the client still sends would reset the connection, and the answer
        would be lost (RFC 9112, 9.6).
        """
        if self._is_refused:
            return
        can_answer = self._can_answer
        self._is_refused = True
        self._end_arrival()
        self._stop_timer()
        self._disconnect_apps()
        if not can_answer:
            self._limiter.counters.limit_hit(limit)
            self.transport.close()
            return
        self._limiter.counters.count_refusal(int(status[:3]), limit)
        self._limiter.refusals.tell(int(status[:3]), limit, text, _address_of(self.transport))
        headers += self._limiter.cors(self._headers_so_far)
        self.transport.write(refusal(status, text, headers))
        self._close_later()

    def _disconnect_apps(self) -> None:
        """Signal a disconnect to all requests here that are not completely answered.

        uvicorn signals it only to the last request, which may be waiting for one before it.
        """
        waiting = (cycle for cycle, _ in self.pipeline)
        for cycle in (self._active, *waiting, cast("RequestResponseCycle | None", self.cycle)):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._active = cycle
        super()._start_asgi_task(cycle, app)

    def _close_after_answer(self) -> None:
        """Close after an answer whose client goes on to send the request's body."""
        self._is_refused = True
        self._limiter.counters.limit_hit("max_body")
        if not self.transport.is_closing():
            self._close_later()

    def _close_later(self) -> None:
        self._stop_timer()
        if self.transport.can_write_eof():  # not with TLS
            self.transport.write_eof()
        self._timer = self.loop.call_later(CLOSE_LINGER, self.transport.close)

    def _stop_reading(self) -> None:
        """Read no further requests; the connection is closed after its last answer."""
        self._is_refused = True
        self._end_arrival()
        self._stop_timer()
        last = self.pipeline[0][0] if self.pipeline else self.cycle
        last.keep_alive = False


def _address_of(transport: asyncio.BaseTransport) -> str | None:
    """Return the address of a connection's client; None over a socket in the file system."""
    peer: object = transport.get_extra_info("peername")
    return str(cast("tuple[object, ...]", peer)[0]) if isinstance(peer, tuple) and peer else None


def _describe_invalid(data: bytes) -> str:
    """Return why these bytes cannot be read, as a sentence for the client and the log."""
    if data.startswith(b"\x16\x03"):
        return "TLS is not spoken on this port; use http://, or a proxy that has TLS"
    if data.startswith(b"PRI * HTTP/2"):
        return "HTTP/2 is not spoken on this port; send HTTP/1.1"
    return "This is no valid request of HTTP/1.1"


def _head_size(url: bytes, headers: list[tuple[bytes, bytes]]) -> int:
    return len(url) + sum(len(name) + len(value) for name, value in headers)
