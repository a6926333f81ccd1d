"""A client without a connection or a server: it hands an ASGI app its requests, in one process."""

import asyncio
import json
from typing import Any

from bench.wire import VERSIONS, Era
from headway.app import HeadwayApp

Sent = list[dict[str, Any]]
"""The messages that the app has sent for one request, as ASGI has them."""

_CLIENT = {"name": "by hand", "version": "1"}
_META = "io.modelcontextprotocol/"


class ByHand:
    """Calls tools of an app, whose lifespan is entered."""

    def __init__(self, app: HeadwayApp, era: Era) -> None:
        self._app = app
        self._era: Era = era
        self._session: str | None = None

    async def shake_hands(self) -> None:
        """Open a session, where the era has any."""
        if self._era == "2025":
            params = {
                "protocolVersion": VERSIONS["2025"], "capabilities": {}, "clientInfo": _CLIENT,
            }  # fmt: skip
            start, *_ = await self._post({"id": 0, "method": "initialize", "params": params})
            self._session = dict(start["headers"])[b"mcp-session-id"].decode()
            await self._post({"method": "notifications/initialized"})

    async def call(self, tool: str, arguments: dict[str, Any], *, token: str | None = None) -> Sent:
        """The answer to a call; with a token it asks for progress."""
        meta: dict[str, Any] = {} if token is None else {"progressToken": token}
        if self._era == "2026":
            meta |= {
                f"{_META}protocolVersion": VERSIONS["2026"],
                f"{_META}clientInfo": _CLIENT,
                f"{_META}clientCapabilities": {},
            }
        params = {"name": tool, "arguments": arguments, **({"_meta": meta} if meta else {})}
        return await self._post({"id": 1, "method": "tools/call", "params": params}, tool)

    async def _post(self, message: dict[str, Any], name: str = "") -> Sent:
        headers = {
            "host": "localhost",
            "accept": "application/json, text/event-stream",
            "content-type": "application/json",
            "mcp-protocol-version": VERSIONS[self._era],
        }
        if self._session is not None:
            headers["mcp-session-id"] = self._session
        if self._era == "2026":
            headers |= {"mcp-method": message["method"], "mcp-name": name}
        scope: dict[str, Any] = {
            "type": "http", "http_version": "1.1", "method": "POST", "path": "/mcp",
            "raw_path": b"/mcp", "query_string": b"", "root_path": "", "scheme": "http",
            "headers": [(key.encode(), value.encode()) for key, value in headers.items()],
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
        }  # fmt: skip
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        left = [{"type": "http.request", "body": body, "more_body": False}]
        sent: Sent = []

        async def receive() -> dict[str, Any]:
            return left.pop() if left else await asyncio.get_running_loop().create_future()

        async def send(answer: Any) -> None:
            sent.append(answer)

        await self._app(scope, receive, send)
        return sent
