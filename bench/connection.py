"""One HTTP/1.1 connection on a raw asyncio protocol: as little work an answer as possible."""

import asyncio
import re
from dataclasses import dataclass
from typing import cast

_CHUNKED = re.compile(rb"\r\ntransfer-encoding:\s*chunked", re.IGNORECASE)
_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)


class ConnectionEnded(Exception):
    """The server closed the connection, or sent what is not HTTP, before the answer was whole."""


@dataclass(frozen=True, slots=True)
class Response:
    """An answer; of a stream that is held open, its beginning."""

    status: int
    head: bytes
    body: bytes

    def header(self, name: str) -> str | None:
        """The value of a header, or None."""
        found = re.search(rb"\r\n%b:[ \t]*([^\r\n]*)" % name.encode(), self.head, re.IGNORECASE)
        return found[1].decode().strip() if found else None


class Connection(asyncio.Protocol):
    """Asks one request at a time. Once a stream is held open, whatever follows is dropped."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[Response] | None = None
        self._buffer = b""
        self._head = b""
        self._length: int | None = None
        self._chunks: list[bytes] = []
        self._hold = False
        self._after_head = False
        self.open = False

    @classmethod
    async def connect(cls, port: int) -> "Connection":
        """A connection to a server on loopback."""
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(cls, "127.0.0.1", port)
        return connection

    async def ask(self, request: bytes) -> Response:
        """Send a request and wait for the whole answer."""
        self._answer = asyncio.get_running_loop().create_future()
        self._send(request)
        return await self._answer

    async def hold(self, request: bytes, *, after_head: bool) -> Response:
        """Open a stream and keep it; returns at its head, or else at the first of its body."""
        self._hold, self._after_head = True, after_head
        return await self.ask(request)

    def close(self) -> None:
        """End the connection."""
        self._answer = None
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.open = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        self._fail(f"the server closed the connection ({exc})")

    def data_received(self, data: bytes) -> None:
        if self._answer is None:
            return
        self._buffer = self._buffer + data if self._buffer else data
        try:
            if not self._head and not self._read_head():
                return
            whole = self._read_sized() if self._length is not None else self._read_chunks()
        except ValueError:
            self._fail(f"not HTTP: {self._buffer[:60]!r}")
            return
        if whole or (self._hold and (self._after_head or self._chunks)):
            self._finish()

    def _send(self, request: bytes) -> None:
        if self._transport is None or not self.open:
            self._fail("the server closed the connection between requests")
        else:
            self._transport.write(request)

    def _read_head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        self._head, self._buffer = self._buffer[: end + 2], self._buffer[end + 4 :]
        if _CHUNKED.search(self._head):
            self._length = None
        elif found := _LENGTH.search(self._head):
            self._length = int(found[1])
        else:
            raise ValueError(self._head)
        return True

    def _read_sized(self) -> bool:
        if self._length is None or len(self._buffer) < self._length:
            return False
        self._chunks.append(self._buffer[: self._length])
        self._buffer = self._buffer[self._length :]
        return True

    def _read_chunks(self) -> bool:
        buffer, at = self._buffer, 0
        last = False
        while not last and (line := buffer.find(b"\r\n", at)) >= 0:
            start = line + 2
            end = start + int(buffer[at:line], 16)
            if len(buffer) < end + 2:
                break
            last = end == start
            self._chunks.append(buffer[start:end])
            at = end + 2
        self._buffer = buffer[at:]
        return last

    def _finish(self) -> None:
        response = Response(int(self._head[9:12]), self._head, b"".join(self._chunks))
        self._head = b""
        self._chunks = []
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_result(response)

    def _fail(self, why: str) -> None:
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_exception(ConnectionEnded(why))
