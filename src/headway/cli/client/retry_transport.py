"""An HTTP transport that outlasts what is in between: a cut, a deploy, a restart, a busy server.

The SDK's client above it sees one answer to each request. Below it,

- a request that never got out, or that the server refused because it is busy, is sent again;
- one whose answer was lost is sent again where that does nothing twice: a call only with a key that
  the server knows, and that a server which was started again meanwhile would know as well;
- a stream with event ids that was lost is asked for again with `Last-Event-ID` (2025-11-25).

All of that for as long as `RetryPolicy` allows. What could not be mended is in `trouble`, in words:
the SDK above has none for it.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import responses
from typing import Any, Final, cast

import httpx2

from headway.cli.client import http_client
from headway.cli.client.event_blocks import EventSplitter
from headway.cli.display.printable import one_line
from headway.cli.exit_codes import Busy, Lost, SessionGone, Unreachable
from headway.protocol.header_lines import retry_after
from headway.protocol.idempotency_key import META_KEY

FIRST_DELAY: Final = 0.5
"""Seconds until the first attempt where the server names none; each time twice as many."""

LONGEST_DELAY: Final = 10.0

SILENCE_TIMEOUT: Final = 90.0
"""Seconds without a byte after which a stream of a server that pings is taken for lost."""

PINGS_MISSED: Final = 3
"""Pings of a server that pings seldom, without which a stream is taken for lost."""

_BUSY: Final = frozenset({429, 503})
"""Statuses of a server that has too much to do."""

_AWAY: Final = frozenset({502, 504})
"""Statuses of a proxy that got no answer; whether the server has the request is not known."""

_NOT_SENT: Final = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.ProxyError,
)

_SHOWN: Final = 500
"""Characters of a refusal that are shown."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long a server may be away, and who is told."""

    limit: float = 0.0
    """Seconds for which something is tried again; 0: nothing is."""
    tell: Callable[[str], None] = lambda _: None
    """Called with a sentence when something is tried again."""


NO_RETRIES: Final = RetryPolicy()


@dataclass(frozen=True, slots=True)
class _Failure:
    """A request that failed, and what may be done about it."""

    error: Unreachable
    may_repeat: bool
    is_in_doubt: bool = False
    """It was a call, and the server may have it."""
    wait: float | None = None
    """Seconds after which the server asks to be tried again."""
    response: httpx2.Response | None = None
    """The refusal itself, where it is one; it has been read."""


class _RetryLoop:
    """The attempts of one request, until it is answered or they take too long."""

    def __init__(self, transport: "RetryTransport") -> None:
        self._transport = transport
        self._retries = transport.retries
        self._until = time.monotonic() + self._retries.limit
        self._delay = FIRST_DELAY
        self._told = ""

    async def wait_for_next(self, failure: _Failure) -> bool:
        """Wait until the next attempt is due; False where there is none."""
        wait = max(self._delay, failure.wait or 0.0) if self._told else failure.wait or self._delay
        if not failure.may_repeat or time.monotonic() + wait > self._until:
            return False
        if (text := str(failure.error)) != self._told:
            self._told = text
            self._retries.tell(one_line(f"{text}; trying again in {round(wait, 1):g} s"))
        self._transport.on_wait(wait)
        await asyncio.sleep(wait)
        self._delay = min(self._delay * 2, LONGEST_DELAY)
        return True


