"""A raw HTTP/1.1 and SSE client: it shows what is on the wire, and misbehaves on demand.

Nothing here knows MCP; `peers` speaks it. Every wait ends, at the latest after `waits.PATIENCE`.
"""

import asyncio
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.kit import waits

Headers = Mapping[str, str] | list[tuple[str, str]]


@dataclass(frozen=True)
class Frame:
    """One block of an SSE stream, as it was sent."""

    raw: bytes
    id: str | None = None
    event: str | None = None
    data: str | None = None
    retry: int | None = None
    comment: str | None = None

    @property
    def message(self) -> dict[str, Any] | None:
        """The JSON-RPC message in it; None for a comment or a priming event."""
        return json.loads(self.data) if self.data else None


def parse_frame(raw: bytes) -> Frame:
    fields: dict[str, list[str]] = {}
    for line in raw.decode().splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name, []).append(value.removeprefix(" "))
    unknown = fields.keys() - {"id", "event", "data", "retry", ""}
    assert not unknown, f"no SSE field: {unknown}"

    def text(name: str) -> str | None:
        return "\n".join(fields[name]) if name in fields else None

    retry = text("retry")
    return Frame(
        raw, text("id"), text("event"), text("data"), int(retry) if retry else None, text("")
    )


class Answer:
    """One HTTP response, its body read as it comes."""

    def __init__(self, connection: "Connection", status: int, headers: dict[str, str]) -> None:
        self.status = status
        self.headers = headers
        self._connection = connection
        self._buffer = b""
        self._left = int(headers["content-length"]) if "content-length" in headers else None
        self._over = self._left == 0
        self.ids: list[str] = []
        """The event ids seen so far."""

    @property
    def is_stream(self) -> bool:
        return self.headers.get("content-type") == "text/event-stream"

    async def _piece(self) -> bytes:
        """Some more of the body; empty at its end."""
        reader = self._connection.reader
        if self._over:
            return b""
        if self._left is not None:
            self._over = True
            return await reader.readexactly(self._left)
        assert self.headers.get("transfer-encoding") == "chunked", self.headers
        size = int(await reader.readline(), 16)
        piece = await reader.readexactly(size)
        await reader.readexactly(2)
        self._over = not size
        return piece

    async def body(self) -> bytes:
        """The rest of the body."""
        async with asyncio.timeout(waits.PATIENCE):
            while piece := await self._piece():
                self._buffer += piece
        body, self._buffer = self._buffer, b""
        return body

    async def json(self) -> Any:
        """The body of an answer that is no stream."""
        assert not self.is_stream, await self.body()
        return json.loads(await self.body())

    async def frame(self) -> Frame | None:
        """The next frame; None when the stream has ended as it should."""
        async with asyncio.timeout(waits.PATIENCE):
            while b"\n\n" not in self._buffer:
                piece = await self._piece()
                if not piece:
                    assert not self._buffer, f"the stream ends inside a frame: {self._buffer!r}"
                    return None
                self._buffer += piece.replace(b"\r\n", b"\n")  # the SDK ends lines so
        raw, _, self._buffer = self._buffer.partition(b"\n\n")
        frame = parse_frame(raw)
        if frame.id is not None:
            self.ids.append(frame.id)
        return frame

    async def message(self) -> dict[str, Any]:
        """The next JSON-RPC message; comments and priming events are passed over."""
        while True:
            frame = await self.frame()
            assert frame is not None, "the stream ended"
            if frame.message is not None:
                return frame.message

    async def rest(self) -> list[dict[str, Any]]:
        """All messages up to the end of the stream."""
        messages: list[dict[str, Any]] = []
        while (frame := await self.frame()) is not None:
            if frame.message is not None:
                messages.append(frame.message)
        return messages

    async def outcome(self) -> dict[str, Any]:
        """The response to the request, JSON or last of a stream."""
        return (await self.rest())[-1] if self.is_stream else await self.json()

    async def peek(self) -> None:
        """Wait until more of the answer is here, and do not look at it."""
        self._buffer += await waits.within(self._piece())

    def cut(self) -> None:
        """Tear the connection down."""
        self._connection.cut()


class Connection:
    """One TCP connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, host: str, port: int, *, receive_buffer: int | None = None) -> "Connection":
        """Connect; a small `receive_buffer` makes a client that does not read felt early."""
        if receive_buffer is None:
            return cls(*await waits.within(asyncio.open_connection(host, port)))
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await waits.within(asyncio.get_running_loop().sock_connect(sock, (host, port)))
        return cls(*await asyncio.open_connection(sock=sock, limit=receive_buffer))

    def write(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self) -> Answer:
        """The head of the next response."""
        async with asyncio.timeout(waits.PATIENCE):
            head = await self.reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")[:-2]
        headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(":")
            # A list that may come in several fields; uvicorn adds to what the SDK says there.
            assert name.lower() not in {*headers} - {"connection"}, f"twice: {name}"
            headers[name.lower()] = value.strip()
        return Answer(self, int(first.split(" ")[1]), headers)

    def cut(self) -> None:
        transport = self.writer.transport
        transport.abort()


def request_bytes(method: str, path: str, headers: Headers, body: bytes = b"") -> bytes:
    """An HTTP/1.1 request. What `headers` says wins over what is needed."""
    lines = list(headers.items() if isinstance(headers, Mapping) else headers)
    named = {name.lower() for name, _ in lines}
    if body and not named & {"content-length", "transfer-encoding"}:
        lines.append(("Content-Length", str(len(body))))
    head = "".join(f"{name}: {value}\r\n" for name, value in lines)
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body
