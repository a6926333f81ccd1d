"""Bytes of an HTTP answer on their way out: heads, bodies, and the watch for a lost connection."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from starlette.types import Receive, Send

from headway.clock import Clock, Timer
from headway.transport.http.accept_header import Form

Headers = Sequence[tuple[bytes, bytes]]

_SSE_HEADERS: Final = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
)


class HttpReply:
    """The way back of one request: its connection, and whether anything was sent on it."""

    __slots__ = ("_headers", "_receive", "_send", "_watcher", "committed")

    def __init__(self, receive: Receive, send: Send, headers: Headers) -> None:
        self._receive = receive
        self._send = send
        self._headers = headers
        self._watcher: asyncio.Task[None] | None = None
        self.committed = False
        """Whether the status was sent, so that nothing else can be answered any more."""

    async def send_json(self, status: int, body: bytes) -> None:
        """Send the whole answer as JSON."""
        self.committed = True
        await send_json(self._send, status, body, self._headers)

    async def start_stream(self) -> None:
        """Send the head of an SSE stream."""
        headers = [*_SSE_HEADERS, *self._headers]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        self.committed = True

    async def send_body(self, body: bytes, *, more: bool) -> None:
        """Send a piece of the stream; without `more` it is the last."""
        await self._send({"type": "http.response.body", "body": body, "more_body": more})

    def watch(self, on_gone: Callable[[], object]) -> None:
        """Call `on_gone` when the client closes the connection."""
        if self._watcher is None:
            self._watcher = asyncio.create_task(self._watch_connection(on_gone))

    async def _watch_connection(self, on_gone: Callable[[], object]) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        on_gone()

    def stop_watching(self) -> None:
        """Stop looking at the connection."""
        if self._watcher is not None:
            self._watcher.cancel()


class ExpiryTimer:
    """Notices when the token of a reader expires."""

    __slots__ = ("_clock", "_on_expiry", "_timer", "_until", "at_expiry", "can_resume")

    def __init__(self, clock: Clock, until: float | None, on_expiry: Callable[[], object]) -> None:
        """`until` is in seconds since 1970; None: it never expires."""
        self._clock = clock
        self._until = until
        self._on_expiry = on_expiry
        self._timer: Timer | None = None
        self.can_resume = False
        """Whether the reader has an event id, with which it can come back."""
        self.at_expiry: Callable[[], object] | None = None
        """Called in place of the end of the answer, where that was asked for."""

    def start(self) -> None:
        """Wait for the moment from now on."""
        if self._until is not None:
            left = max(self._until - self._clock.time(), 0.0)
            self._timer = self._clock.call_later(left, self._on_expiry)

    def stop(self) -> None:
        """Wait no more."""
        if self._timer is not None:
            self._timer.cancel()


async def send_json(send: Send, status: int, body: bytes, headers: Headers = ()) -> None:
    """Answer with a JSON body."""
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [
                (b"content-type", b"application/json"),
                (b"content-length", b"%d" % len(body)),
                *headers,
            ],
        }
    )
    await send({"type": "http.response.body", "body": body})


async def send_event(send: Send, body: bytes, headers: Headers = ()) -> None:
    """Answer with a stream that carries one message."""
    start = {"type": "http.response.start", "status": 200, "headers": [*_SSE_HEADERS, *headers]}
    await send(start)
    await send({"type": "http.response.body", "body": b"event: message\ndata: %b\n\n" % body})


async def send_result(send: Send, form: Form, body: bytes, headers: Headers = ()) -> None:
    """Answer with one message that is there at once, in a form that its client takes."""
    if form is Form.STREAM:
        await send_event(send, body, headers)
    else:
        await send_json(send, 200, body, headers)


async def send_empty(send: Send, status: int, headers: Headers = ()) -> None:
    """Answer without a body."""
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [(b"content-length", b"0"), *headers],
        }
    )
    await send({"type": "http.response.body", "body": b""})
