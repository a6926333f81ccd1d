"""Pages in browsers: which may call this server, and the headers that let their browsers agree.

One rule decides both. A page whose `Origin` passes is let in, and its browser gets the headers of
CORS (https://fetch.spec.whatwg.org/#http-cors-protocol); any other page is refused and gets none.
"""

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Final

from headway.protocol.header_lines import Lines, name_of_host

LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")

_ORIGIN: Final = re.compile(r"(?P<scheme>[a-z][a-z0-9+.\-]*)://(?P<host>[^/?#@\\\s]*)")
_WEB: Final = ("http", "https")

EXPOSED: Final = b"Mcp-Session-Id, WWW-Authenticate, Retry-After"
"""Headers of an answer that a page may read, besides the few that it may always read."""

_METHODS: Final = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"

_REQUEST_HEADERS: Final = (
    "Accept", "Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID", "Mcp-Method",
    "Mcp-Name", "MCP-Protocol-Version", "Mcp-Session-Id",
)  # fmt: skip
"""Headers that clients of MCP send. A page that is let in may send others as well, `Mcp-Param-*`
among them: CORS has no wildcard for a prefix."""

_MAX_AGE: Final = b"600"
"""Seconds for which a browser need not ask again: the rules change only with a restart."""

_MOST_NAMED: Final = 100
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


class Origins:
    """Which pages may call: those on loopback, on the server's own host, and those allowed."""

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        self._allowed = tuple(pattern.lower() for pattern in allowed)

    def admit(self, origin: str, host: str) -> bool:
        """Return whether a page of this origin may call the server that it knows as `host`.

        With an empty `host` the page's own name counts for nothing.
        """
        origin = origin.lower()
        match = _ORIGIN.fullmatch(origin)
        name = name_of_host(match["host"]) if match else None
        if name is None and origin != "null":
            return False
        if any(fnmatchcase(origin, pattern) for pattern in self._allowed):
            return True
        if match is None or match["scheme"] not in _WEB:
            return False
        return bool(name) and (name in LOOPBACK or name == name_of_host(host))


def is_preflight(method: str, headers: dict[str, str]) -> bool:
    """Return whether a browser asks what a page may send, before the page sends it."""
    return method == "OPTIONS" and "access-control-request-method" in headers


def answer_headers(origin: bytes) -> Lines:
    """Return the headers to add to each answer to a page of this origin, which was let in."""
    return (
        (b"access-control-allow-origin", origin),
        (b"access-control-expose-headers", EXPOSED),
        (b"vary", b"Origin"),
    )


def preflight_headers(origin: bytes, asked: dict[str, str]) -> Lines:
    """Return the headers of the answer to a preflight; `asked` are those of the request."""
    known = {name.lower() for name in _REQUEST_HEADERS}
    wanted = asked.get("access-control-request-headers", "").split(",", _MOST_NAMED)[:_MOST_NAMED]
    others = [name for each in wanted if _TOKEN.fullmatch(name := each.strip())]
    allowed = (*_REQUEST_HEADERS, *(name for name in others if name.lower() not in known))
    headers = [
        (b"access-control-allow-origin", origin),
        (b"access-control-allow-methods", _METHODS),
        (b"access-control-allow-headers", ", ".join(allowed).encode()),
        (b"access-control-max-age", _MAX_AGE),
        (b"vary", b"Origin, Access-Control-Request-Headers"),
    ]
    if asked.get("access-control-request-private-network", "").lower() == "true":
        headers.append((b"access-control-allow-private-network", b"true"))
    return headers


def with_answer_headers(lines: Iterable[tuple[bytes, bytes]], origin: bytes | None) -> Lines:
    """Return the headers of an answer, with those that a browser needs.

    With None for the origin only `Vary` is added: the answer may differ by origin. A route that
    sends headers of CORS itself keeps its own.
    """
    lines = list(lines)
    names = {name.lower() for name, _ in lines}
    if b"access-control-allow-origin" in names:
        return lines
    added = answer_headers(origin) if origin is not None else ((b"vary", b"Origin"),)
    if b"vary" not in names:
        return [*lines, *added]
    varied = b", ".join(value for name, value in lines if name.lower() == b"vary")
    kept = [line for line in (*lines, *added) if line[0].lower() != b"vary"]
    return [*kept, (b"vary", varied + b", Origin")]
