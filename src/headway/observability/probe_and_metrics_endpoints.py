"""Health probes: whether the process lives, takes calls, and its metrics. They are not MCP."""

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address
from typing import Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Scope

from headway.errors import ProtocolError
from headway.observability.metrics import Metrics
from headway.protocol.header_lines import read_headers
from headway.settings import Settings
from headway.transport.http.host_check import Advice, Guard

Probe = Callable[[Request, bool], Response]

FORWARDED: Final = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
"""Headers that proxies add to requests."""


class Probes(dict[str, Probe]):
    """The probes by their paths; each gets the request, and whether the app takes calls."""

    def __init__(self, metrics: Metrics, settings: Settings, host: str, advice: Advice) -> None:
        super().__init__({"/healthz": _answer_alive, "/readyz": _answer_ready})
        self._metrics = metrics
        self._is_local = settings.metrics == "local"
        if self._is_local:
            # A name that was allowed is allowed for clients; it says that others come here too.
            settings = replace(settings, check_host=True, allowed_hosts=(), allowed_origins=())
            host = "localhost"
        self._advice = advice
        self._guard = Guard(settings, host, advice)
        if settings.metrics != "off":
            self["/metrics"] = self._answer_metrics

    def _answer_metrics(self, request: Request, _ready: bool) -> Response:
        if request.method not in ("GET", "HEAD"):
            return PlainTextResponse("GET it", 405, {"Allow": "GET, HEAD"})
        if self._is_local and not _is_from_here(request.scope, request):
            text = f"Metrics are for this machine; {self._advice.metrics}"
            return PlainTextResponse(text, 403)
        try:
            self._guard.check(read_headers(request.headers.raw))
        except ProtocolError as error:
            return PlainTextResponse(error.message, error.status)
        body, kind = self._metrics.page(request.headers.get("accept", ""))
        return Response(body, media_type=kind, headers={"Cache-Control": "no-store"})


def _is_from_here(scope: Scope, request: Request) -> bool:
    """Return whether a program on this machine asks, and asks for itself."""
    client = scope.get("client")
    if client is None or any(name in request.headers for name in FORWARDED):
        return False
    try:
        address = ip_address(client[0])
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def _answer_alive(_request: Request, _ready: bool) -> Response:
    return PlainTextResponse("alive")


def _answer_ready(_request: Request, ready: bool) -> Response:
    if ready:
        return PlainTextResponse("ready")
    return PlainTextResponse("not ready", 503, {"Retry-After": "5"})
