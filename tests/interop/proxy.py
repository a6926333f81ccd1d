"""A TCP proxy between a client and a server that cuts connections when it is told to.

A cut is a reset in both directions, as when a NAT forgets a connection or a proxy is killed:
nothing that HTTP or MCP would call an end is sent.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

CHUNK = 65536


@dataclass(frozen=True)
class Cut:
    """Cut the connection on which `marker` comes from the server, `plus` bytes behind it.

    An empty marker: `plus` bytes behind the first that comes from now on.
    """

    marker: bytes
    plus: int = 0


class _Connection:
    """One client's connection and its counterpart to the server."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client = client
        self.server = server
        self.answered = bytearray()
        self.planned: Cut | None = None
        self.seen = 0

    def cut(self) -> None:
        self.client.transport.abort()
        self.server.transport.abort()


class Proxy:
    """Passes bytes on until it cuts."""

    def __init__(self, host: str, port: int) -> None:
        self.cuts = 0
        self.asked = bytearray()
        self.told = bytearray()
        self._target = (host, port)
        self._plan: deque[Cut] = deque()
        self._open: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()

    def plan(self, *cuts: Cut) -> None:
        """Cut at each of these places, one after the other."""
        self._plan.extend(cuts)
        for connection in self._open:
            connection.seen = len(connection.answered)

    def cut(self) -> None:
        """Cut all connections now."""
        for connection in self._open:
            connection.cut()
        self._count()

    async def was_cut(self, times: int = 1) -> None:
        """Wait until it has cut this often."""
        while self.cuts < times:
            await self._more()

    async def asked_for(self, header: bytes, times: int = 1) -> None:
        """Wait until requests with this header have come this often."""
        while len(self.values_of(header)) < times:
            await self._more()

    async def has_told(self, marker: bytes) -> None:
        """Wait until the server has said this."""
        while marker not in self.told:
            await self._more()

    def values_of(self, header: bytes) -> list[bytes]:
        """What clients sent under this header, in the order it came."""
        lines = bytes(self.asked).split(b"\r\n")
        named = [line.partition(b":") for line in lines[:-1]]
        return [value.strip() for name, _, value in named if name.lower() == header]

    async def _more(self) -> None:
        self._news.clear()
        await self._news.wait()

    def _count(self) -> None:
        self.cuts += 1
        self._news.set()

    async def serve(self, client: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        server, back = await asyncio.open_connection(*self._target)
        connection = _Connection(writer, back)
        self._open.add(connection)
        try:
            async with asyncio.TaskGroup() as ways:
                ways.create_task(self._up(client, connection))
                ways.create_task(self._down(server, connection))
        except* (OSError, asyncio.CancelledError):
            pass  # cut, or the proxy is closing
        finally:
            self._open.discard(connection)
            self._tasks.discard(task)
            connection.cut()

    async def _up(self, client: asyncio.StreamReader, connection: _Connection) -> None:
        while data := await client.read(CHUNK):
            self.asked += data
            self._news.set()
            connection.server.write(data)
            await connection.server.drain()
        connection.server.write_eof()

    async def _down(self, server: asyncio.StreamReader, connection: _Connection) -> None:
        while data := await server.read(CHUNK):
            self.told += data
            self._news.set()
            end = self._end_of(data, connection)
            connection.client.write(data if end is None else data[:end])
            await connection.client.drain()
            if end is not None:
                # What was written must be out before the reset throws it away.
                await _flushed(connection.client)
                connection.cut()
                self._count()
                return
        connection.client.write_eof()

    def _end_of(self, data: bytes, connection: _Connection) -> int | None:
        """How much of `data` goes out before the cut, if one is due in it."""
        before = len(connection.answered)
        connection.answered += data
        if connection.planned is None and self._plan:
            place = connection.answered.find(self._plan[0].marker, connection.seen)
            if place >= 0:
                connection.planned = cut = self._plan.popleft()
                connection.seen = place + len(cut.marker) + cut.plus
        if connection.planned is None or len(connection.answered) < connection.seen:
            return None
        return max(0, connection.seen - before)

    async def close(self) -> None:
        """End all connections."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _flushed(writer: asyncio.StreamWriter) -> None:
    writer.transport.set_write_buffer_limits(high=0)
    await writer.drain()


@asynccontextmanager
async def proxied(url: str) -> AsyncGenerator[tuple[Proxy, str]]:
    """A proxy in front of `url`, and the URL it is reached at."""
    parts = urlsplit(url)
    proxy = Proxy(parts.hostname or "", parts.port or 0)
    listener = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    try:
        port = listener.sockets[0].getsockname()[1]
        yield proxy, f"http://127.0.0.1:{port}{parts.path}"
    finally:
        listener.close()
        await proxy.close()
