"""Headers and checks that all answers of an app share, whatever their path.

The browser of a page learns whether the page may call (`origin_check.py`), and a request whose
headers contradict each other is refused (`protocol/header_lines.py`). No answer is built from the
address that a client says it used: neither from `Host` nor from `X-Forwarded-*`. The page for
browsers alone shows its reader the `Host` that he has used himself (`browser_page.py`).
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from starlette.types import Receive, Scope, Send

from headway.errors import ProtocolError
from headway.protocol.header_lines import Lines, check_lines, read_headers
from headway.settings import Settings
from headway.transport.http.origin_check import (
    Origins,
    is_preflight,
    preflight_headers,
    with_answer_headers,
)

App = Callable[[Scope, Receive, Send], Awaitable[None]]
Refuse = Callable[[Send, ProtocolError], Awaitable[None]]

_REDIRECTS: Final = (301, 302, 303, 307, 308)


class CommonHeaders:
    """The checks in front of an app: `serve` lets a request through to it, or answers it."""

    def __init__(self, settings: Settings, endpoint: str, refuse: Refuse) -> None:
        self._refuse = refuse
        self._origins = Origins(settings.allowed_origins)
        self._endpoint = endpoint
        self._alias = endpoint.removesuffix("/") if endpoint.endswith("/") else f"{endpoint}/"

    def read_as_endpoint(self, scope: Scope) -> Scope:
        """Return the scope with the endpoint's path where it differs from it by its last slash.

        A redirect instead would need the address that the client used, and a client that follows
        it may lose its body or show its token to whoever `Host` names.
        """
        if scope["path"] == self._endpoint:
            return scope
        prefix: str = scope.get("root_path", "")
        if scope["path"] != prefix + self._alias:
            return scope
        path = prefix + self._endpoint
        return {**scope, "path": path, "raw_path": path.encode()}

    def is_plain(self, scope: Scope) -> bool:
        """Return whether nothing has to be checked or added here, as for nearly all requests.

        Such a request is for the endpoint, comes from no page in a browser, and has no header
        twice.
        """
        path, lines = scope["path"], scope["headers"]
        if path != self._endpoint and path != scope.get("root_path", "") + self._endpoint:
            return False
        names = {name for name, _ in lines}
        return b"origin" not in names and len(names) == len(lines)

    async def serve(self, app: App, scope: Scope, receive: Receive, send: Send) -> None:
        """Let `app` answer, and add to its answer what the browser of a page has to know.

        A preflight is answered here, and so is a request whose headers contradict each other.
        """
        headers = read_headers(scope["headers"])
        origin = headers.get("origin")
        is_admitted = bool(origin) and self._origins.admit(origin, headers.get("host", ""))
        shown = origin.encode("latin-1") if origin and is_admitted else None
        if shown is not None and is_preflight(scope["method"], headers):
            lines = preflight_headers(shown, headers)
            await send({"type": "http.response.start", "status": 204, "headers": lines})
            await send({"type": "http.response.body", "body": b""})
            return

        async def send_with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                lines = _with_relative_redirect(message, scope)
                message = {**message, "headers": with_answer_headers(lines, shown)}
            await send(message)

        try:
            check_lines(scope["headers"])
        except ProtocolError as error:
            await self._refuse(send_with_headers, error)
        else:
            await app(scope, receive, send_with_headers)


def _with_relative_redirect(message: MutableMapping[str, Any], scope: Scope) -> Lines:
    """Return the headers of an answer; a redirect to this path but for its last slash is relative.

    Routers write the whole address, as `Host` has it and without the prefix that a proxy took away.
    """
    lines: Lines = list(message.get("headers", ()))
    if message["status"] not in _REDIRECTS:
        return lines
    return [
        (name, _relative_location(value, scope) if name.lower() == b"location" else value)
        for name, value in lines
    ]


def _relative_location(location: bytes, scope: Scope) -> bytes:
    target = urlsplit(location.decode("latin-1"))
    here, there = scope["path"], unquote(target.path)
    last = target.path.rstrip("/").rpartition("/")[2]
    query = f"?{target.query}" if target.query else ""
    if there == f"{here}/":
        return f"./{last}/{query}".encode("latin-1")
    if here != there == here.rstrip("/"):
        up = "../" * (len(here) - len(there))
        return f"{up}{last}{query}".encode("latin-1")
    return location
