"""Where tools may connect: named hosts, and only to addresses that were looked at.

A name is resolved here, all of its addresses are checked, and the connection is made to a checked
address.

So a name that resolves differently a moment later gains nothing. The request and TLS still use the
name. If the operator names a proxy, that resolves names and connects, and its own rules take the
place of these checks. The proxies of the environment (`HTTPS_PROXY` and its like) are never used:
they are meant for other programs, and would connect without these checks.
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import ip_address, ip_network

import httpx2

from headway.tools.redaction import Secrets
from headway.tools.web.addresses import Network, is_in, is_public

__all__ = ["CheckedTransport", "Egress", "Forbidden", "Host", "Hosts", "Resolver", "is_public"]

CONNECT_SECONDS = 10
"""For each address of a name."""

PORTS = {"http": 80, "https": 443}

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a name."""


class Forbidden(Exception):
    """A URL may not be asked; the text says why."""


@dataclass(frozen=True, slots=True)
class Host:
    """A host that may be asked, as the operator allowed it."""

    ports: tuple[int, ...] = ()
    """The ports; empty: those of http and https."""
    private: bool = False
    """Whether its addresses may be private, loopback or link-local."""
    rate: float = 50.0
    """Requests a second, at most, over all calls."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    """Headers that are sent with each request, such as a key that no caller should see."""
    retry_unsafe: bool = False
    """Whether POST and PATCH are repeated like requests that change nothing twice."""


@dataclass(frozen=True, slots=True)
class Egress:
    """The way by which requests leave this machine, to whichever host."""

    deny: tuple[Network, ...] = ()
    """Networks that are never connected to, also where a host may be private."""
    proxy: str | None = None
    """The URL of a proxy that all requests go through but those to this machine itself."""

    def takes(self, name: str) -> bool:
        """Return whether the proxy connects to a host, and not this process."""
        return self.proxy is not None and not is_here(name)


class Hosts:
    """The hosts by name; `*.example.com` stands for every name below."""

    def __init__(self, hosts: Mapping[str, Host], egress: Egress | None = None) -> None:
        self._hosts = {name_of(name): host for name, host in hosts.items()}
        self.egress = egress or Egress()
        self.secrets = Secrets()
        """The values of their headers, which no answer shows."""
        for host in hosts.values():
            self.secrets |= Secrets.of_headers(host.headers)

    def __str__(self) -> str:
        return ", ".join(sorted(self._hosts)) or "none"

    def __bool__(self) -> bool:
        return bool(self._hosts)

    def find(self, name: str) -> Host | None:
        """Return the entry of the configuration for a host."""
        name = name_of(name)
        if name in self._hosts:
            return self._hosts[name]
        parents = name.split(".")[1:]
        wildcards = ("*." + ".".join(parents[start:]) for start in range(len(parents)))
        return next((self._hosts[each] for each in wildcards if each in self._hosts), None)

    def allow(self, url: httpx2.URL) -> Host:
        """Return the host of a URL.

        Raises:
            Forbidden: It, its port or its scheme is not allowed.
        """
        name = host_of(url)
        if url.scheme not in PORTS or not name:
            raise Forbidden("it is no http or https URL")
        if url.userinfo:
            raise Forbidden("it has a user name or password in it")
        host = self.find(name)
        if host is None:
            raise Forbidden(f"the host {name!r} is not allowed; allowed are: {self}")
        port = url.port or PORTS[url.scheme]
        if port not in (host.ports or PORTS.values()):
            raise Forbidden(f"port {port} of {name!r} is not allowed")
        if url.scheme == "http" and host.headers and not host.private:
            raise Forbidden(f"{name!r} is asked over https only: a key goes with the request")
        return host


def host_of(url: httpx2.URL) -> str:
    """Return the host of a URL as it is sent. `URL.host` would be decoded, and raises for some."""
    return url.raw_host.decode("ascii").strip("[]")


def name_of(host: str) -> str:
    """Return a host's one name among its spellings: ASCII, lower case, without the dot at the end.

    Raises:
        httpx2.InvalidURL: It can be no name.
    """
    name = host.lower().rstrip(".")
    if name.isascii():
        return name
    wildcard = "*." if name.startswith("*.") else ""
    return wildcard + host_of(httpx2.URL(f"http://{name.removeprefix(wildcard)}"))


def is_here(name: str) -> bool:
    """Return whether a host's name means this machine; a proxy would take it for its own."""
    name = name_of(name)
    if name == "localhost" or name.endswith(".localhost"):
        return True
    return is_address(name) and is_in(name, LOOPBACK)