class RetryTransport(httpx2.AsyncBaseTransport):
    """Sends requests through `inner` until they are answered."""

    def __init__(
        self, inner: httpx2.AsyncBaseTransport, url: str, retries: RetryPolicy, *, was_heard: bool
    ) -> None:
        """`was_heard`: the server has answered before; if not, a refused connection is final."""
        self._inner = inner
        self._url = url
        self._was_heard = was_heard
        self.retries = retries
        self.on_wait: Callable[[float], None] = lambda _: None
        """Called with the seconds until something is tried again."""
        self.knows_keys = False
        """Whether the server keeps to idempotency keys."""
        self.has_durable_keys = False
        """Whether it knows them after it was started again, too."""
        self.silence_timeout: float | None = None
        """Seconds without a byte after which a stream is taken for lost; None: it may be silent."""
        self.is_in_doubt = False
        """Whether the server took a call, or may have: sent again, it could be done twice."""
        self.is_repeated = False
        """Whether a call was sent again that the server may have taken before."""
        self.trouble: Unreachable | None = None
        """Why the last request that failed did."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request, as often as it takes.

        Raises:
            httpx2.TransportError: There is no answer.
        """
        if self.silence_timeout is not None:
            request.extensions["timeout"] = {
                **request.extensions.get("timeout", {}),
                "read": self.silence_timeout,
            }
        if request.method != "POST":  # the SDK has its own ways with a session's stream and end
            return await self._inner.handle_async_request(request)
        message, loop = _Message(request), _RetryLoop(self)
        while True:
            try:
                response = await self._inner.handle_async_request(request)
                failure = await self._refusal_in(response, message)
                if failure is None:
                    return await self._take_answer(response, request, message)
            except httpx2.TransportError as error:
                failure = self._failure_from(error, message)
                self._note_doubt(failure)
                if not await loop.wait_for_next(failure):
                    self.trouble = failure.error
                    raise
            else:
                self._note_doubt(failure)
                if not await loop.wait_for_next(failure):
                    self.trouble = failure.error
                    return response
            self.is_repeated = self.is_repeated or failure.is_in_doubt

    async def aclose(self) -> None:
        """Close every connection."""
        await self._inner.aclose()

    def lose_stream(self, error: Unreachable) -> httpx2.SSEError:
        """Return the error that ends a stream for good."""
        self.trouble = error
        return httpx2.SSEError(str(error))

    def _note_doubt(self, failure: _Failure) -> None:
        self.is_in_doubt = self.is_in_doubt or failure.is_in_doubt

    def _failure_from(self, error: httpx2.TransportError, message: "_Message") -> _Failure:
        reason = str(error) or type(error).__name__
        if isinstance(error, _NOT_SENT):
            text = f"cannot connect to {self._url} ({reason}); is the server running there?"
            return _Failure(Unreachable(text), self._was_heard)
        lost = Lost(f"the connection to {self._url} was lost: {reason}")
        return _Failure(lost, self._was_heard and self._is_repeatable(message), message.is_call)

    async def _refusal_in(self, response: httpx2.Response, message: "_Message") -> _Failure | None:
        """Return what a status says about the server rather than about the request, or None."""
        status = response.status_code
        if status == 404 and message.has_session:
            text = f"{self._url} does not know this session any more: {_GONE}"
            return _Failure(SessionGone(text), False)
        if status not in _BUSY | _AWAY:
            return None
        wait = retry_after(response.headers, datetime.now(UTC))
        said = await _text_of(response)
        asks = "" if wait is None else f"; it asks to be tried again after {wait:g} s"
        status_line = f"HTTP {status} {responses.get(status, '')}".rstrip()
        if status in _BUSY:
            error = Busy(f"{self._url} is busy: {said or status_line} ({status_line}{asks})")
        else:
            reason = said or "no server behind the proxy answers"
            error = Unreachable(f"{self._url} answered {status_line}: {reason}")
        # A 503 without a time may be of a proxy that has lost a server which has the request.
        is_untouched = status == 429 or (status == 503 and wait is not None)
        may_repeat = self._was_heard and (is_untouched or self._is_repeatable(message))
        may_repeat = may_repeat or (is_untouched and wait is not None)
        return _Failure(error, may_repeat, message.is_call and not is_untouched, wait, response)

    def _is_repeatable(self, message: "_Message") -> bool:
        """Return whether a request can be sent again that the server may have taken.

        A session is known to no other server, and one that has lost it has lost the keys as well.
        """
        is_known = message.has_key and (self.has_durable_keys or message.has_session)
        return not message.is_call or (self.knows_keys and is_known)

    async def _take_answer(
        self, response: httpx2.Response, request: httpx2.Request, message: "_Message"
    ) -> httpx2.Response:
        """Return the answer to a request, whole or as a stream that outlasts cuts.

        Raises:
            httpx2.TransportError: It was cut off.
        """
        if message.is_call and not 300 <= response.status_code < 500:
            self.is_in_doubt = True
        if message.wants_answer and _is_stream(response):
            stream = cast("httpx2.AsyncByteStream", response.stream)
            response.stream = _RetryStream(self, request, stream)
        elif message.wants_answer and _is_json(response) and response.status_code < 300:
            await _read_whole(response)
        self._was_heard, self.trouble = True, None
        return response

    async def resume_stream(self, request: httpx2.Request, last_id: str) -> httpx2.Response:
        """Return the rest of a stream that was lost.

        Raises:
            Unreachable: There is none any more.
            httpx2.TransportError: There is no answer.
        """
        response = await self._inner.handle_async_request(_resumption(request, last_id))
        if response.status_code == 200 and _is_stream(response):
            self._was_heard = True
            return response
        said = await _text_of(response)
        if response.status_code in _BUSY | _AWAY:
            raise httpx2.ReadError(f"HTTP {response.status_code} {said}".rstrip())
        status = response.status_code
        raise SessionGone(f"{self._url} cannot go on with the call (HTTP {status} {said}): {_GONE}")


