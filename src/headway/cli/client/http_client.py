"""The HTTP client of `tools` and `call`: bounded answers, and the proxy that requests go through.

An answer is a stranger's. Its bytes are counted while it is read, and it may not be compressed: its
unpacked size would be unknown. A server on this machine is asked directly: a proxy is for other
machines, and does not reach the loopback of this one.
"""

import importlib.util
import ipaddress
import os
import re
from collections.abc import AsyncIterator
from typing import Any, NamedTuple
from urllib.request import getproxies, proxy_bypass

import httpx2

from headway.cli.exit_codes import Refused, Unreachable

LARGEST = 64 * 1024 * 1024
"""Bytes that are read of one answer, or of one message of a stream."""


SOCKS = ("socks4", "socks5", "socks5h")


def shown_url(text: str) -> str:
    """Return a URL for people: without the user and the password in it."""
    return re.sub(r"(?<=://)[^/?#]*@", "…@", text)


class ProxyRoute(NamedTuple):
    """The way to a URL: through a proxy, or directly."""

    url: str
    proxy: str = ""
    variable: str = ""
    """The name of the variable that names the proxy."""

    def __str__(self) -> str:
        return f"{self.url_shown} (through {self.proxy_shown})" if self.proxy else self.url_shown

    @property
    def url_shown(self) -> str:
        """Return the URL for people: without the password in it."""
        return shown_url(self.url)

    @property
    def proxy_shown(self) -> str:
        """Return the proxy's URL for people: without the password in it."""
        url = httpx2.URL(self.proxy)
        port = "" if url.port is None else f":{url.port}"
        return f"the proxy {url.scheme}://{url.host}{port} of {self.variable}"


def route_to(text: str) -> ProxyRoute:
    """Return the way to `text`, a URL, by the variables for proxies that all programs know.

    Raises:
        Refused: `text` is no URL, or the proxy cannot be used here.
    """
    try:
        url = httpx2.URL(text)
        host, scheme = url.host, url.scheme
    except (httpx2.InvalidURL, ValueError, UnicodeError) as error:
        raise Refused(f"{shown_url(text)} is no URL: {error}") from error
    if not host:
        raise Refused(f"{shown_url(text)} is no URL: it names no host")
    if is_here(host):
        return ProxyRoute(text)
    known = getproxies()
    kind = scheme if known.get(scheme) else "all"
    proxy = known.get(kind, "")
    if not proxy or proxy_bypass(host if url.port is None else f"{host}:{url.port}"):
        return ProxyRoute(text)
    way = ProxyRoute(
        text, proxy if "://" in proxy else f"http://{proxy}", _variable_name(f"{kind}_proxy")
    )
    _check_proxy(way)
    return way


def _variable_name(name: str) -> str:
    """Return the name as it is written in the environment; a proxy of the system's settings has
    none.
    """
    return next((each for each in (name, name.upper()) if each in os.environ), "the system")


def _check_proxy(way: ProxyRoute) -> None:
    instead = "unset it, or add the host to NO_PROXY"
    try:
        scheme = httpx2.URL(way.proxy).scheme
        way.proxy_shown  # noqa: B018 - it reads host and port
    except (httpx2.InvalidURL, ValueError, UnicodeError) as error:
        raise Refused(f"{way.variable} holds no URL of a proxy ({error}); {instead}") from error
    if scheme in SOCKS and importlib.util.find_spec("socksio") is None:
        raise Refused(
            f"{way.proxy_shown} speaks SOCKS, for which the package socksio has to be installed; "
            f"install it, {instead}"
        )
    if scheme not in ("http", "https", *SOCKS):
        raise Refused(f"{way.variable} names a proxy with {scheme}:, which is not known; {instead}")


def is_here(host: str) -> bool:
    """Return whether a host is this machine, by its name or address."""
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):  # RFC 6761, 6.3
        return True
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    return mapped.is_loopback or mapped.is_unspecified


class TooLarge(Unreachable):
    """A server sends more than is read."""


def too_large() -> TooLarge:
    """Return the error of an answer, or of a message in a stream, that does not end."""
    return TooLarge(f"the server sends more than the {LARGEST:,} bytes that are read at once")


class _Counted(httpx2.AsyncByteStream):
    """A body of bounded size; in a stream, each message has the bound."""

    def __init__(self, wire: "BoundedTransport", body: Any, *, is_stream: bool) -> None:
        self._wire = wire
        self._body = body
        self._is_stream = is_stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for piece in self._body:
            size += len(piece)
            # A message ends with an empty line, a comment too: it is of many lines at the most.
            if self._is_stream and (end := piece.rfind(b"\n")) >= 0:
                size = len(piece) - end
            if size > LARGEST:
                self._wire.refusal = too_large()
                raise self._wire.refusal
            yield piece

    async def aclose(self) -> None:
        await self._body.aclose()


class BoundedTransport(httpx2.AsyncBaseTransport):
    """Sends requests by a server's route, and counts the bytes of answers.

    `refusal` is the reason why an answer was not read to its end: the SDK hides it, and tries
    again.
    """

    def __init__(self, way: ProxyRoute) -> None:
        self._inner = httpx2.AsyncHTTPTransport(proxy=way.proxy or None)
        self.refusal: TooLarge | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request.

        Raises:
            TooLarge: While the answer is read: it is too long.
            httpx2.TransportError: There is no answer.
        """
        request.headers["Accept-Encoding"] = "identity"
        response = await self._inner.handle_async_request(request)
        packed = response.headers.get("content-encoding", "identity").lower()
        if packed != "identity":
            await response.aclose()
            raise httpx2.ProtocolError(f"the answer is packed ({packed[:20]}), unasked")
        kind = response.headers.get("content-type", "")
        response.stream = _Counted(
            self, response.stream, is_stream=kind.startswith("text/event-stream")
        )
        return response

    async def aclose(self) -> None:
        """Close every connection."""
        await self._inner.aclose()
