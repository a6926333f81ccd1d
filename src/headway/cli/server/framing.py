"""The ends of requests that uvicorn's parser does not see: upgrades, trailers, targets.

A request that offers another protocol (`Upgrade: h2c`, as Java's and curl's clients do, or what a
proxy adds for WebSockets) is a request like any other to a server that ignores the offer (RFC 9110,
7.8): its body has the length it says (RFC 9112, 6.3). httptools takes the head for the whole
request, and reads the body as if it were the next one. Here the head is read again without the
offer, so that one parser with one set of rules decides about both.
"""

import re
from typing import Any, Final

import httptools

from headway.protocol.header_lines import Lines, name_of_host

_ABSOLUTE: Final = re.compile(rb"https?://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)

FRAMING: Final = 4
"""Bytes around a chunk besides its size: two ends of lines."""


class Trailers(list[tuple[bytes, bytes]]):
    """Stands where a parser would add headers, once the head is there: counts and keeps nothing.

    Fields after the chunks of a body are no headers of the request (RFC 9110, 6.5.1), and none are
    wanted here. Without this, uvicorn would add them to the list that the app has already.
    """

    size = 0

    def append(self, line: tuple[bytes, bytes], /) -> None:
        """Count a line."""
        self.size += len(line[0]) + len(line[1]) + len(": \r\n")


class BadTarget(Exception):
    """The target of a request is not one that a server can answer."""


def parser_for(protocol: Any) -> httptools.HttpRequestParser:
    """Return a parser as uvicorn makes it, which also reads what follows the last request."""
    parser = httptools.HttpRequestParser(protocol)
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser


def head_without_upgrade(method: bytes, url: bytes, version: str, headers: Lines) -> bytes:
    """Return a head as it was parsed, without the protocols that it offers."""
    lines = [b"%b %b HTTP/%b" % (method, url, version.encode())]
    lines += [b"%b: %b" % line for line in headers if line[0] != b"upgrade"]
    return b"\r\n".join([*lines, b"", b""])


def chunk_overhead(size: int) -> int:
    """Return how many bytes it takes to send `size` bytes as one chunk, besides these."""
    return FRAMING + max(1, (size.bit_length() + 3) // 4)


def origin_form(target: bytes, headers: list[tuple[bytes, bytes]]) -> bytes:
    """Return the path and query of a target in absolute form, whose host becomes the `Host`.

    A server has to ignore the `Host` then (RFC 9112, 3.2.2), so `headers` is changed; two lines of
    it stay two, to be refused.

    Raises:
        BadTarget: It is no URL of a server.
    """
    match = _ABSOLUTE.fullmatch(target)
    if match is None or not name_of_host(match[1].decode("latin-1")):
        raise BadTarget
    hosts = [at for at, (name, _) in enumerate(headers) if name == b"host"]
    if len(hosts) == 1:
        headers[hosts[0]] = (b"host", match[1])
    elif not hosts:
        headers.append((b"host", match[1]))
    rest = match[2].partition(b"#")[0]
    return rest if rest.startswith(b"/") else b"/" + rest
