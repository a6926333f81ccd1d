"""The check of Host and Origin that every request has to pass, against DNS rebinding."""

from fnmatch import fnmatchcase
from typing import Final, NamedTuple

from mcp_types.jsonrpc import INVALID_REQUEST

from headway.errors import ProtocolError
from headway.protocol.header_lines import name_of_host
from headway.settings import Settings
from headway.transport.http.origin_check import LOOPBACK, Origins

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
