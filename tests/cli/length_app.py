"""An app below uvicorn that says how long each body was, and how it is spoken to."""

import asyncio
from typing import Any

from tests.kit.http import Connection


class LengthApp:
    """An app that answers with the length of the body, when it is let."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.go.set()
        self.is_early = False  # says that it answers before it does
        self.asked = 0
        self.port = 0
        self.connections: list[Connection] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for phase in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{phase}.complete"})
            return
        self.asked += 1
        size = 0
        message: Any = {"more_body": True}
        while message.get("more_body"):
            message = await receive()
            size += len(message.get("body", b""))
            if message["type"] == "http.disconnect":
                return
        body = str(size).encode()
        length = (b"content-length", b"%d" % len(body))
        start = {"type": "http.response.start", "status": 200, "headers": [length]}
        if self.is_early:
            await send(start)
            await self.go.wait()
        else:
            await self.go.wait()
            await send(start)
        await send({"type": "http.response.body", "body": body})

    async def drain(self) -> None:
        self.go.set()

    async def connect(self) -> Connection:
        self.connections.append(await Connection.open("127.0.0.1", self.port))
        return self.connections[-1]


def post(body: bytes = b"", *headers: str) -> bytes:
    lines = ["POST / HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def answered(connection: Connection) -> str:
    answer = await connection.answer()
    assert answer.status == 200
    return (await answer.body()).decode()