_GONE: Final = "it was started again without a journal, or has ended the session"


class _Message:
    """The message of the protocol that a request carries."""

    def __init__(self, request: httpx2.Request) -> None:
        body = _object_in(request.content)
        params = body.get("params")
        meta = cast("dict[str, Any]", params).get("_meta") if isinstance(params, dict) else None
        self.has_session = "mcp-session-id" in request.headers
        self.is_call = body.get("method") == "tools/call"
        self.has_key = isinstance(meta, dict) and META_KEY in meta
        self.wants_answer = "method" in body and "id" in body


class _RetryStream(httpx2.AsyncByteStream):
    """The events of an answer, over as many connections as it takes."""

    def __init__(
        self, transport: RetryTransport, request: httpx2.Request, body: httpx2.AsyncByteStream
    ) -> None:
        self._transport = transport
        self._request = request
        self._body = body
        self._last_id = ""
        self._retry: float | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            reason = "it ended before the answer"
            try:
                async for data in self._events():
                    yield data
            except httpx2.SSEError:  # it is given up
                raise
            except httpx2.TransportError as error:
                reason = str(error) or type(error).__name__
            # Who has the answer reads no further: this stream ended without it.
            await self._open_again(reason)

    async def aclose(self) -> None:
        await self._body.aclose()

    async def _events(self) -> AsyncIterator[bytes]:
        splitter = EventSplitter()
        async for piece in self._body:
            for event in splitter.feed(piece):
                self._last_id = self._last_id if event.id is None else event.id
                self._retry = self._retry if event.retry is None else event.retry
                yield event.data
            if splitter.unfinished > http_client.LARGEST:
                raise self._transport.lose_stream(http_client.too_large())

    async def _open_again(self, reason: str) -> None:
        """Go on with the stream where it was lost.

        Raises:
            httpx2.SSEError: There is nothing to go on with; the transport knows why.
        """
        await self._body.aclose()
        loop = _RetryLoop(self._transport)
        while True:
            lost = Lost(f"the connection was lost: {reason}")
            failure = _Failure(lost, bool(self._last_id), wait=self._retry)
            if not await loop.wait_for_next(failure):
                raise self._transport.lose_stream(lost)
            try:
                response = await self._transport.resume_stream(self._request, self._last_id)
            except Unreachable as error:
                raise self._transport.lose_stream(error) from error
            except httpx2.TransportError as error:
                reason = str(error) or type(error).__name__
                continue
            self._body = cast("httpx2.AsyncByteStream", response.stream)
            return


_OF_A_BODY: Final = frozenset({"content-length", "content-type", "transfer-encoding", "accept"})


def _resumption(request: httpx2.Request, last_id: str) -> httpx2.Request:
    """Return the GET that goes on with the stream of a POST (transports, 2025-11-25)."""
    headers = {name: value for name, value in request.headers.items() if name not in _OF_A_BODY}
    headers |= {"accept": "text/event-stream", "last-event-id": last_id}
    return httpx2.Request("GET", request.url, headers=headers, extensions=request.extensions)


def _object_in(content: bytes) -> dict[str, Any]:
    try:
        body: object = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, Any]", body) if isinstance(body, dict) else {}


_FRAMING: Final = frozenset({"content-length", "transfer-encoding"})
"""Headers that say where an answer ends."""


def _is_stream(response: httpx2.Response) -> bool:
    return response.headers.get("content-type", "").lower().startswith("text/event-stream")


def _is_json(response: httpx2.Response) -> bool:
    return response.headers.get("content-type", "").lower().startswith("application/json")


async def _read_whole(response: httpx2.Response) -> None:
    """Read the JSON of an answer, so that a cut in it is noticed where it can be mended.

    Raises:
        httpx2.TransportError: It was cut off.
    """
    stream = cast("httpx2.AsyncByteStream", response.stream)
    try:
        body = b"".join([piece async for piece in stream])
    finally:
        await stream.aclose()
    if not _FRAMING & response.headers.keys() and not _object_in(body):
        # Where the end of the connection is the end of the answer, a cut looks like one.
        raise httpx2.ReadError("it was closed in the middle of the answer")
    response.stream = httpx2.ByteStream(body)


async def _text_of(response: httpx2.Response) -> str:
    """Return the reason in a refusal: of a JSON-RPC error its message, of a page nothing.

    The response is closed, and its connection is free for the next request.
    """
    if not _is_json(response):
        await response.aclose()
        return ""
    try:
        error = _object_in(await response.aread()).get("error")
    except httpx2.TransportError:
        return ""
    said = cast("dict[str, Any]", error).get("message") if isinstance(error, dict) else None
    return one_line(said[:_SHOWN]) if isinstance(said, str) else ""
