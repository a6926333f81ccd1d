"""How many functions a call of an unchanged server calls: a figure that no other process disturbs.

The app is called in this process as an HTTP server calls it, without one. Counted are the calls of
functions written in Python and of those that are not.
"""

import asyncio
import json
import sys
from typing import Any

from bench.servers.fixture import mcp
from bench.wire import VERSIONS, Era
from headway.app import HeadwayApp
from headway.server import asgi
from headway.settings import Settings

WARM_UP, COUNTED = 50, 200

_CLIENT = {"name": "bench", "version": "1"}
_META = "io.modelcontextprotocol/"


def calls_of_one(era: Era) -> float:
    """Return how many functions are called for one `echo`."""
    return asyncio.run(_count(era))


async def _count(era: Era) -> float:
    app = asgi(mcp, settings=Settings(progress_rate=0))
    async with app.lifespan():
        session = await _open_session(app) if era == "2025" else None
        scope, body = _call(era, session)
        for _ in range(WARM_UP):
            await _post(app, scope, body)
        counted = 0

        def count(_frame: object, event: str, _argument: object) -> None:
            nonlocal counted
            counted += event in ("call", "c_call")

        sys.setprofile(count)
        try:
            for _ in range(COUNTED):
                await _post(app, scope, body)
        finally:
            sys.setprofile(None)
        return counted / COUNTED


async def _open_session(app: HeadwayApp) -> str:
    params = {"protocolVersion": VERSIONS["2025"], "capabilities": {}, "clientInfo": _CLIENT}
    headers = {"mcp-protocol-version": VERSIONS["2025"]}
    start, *_ = await _post(app, *_request(headers, "initialize", params, identity=0))
    session = dict(start["headers"])[b"mcp-session-id"].decode()
    headers["mcp-session-id"] = session
    await _post(app, *_request(headers, "notifications/initialized", {}))
    return session


def _call(era: Era, session: str | None) -> tuple[dict[str, Any], bytes]:
    params: dict[str, Any] = {"name": "echo", "arguments": {"text": "x"}}
    headers = {"mcp-protocol-version": VERSIONS[era]}
    if session is not None:
        headers["mcp-session-id"] = session
    else:
        headers |= {"mcp-method": "tools/call", "mcp-name": "echo"}
        params["_meta"] = {
            f"{_META}protocolVersion": VERSIONS[era],
            f"{_META}clientInfo": _CLIENT,
            f"{_META}clientCapabilities": {},
        }
    return _request(headers, "tools/call", params, identity=1)


def _request(
    headers: dict[str, str], method: str, params: dict[str, Any], identity: int | None = None
) -> tuple[dict[str, Any], bytes]:
    message: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "params": params}
    if identity is not None:
        message["id"] = identity
    lines = {
        "host": "127.0.0.1",
        "accept": "application/json, text/event-stream",
        "content-type": "application/json",
        **headers,
    }
    scope: dict[str, Any] = {
        "type": "http", "http_version": "1.1", "method": "POST", "path": "/mcp",
        "raw_path": b"/mcp", "query_string": b"", "root_path": "", "scheme": "http",
        "headers": [(name.encode(), value.encode()) for name, value in lines.items()],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
    }  # fmt: skip
    return scope, json.dumps(message).encode()


async def _post(app: HeadwayApp, scope: dict[str, Any], body: bytes) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []
    left = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        return left.pop() if left else await asyncio.get_running_loop().create_future()

    async def send(message: Any) -> None:
        sent.append(message)

    await app(dict(scope), receive, send)
    assert sent[0]["status"] in (200, 202), sent
    return sent
