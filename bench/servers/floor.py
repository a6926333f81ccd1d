"""What uvicorn alone costs: the same bytes in and out of a bare ASGI app, with no protocol.

    python -m bench.servers.floor PORT LIMIT

LIMIT is how many bytes of frames one `send` gathers: 0 sends each frame alone.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from bench.servers.serving import serve

JSON = (b"content-type", b"application/json")
SSE = (b"content-type", b"text/event-stream")
INITIALIZED = {
    "protocolVersion": "2025-11-25",
    "capabilities": {"tools": {}},
    "serverInfo": {"name": "floor", "version": "1"},
}
PROGRESS = (
    b'event: message\r\ndata: {"jsonrpc":"2.0","method":"notifications/progress",'
    b'"params":{"progressToken":%d,"progress":%d,"total":%d}}\r\n\r\n'
)
ACKNOWLEDGED = (
    b'event: message\r\ndata: {"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged",'
    b'"params":{"notifications":{},"_meta":{"io.modelcontextprotocol/subscriptionId":%d}}}\r\n\r\n'
)

Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]


class Floor:
    """An ASGI app that knows the benchmark's requests and nothing else."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._sessions: set[str] = set()

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if scope["method"] == "POST":
            await self._post(json.loads(await _body(receive)), receive, send)
        elif scope["method"] == "GET":
            await _hold_open(b": open\r\n\r\n", receive, send)
        else:
            await _answer(send, 200, b"")

    async def _post(self, message: dict[str, Any], receive: Receive, send: Send) -> None:
        request_id, params = message.get("id"), message.get("params", {})
        if request_id is None:
            await _answer(send, 202, b"")
        elif message["method"] == "initialize":
            session = f"{len(self._sessions):032x}"
            self._sessions.add(session)
            body = {"jsonrpc": "2.0", "id": request_id, "result": INITIALIZED}
            extra = (b"mcp-session-id", session.encode())
            await _answer(send, 200, json.dumps(body).encode(), extra)
        elif message["method"] == "subscriptions/listen":
            await _hold_open(ACKNOWLEDGED % request_id, receive, send)
        elif params["name"] == "echo":
            await _answer(send, 200, _result(request_id, params["arguments"]["text"]))
        else:
            await self._emit(request_id, params["arguments"], send)

    async def _emit(self, request_id: int, arguments: dict[str, Any], send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [SSE]})
        n, interval = arguments["n"], arguments.get("interval", 0)
        frames: list[bytes] = []
        size = 0
        for i in range(1, n + 1):
            frame = PROGRESS % (request_id, i, n)
            frames.append(frame)
            size += len(frame)
            if size >= self._limit or interval:
                body = b"".join(frames)
                await send({"type": "http.response.body", "body": body, "more_body": True})
                frames.clear()
                size = 0
            if interval:
                await asyncio.sleep(interval)
        frames.append(b"event: message\r\ndata: %b\r\n\r\n" % _result(request_id, "done"))
        await send({"type": "http.response.body", "body": b"".join(frames)})


def _result(request_id: int, text: str) -> bytes:
    result = {
        "content": [{"type": "text", "text": text}],
        "structuredContent": {"result": text},
        "isError": False,
    }
    body = {"jsonrpc": "2.0", "id": request_id, "result": result}
    return json.dumps(body, separators=(",", ":")).encode()


async def _body(receive: Receive) -> bytes:
    message = await receive()
    body: bytes = message["body"]
    while message.get("more_body"):
        message = await receive()
        body += message["body"]
    return body


async def _answer(send: Send, status: int, body: bytes, *extra: tuple[bytes, bytes]) -> None:
    length = (b"content-length", b"%d" % len(body))
    headers = [JSON, length, *extra]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _hold_open(first: bytes, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [SSE]})
    await send({"type": "http.response.body", "body": first, "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass


if __name__ == "__main__":
    serve(Floor(int(sys.argv[2])), int(sys.argv[1]))