def is_address(name: str) -> bool:
    """Return whether a host is named by an address."""
    try:
        return bool(ip_address(name.partition("%")[0]))
    except ValueError:
        return False


LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


async def resolve(name: str, port: int) -> list[str]:
    """Return the addresses of a name, as the system knows them.

    Raises:
        OSError: There are none.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class CheckedTransport(httpx2.AsyncBaseTransport):
    """Connects to allowed hosts, at addresses that were checked."""

    def __init__(self, hosts: Hosts, resolver: Resolver = resolve, connections: int = 64) -> None:
        self._hosts = hosts
        self._egress = hosts.egress
        self._resolve = resolver
        self._limits = httpx2.Limits(max_connections=connections)
        # One for each name: what TLS verified for one name must not carry requests to another
        # that has the same address.
        self._transports: dict[tuple[str, str], httpx2.AsyncHTTPTransport] = {}

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request to the first address that takes the connection, or to the proxy.

        Raises:
            Forbidden: The host or one of its addresses is not allowed.
            httpx2.ProxyError: The proxy cannot be reached, or refuses.
            httpx2.TransportError: No address takes the connection, or it breaks.
        """
        host = self._hosts.allow(request.url)
        name = host_of(request.url)
        if self._egress.takes(name):
            if is_address(name):
                self._check_addresses(name, host, [name])
            return await self._send_by_proxy(request)
        addresses = await self._resolve_host(request.url, host)
        problem: httpx2.TransportError = httpx2.ConnectError("the name has no address")
        for address in addresses:
            try:
                return await self._send_to(request, address)
            except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                problem = error
        raise problem

    async def aclose(self) -> None:
        """Close every connection."""
        for transport in self._transports.values():
            await transport.aclose()

    async def _resolve_host(self, url: httpx2.URL, host: Host) -> Sequence[str]:
        name = host_of(url)
        try:
            addresses = await self._resolve(name, url.port or PORTS[url.scheme])
        except (OSError, UnicodeError) as error:
            raise httpx2.ConnectError(f"the name {name!r} cannot be resolved") from error
        self._check_addresses(name, host, addresses)
        return addresses

    def _check_addresses(self, name: str, host: Host, addresses: Sequence[str]) -> None:
        """Refuse a name if one of its addresses is: its owner chooses which of them answers.

        Raises:
            Forbidden: One is.
        """
        if not host.private and not all(map(is_public, addresses)):
            raise Forbidden(f"{name!r} is at a private address, which is not allowed")
        if any(is_in(address, self._egress.deny) for address in addresses):
            raise Forbidden(f"{name!r} is at an address that is denied")

    async def _send_by_proxy(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request through the proxy."""
        timeout = {"connect": CONNECT_SECONDS, **request.extensions.get("timeout", {})}
        request.extensions = {**request.extensions, "timeout": timeout}
        try:
            return await self._transport_for("proxy", "").handle_async_request(request)
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            # What the proxy cannot reach it says itself, in an answer or in that to CONNECT. TLS is
            # spoken with the host behind it, so that what fails there is not the proxy's.
            if "ssl" in str(error).lower():
                raise
            raise httpx2.ProxyError("it cannot be reached") from error

    async def _send_to(self, request: httpx2.Request, address: str) -> httpx2.Response:
        name = host_of(request.url)
        timeout = {"connect": CONNECT_SECONDS, **request.extensions.get("timeout", {})}
        return await self._transport_for(request.url.scheme, name).handle_async_request(
            httpx2.Request(
                request.method,
                request.url.copy_with(host=address.partition("%")[0]),
                headers=request.headers,  # with the name as Host
                stream=request.stream,
                extensions={**request.extensions, "sni_hostname": name, "timeout": timeout},
            )
        )

    def _transport_for(self, scheme: str, name: str) -> httpx2.AsyncHTTPTransport:
        key = (scheme, name)
        if key not in self._transports:
            self._transports[key] = httpx2.AsyncHTTPTransport(
                verify=tls(),
                trust_env=False,
                limits=self._limits,
                proxy=self._egress.proxy if scheme == "proxy" else None,
            )
        return self._transports[key]


@lru_cache(maxsize=1)
def tls() -> ssl.SSLContext:
    """Return the context that verifies certificates; made once, for it reads a large file."""
    return httpx2.create_ssl_context(trust_env=False)
