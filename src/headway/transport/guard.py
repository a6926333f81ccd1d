"""What a request must look like before anything is done for it.

Host and Origin against DNS rebinding, the type of the body, and its size.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from fnmatch import fnmatchcase
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from mcp_types.jsonrpc import INVALID_REQUEST

from headway.errors import ProtocolError
from headway.settings import Settings

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Scope = MutableMapping[str, Any]

LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
WILDCARD: Final = ("0.0.0.0", "::", "")


class Advice(NamedTuple):
    """How an operator admits what was refused, in the words of the way in which it is served."""

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
    must then be loopback, allowed, or the request's own host.
    """

    def __init__(self, settings: Settings, bound: str, advice: Advice = IN_AN_APP) -> None:
        self._advice = advice
        self._is_on = settings.check_host
        self._any_host = bound in WILDCARD and not settings.allowed_hosts
        self._hosts = (*LOOPBACK, *settings.allowed_hosts, *(() if bound in WILDCARD else (bound,)))
        self._origins = settings.allowed_origins
        self._passed: set[tuple[str | None, str | None]] = set()

    def check(self, headers: dict[str, str]) -> None:
        """Refuse a request that a foreign page may have sent.

        Raises:
            ProtocolError: 421 for the Host, 403 for the Origin; says which option admits it.
        """
        if not self._is_on:
            return
        seen = (headers.get("host"), headers.get("origin"))
        if seen in self._passed:
            return
        host, origin = seen
        if not host or not (self._any_host or _matches(host, self._hosts)):
            raise ProtocolError(
                INVALID_REQUEST,
                f"Host {(host or '')[:100]!r} is not served here; if it is this server's name, "
                f"{self._advice.host}",
                status=421,
            )
        if origin and not self._admits(origin, host):
            raise ProtocolError(
                INVALID_REQUEST,
                f"Origin {origin[:100]!r} may not call this server; if it should, "
                f"{self._advice.origin}",
                status=403,
            )
        if len(self._passed) < 100:
            self._passed.add(seen)

    def _admits(self, origin: str, host: str) -> bool:
        if any(fnmatchcase(origin.lower(), allowed.lower()) for allowed in self._origins):
            return True
        name = _name_of_origin(origin)
        return bool(name) and (name in LOOPBACK or name == _name_of_host(host))


def _matches(host: str, allowed: tuple[str, ...]) -> bool:
    name = _name_of_host(host)
    return any(
        fnmatchcase(name, pattern.lower()) or host.lower() == pattern.lower()
        or name == _name_of_host(pattern)
        for pattern in allowed
    )  # fmt: skip


def _name_of_host(host: str) -> str:
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host


def _name_of_origin(origin: str) -> str:
    try:
        return (urlsplit(origin).hostname or "").lower()
    except ValueError:
        return ""


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


async def read_body(headers: dict[str, str], receive: Receive, limit: int) -> bytes:
    """The whole body of a request.

    Raises:
        ProtocolError: It is larger than `limit` (413).
        ClientGone: The connection ended first.
    """
    declared = headers.get("content-length", "")
    if declared.isdigit() and int(declared[:19]) > limit:
        raise _too_large(limit)
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientGone
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _too_large(limit: int) -> ProtocolError:
    return ProtocolError(
        INVALID_REQUEST,
        f"The body is larger than {limit} bytes; send less, or have the operator raise max_body",
        status=413,
        limit="max_body",
    )
