"""The page for a person who opens a server's URL in a browser: what it is, and how to connect.

It is static and has no scripts. Only a browser gets it: a request that would rather have a page
than anything that MCP answers with, and that has no header of MCP. Everybody else is answered as
ever.
"""

import asyncio
import base64
import hashlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from html import escape
from typing import Final

from starlette.types import Receive, Scope, Send

from headway.client_config import CLIENTS, usable_name
from headway.protocol.header_lines import name_of_host, read_headers
from headway.transport.http.accept_header import prefers_html
from headway.transport.http.host_check import Guard

TOOLS_TIMEOUT: Final = 2.0
"""Seconds that the server's own code gets to list its tools for the page."""

MOST_TOOLS: Final = 200
"""Names of tools that the page has."""

_OF_CLIENTS: Final = ("mcp-protocol-version", "mcp-session-id", "last-event-id", "mcp-method")
"""Headers that only MCP clients send."""

_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:48rem;margin:2rem auto;padding:0 1rem}"
    "pre{background:#8881;padding:.75rem;overflow-x:auto}summary{cursor:pointer}"
    ":root{color-scheme:light dark}"
)

_DIGEST: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

_POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_DIGEST}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_HEADERS: Final = (
    (b"content-type", b"text/html; charset=utf-8"),
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (b"vary", b"Accept"),
)


def is_from_browser(method: str, headers: dict[str, str]) -> bool:
    """Return whether a person has opened the URL, and no MCP client asks."""
    if method not in ("GET", "HEAD") or not prefers_html(headers):
        return False
    return not any(name in headers for name in _OF_CLIENTS)


class BrowserPage:
    """The page about one served object.

    `list_tools` returns the names of its tools; None where only a client may ask for them.
    """

    def __init__(
        self, name: str, version: str, list_tools: Callable[[], Awaitable[list[str]]] | None
    ) -> None:
        self._name = name
        self._version = version
        self._list_tools = list_tools

    async def send(self, scope: Scope, headers: dict[str, str], send: Send) -> None:
        """Answer with the page; a request of HEAD gets its head."""
        page = self._render(_url_of(scope, headers.get("host", "")), await self._tool_names())
        body = page.encode("utf-8", "replace")
        lines = [*_HEADERS, (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": lines})
        body = b"" if scope["method"] == "HEAD" else body
        await send({"type": "http.response.body", "body": body})

    async def _tool_names(self) -> list[str] | None:
        if self._list_tools is None:
            return None
        with suppress(TimeoutError):
            async with asyncio.timeout(TOOLS_TIMEOUT):
                return list(dict.fromkeys(await self._list_tools()))
        return None

    def _render(self, url: str, tools: list[str] | None) -> str:
        name, version = escape(self._name), escape(self._version)
        blocks = (
            f"<details><summary>{escape(row.title)}</summary>"
            f"<pre>{escape(row.render(usable_name(self._name), row.of_url(url)))}</pre></details>"
            for row in CLIENTS.values()
        )
        return (
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{name}</title>'
            '<meta name="viewport" content="width=device-width"><meta name="robots" '
            f'content="noindex"><style>{_STYLE}</style></head><body><h1>{name} {version}</h1>'
            "<p>A server for programs that speak the Model Context Protocol (MCP). Its address:</p>"
            f"<pre>{escape(url)}</pre>{_render_tools(tools)}<h2>Connect a program</h2>"
            f"{''.join(blocks)}</body></html>\n"
        )


class BrowserRedirect:
    """An ASGI app for `/`: it sends browsers to the endpoint, and answers others as nothing."""

    def __init__(self, guard: Guard, path: str, not_found: Callable[..., Awaitable[None]]) -> None:
        self._guard = guard
        self._location = f".{path}".encode()
        self._not_found = not_found

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers = read_headers(scope["headers"])
        if not is_from_browser(scope["method"], headers) or not self._guard.admits(headers):
            await self._not_found(scope, receive, send)
            return
        lines = [(b"location", self._location), (b"content-length", b"0"), (b"vary", b"Accept")]
        await send({"type": "http.response.start", "status": 307, "headers": lines})
        await send({"type": "http.response.body", "body": b""})


def _url_of(scope: Scope, host: str) -> str:
    """Return the address of the endpoint as its caller wrote it: of a Host that has passed."""
    path, root = scope["path"], scope.get("root_path", "")
    whole = path if not root or path.startswith(f"{root}/") else f"{root}{path}"
    shown = host if name_of_host(host) else "localhost"
    return f"{scope['scheme']}://{shown}{whole}"


def _render_tools(tools: list[str] | None) -> str:
    if tools is None:
        return ""
    shown = "".join(f"<li><code>{escape(name)}</code></li>" for name in tools[:MOST_TOOLS])
    number = "1 tool" if len(tools) == 1 else f"{len(tools)} tools"
    return f"<h2>{number}</h2><ul>{shown}</ul>"
