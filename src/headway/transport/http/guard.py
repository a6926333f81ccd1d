"""Checks that every request has to pass before anything is done for it.

Host and Origin against DNS rebinding, the type of the body, and its size.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from fnmatch import fnmatchcase
from typing import Any, Final, NamedTuple

from mcp_types.jsonrpc import INVALID_REQUEST

from headway.errors import ProtocolError
from headway.first_step import FirstStep
from headway.protocol.header_lines import name_of_host
from headway.settings import Settings
from headway.transport.http.origins import LOOPBACK, Origins
from headway.transport.http.unfinished_requests import UnfinishedRequest, UnfinishedRequests

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Scope = MutableMapping[str, Any]

_Chunk = tuple[bytes, bool]
"""A piece of a body, and whether there are more."""

WILDCARD: Final = ("0.0.0.0", "::", "")


class Advice(NamedTuple):
    """The sentences that tell an operator how to admit what was refused, for one way of serving."""

    host: str
    origin: str
    metrics: str


ON_COMMAND_LINE: Final = Advice(
    host="start it with --allow-host",
    origin="start the server with --allow-origin",
    metrics="--set metrics=all lets everybody read them",
)

IN_AN_APP: Final = Advice(
    host="name it to headway.asgi: settings=Settings(allowed_hosts=('example.com',))",
    origin="name it to headway.asgi: settings=Settings(allowed_origins=('https://example.com',))",
    metrics="settings=Settings(metrics='all') lets everybody read them",
)


BY_ITS_RUN: Final = Advice(
    host="name it to run(): settings=Settings(allowed_hosts=('example.com',))",
    origin="name it to run(): settings=Settings(allowed_origins=('https://example.com',))",
    metrics="settings=Settings(metrics='all') lets everybody read them",
)


class ClientGone(Exception):
    """The client closed the connection before its request was read."""


class Guard:
    """Decides by Host and Origin whether a request may come in.

    `bound` is the address the server listens on. Bound to all addresses and without
    `allowed_hosts` any Host passes (the server cannot know its public names), and an Origin
    must then be loopback or allowed. Elsewhere it may also be the request's own host: one that
    somebody has named. A name that anybody may choose vouches for nobody: a page whose own name
    is made to lead here sends it as both (DNS rebinding).
    """

    def __init__(self, settings: Settings, bound: str, advice: Advice = IN_AN_APP) -> None:
        self._advice = advice
        is_wildcard = bound in WILDCARD
        self._is_on = settings.check_host
        self._any_host = is_wildcard and not settings.allowed_hosts
        self._is_host_named = not self._any_host and all(
            pattern.strip("*?.") for pattern in settings.allowed_hosts
        )
        self._hosts = (*LOOPBACK, *settings.allowed_hosts, *(() if is_wildcard else (bound,)))
        self._origins = Origins(settings.allowed_origins)
        self._passed: set[tuple[str | None, str | None]] = set()

    def check(self, headers: dict[str, str]) -> None:
        """Refuse a request that a foreign page may have sent.

        Raises:
            ProtocolError: 400 for a Host that is missing or none (RFC 9112, 3.2), 421 for one of
                another server, 403 for the Origin; says which option admits it.
        """
        if not self._is_on:
            return
        seen = (headers.get("host"), headers.get("origin"))
        if seen in self._passed:
            return
        host, origin = seen
        name = None if host is None else name_of_host(host)
        if host is None or name is None:
            raise ProtocolError(INVALID_REQUEST, _no_host(host))
        if not name or not (self._any_host or _matches_any(host, name, self._hosts)):
            raise ProtocolError(
                INVALID_REQUEST,
                f"Host {host[:100]!r} is not served here; if it is this server's name, "
                f"{self._advice.host}",
                status=421,
            )
        if origin and not self._origins.admit(origin, host if self._is_host_named else ""):
            raise ProtocolError(
                INVALID_REQUEST,
                f"Origin {origin[:100]!r} may not call this server; if it should, "
                f"{self._advice.origin}",
                status=403,
            )
        if len(self._passed) < 100:
            self._passed.add(seen)

    def admits(self, headers: dict[str, str]) -> bool:
        """Return whether `check` would let a request in."""
        try:
            self.check(headers)
        except ProtocolError:
            return False
        return True


def _no_host(host: str | None) -> str:
    if host is None:
        return "The header Host is missing; send the server's name"
    return f"Host {host[:100]!r} is no name or address with a port"


def _matches_any(host: str, name: str, allowed: tuple[str, ...]) -> bool:
    return any(
        fnmatchcase(name, pattern.lower()) or host.lower() == pattern.lower()
        or name == name_of_host(pattern)
        for pattern in allowed
    )  # fmt: skip


def check_content_type(headers: dict[str, str]) -> None:
    """Refuse a POST whose body is not declared as JSON.

    Raises:
        ProtocolError: 415.
    """
    media = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise ProtocolError(
            INVALID_REQUEST, "Send the message as Content-Type: application/json", status=415
        )


def check_encoding(headers: dict[str, str]) -> None:
    """Refuse a compressed body, because nothing here unpacks it.

    Raises:
        ProtocolError: 415 (RFC 9110, 15.5.16).
    """
    coding = headers.get("content-encoding", "").strip().lower()
    if coding not in ("", "identity"):
        raise ProtocolError(
            INVALID_REQUEST,
            f"Content-Encoding {coding[:100]!r} is not taken here; send the body as it is",
            status=415,
        )


async def read_body(
    headers: dict[str, str], receive: Receive, settings: Settings, arrivals: UnfinishedRequests
) -> bytes:
    """Return the whole body of a request.

    Raises:
        ProtocolError: It is larger than `max_body` (413), was not there in time (408), or had to
            make room for others while it was arriving (503).
        ClientGone: The connection ended first.
    """
    declared = headers.get("content-length", "")
    if declared.isdigit() and int(declared[:19]) > settings.max_body:
        raise _too_large(settings.max_body)
    # Most bodies are there when they are asked for, and then no time has to be limited.
    step = FirstStep(_next_chunk(receive))
    if not step.is_over and not arrivals.is_timed_elsewhere:
        return await _read_in_time(b"", step, receive, settings, arrivals)
    chunk, is_more = step.result if step.is_over else await step
    if is_more:
        return await _read_in_time(chunk, None, receive, settings, arrivals)
    if len(chunk) > settings.max_body:
        raise _too_large(settings.max_body)
    return chunk


async def _read_in_time(
    begun: bytes,
    following: Awaitable[_Chunk] | None,
    receive: Receive,
    settings: Settings,
    arrivals: UnfinishedRequests,
) -> bytes:
    loop = asyncio.get_running_loop()
    limit = asyncio.timeout(settings.body_timeout)
    arrival = arrivals.begin(lambda: limit.reschedule(loop.time()))
    try:
        async with limit:
            return await _read_chunks(begun, following, receive, arrival, settings.max_body)
    except TimeoutError:
        if arrival.has_given_way:
            raise arrivals.refusal_error() from None
        raise _too_late() from None
    finally:
        arrival.end()


async def _read_chunks(
    begun: bytes,
    following: Awaitable[_Chunk] | None,
    receive: Receive,
    arrival: UnfinishedRequest,
    most: int,
) -> bytes:
    chunks, size, is_more = [begun], len(begun), True
    arrival.grow(size)
    while is_more:
        if size > most:
            raise _too_large(most)
        chunk, is_more = await (_next_chunk(receive) if following is None else following)
        following = None
        chunks.append(chunk)
        size += len(chunk)
        arrival.grow(len(chunk))
    if size > most:
        raise _too_large(most)
    return b"".join(chunks)


async def _next_chunk(receive: Receive) -> _Chunk:
    message = await receive()
    if message["type"] != "http.request":
        raise ClientGone
    return message.get("body", b""), message.get("more_body", False)


def _too_late() -> ProtocolError:
    return ProtocolError(
        INVALID_REQUEST,
        "The request's body did not arrive in time; send it again",
        status=408,
        limit="body_timeout",
    )


def _too_large(limit: int) -> ProtocolError:
    return ProtocolError(
        INVALID_REQUEST,
        f"The body is larger than {limit} bytes; send less, or have the operator raise max_body",
        status=413,
        limit="max_body",
    )
