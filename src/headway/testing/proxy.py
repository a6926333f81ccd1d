"""A TCP proxy that treats connections as networks do, on demand.

```python
async with Proxy("http://127.0.0.1:8000/mcp") as proxy:
    proxy.plan(Cut(messages=40))  # behind the fortieth message of an answer
    ...                           # a client that uses proxy.url
    await proxy.was_cut()
```

It carries bytes, and understands just enough HTTP/1.1 to count answers and their messages.
"""

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from headway.testing.cuts import CHUNK, Counts, Cut, CutManner, CutPoint, Manner, Side
from headway.testing.http_responses import AnswerScanner, Mark

KEPT = 4 * 1024 * 1024
"""Bytes that are kept of the requests, and of the answers."""

_NO_LINGERING = struct.pack("ii", 1, 0)


class _End:
    """One end of a carried connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._is_over = False

    async def read(self) -> bytes:
        return await self._reader.read(CHUNK)

    async def write(self, data: bytes) -> None:
        """Write bytes, and wait while the other end is slow; nothing after the end was sent."""
        if not self._is_over:
            self._writer.write(data)
            await self._writer.drain()

    async def flush(self) -> None:
        """Wait until all written bytes are sent: an end would throw them away."""
        if not self._is_over:
            self._writer.transport.set_write_buffer_limits(high=0)
            await self._writer.drain()

    def half_close(self) -> None:
        if not self._is_over:
            self._is_over = True
            with suppress(OSError):
                self._writer.write_eof()

    def close(self, how: CutManner) -> None:
        self._is_over = True
        transport = self._writer.transport
        if how == "reset" and not transport.is_closing():
            _do_not_linger(transport)
        transport.abort()


def _do_not_linger(transport: asyncio.WriteTransport) -> None:
    """Have the system send a reset instead of an end."""
    # Event loops wrap their sockets, and not every wrapper can set options.
    own = socket.socket(fileno=transport.get_extra_info("socket").fileno())
    try:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGERING)
    finally:
        own.detach()


class ProxyConnection:
    """One connection of a client, and its counterpart to the server."""

    def __init__(self, proxy: "Proxy", client: _End, server: _End) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._scanner = AnswerScanner()
        self._place: CutPoint | None = None
        self._held = bytearray()
        self._open_ways = 2
        self._over = asyncio.Event()
        self._is_cut = False
        self.request = b""
        """The request that is being answered, its head and body, as far as they have come."""
        self.is_answering = False
        """Whether an answer has begun and is not over."""
        self.messages = 0
        """SSE messages that came from the server."""

    def cut(
        self, how: CutManner = "close", side: Side = "both", notice: float | None = None
    ) -> None:
        """Cut it now; the arguments are those of `Cut`."""
        if self._is_cut or self._over.is_set():
            return
        sides = {"client": [self._client], "server": [self._server]}.get(side)
        for end in sides or (self._client, self._server):
            if how == "half":
                end.half_close()
            else:
                end.close(how)
        if how != "half":
            self._is_cut = True
            if sides is None:
                self._over.set()
            elif notice is not None:
                asyncio.get_running_loop().call_later(notice, self._over.set)
        self._proxy.counts.cuts += 1
        self._proxy.notify()

    async def carry(self) -> None:
        """Pass bytes on until both directions are over, or the connection is cut and both sides
        know.
        """
        ways = [
            asyncio.create_task(self._pass_one_way(way))
            for way in (self._pass_to_server, self._pass_to_client)
        ]
        try:
            await self._over.wait()
        finally:
            for end in (self._client, self._server):
                end.close("reset" if self._is_cut else "close")
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _pass_one_way(self, pass_on: Callable[[], Awaitable[None]]) -> None:
        try:
            await pass_on()
        except BaseException as error:
            if not self._is_cut:
                self._over.set()
            if not isinstance(error, OSError):
                raise
        else:
            self._open_ways -= 1
            if not self._open_ways:
                self._over.set()

    async def _pass_to_server(self) -> None:
        while (data := await self._client.read()) and not self._is_cut:
            self.request = (self.request + data)[:CHUNK]
            self._proxy.asks(data)
            await self._server.write(data)
        if self._is_cut:
            return await self._discard_all()
        return self._server.half_close()

    async def _pass_to_client(self) -> None:
        while (data := await self._read_server()) and not self._is_cut:
            marks = self._scanner.feed(data)
            end = self._place_in(data, marks)
            self._note_marks(marks)
            self._proxy.tells(data, marks)
            await self._hand_on(data[:end], at_once=end is not None)
            if end is not None:
                await self._carry_out_plan()
                await self._hand_on(data[end:], at_once=True)
        if self._is_cut:
            return await self._discard_all()
        await self._hand_on(b"", at_once=True)
        return self._client.half_close()

    async def _discard_all(self) -> None:
        """Read nothing more: for the sender its bytes are under way for ever."""
        await self._over.wait()

    async def _read_server(self) -> bytes:
        """Return the next bytes of the server; none at its end."""
        idle = self._proxy.manner.idle if self.request else None
        try:
            async with asyncio.timeout(idle):
                return await self._server.read()
        except TimeoutError:
            self._proxy.counts.idle += 1
            self.cut()
            return b""

    def _place_in(self, data: bytes, marks: list[Mark]) -> int | None:
        """Return how many bytes of this piece come before the place of a cut; None: it has none."""
        place, planned = self._place, self._proxy.planned
        if place is None or (place.cut is not planned and not place.is_begun):
            self._place = place = CutPoint(planned) if planned else None
        if place is None or place.cut.request not in self.request:
            return None
        end = place.reached(data, marks)
        if place.is_begun:
            self._proxy.claim(place.cut)
        return end

    async def _carry_out_plan(self) -> None:
        """Do what is planned for the place that was reached."""
        place, self._place = self._place, None
        assert place is not None
        await self._client.flush()
        cut = place.cut
        if cut.seconds:
            loop = asyncio.get_running_loop()
            loop.call_later(cut.seconds, self.cut, cut.how, cut.side, cut.notice)
        else:
            self.cut(cut.how, cut.side, cut.notice)

    def _note_marks(self, marks: list[Mark]) -> None:
        for mark in marks:
            match mark.kind:
                case "head":
                    self.is_answering = True
                case "message":
                    self.messages += 1
                case "end":
                    self.is_answering, self.request = False, b""

    async def _hand_on(self, data: bytes, *, at_once: bool) -> None:
        manner = self._proxy.manner
        self._held += data
        if len(self._held) < manner.hold and self.is_answering and not at_once:
            return
        ready = bytes(self._held)
        self._held.clear()
        if ready and manner.delay:
            await asyncio.sleep(manner.delay)
        for at in range(0, len(ready), manner.piece):
            if self._is_cut:
                return
            await self._client.write(ready[at : at + manner.piece])
            if manner.pause:
                await asyncio.sleep(manner.pause)


class Proxy:
    """A proxy between clients and a server, on a port of its own, that cuts on demand.

    `target` is the server's URL, or its `host:port`; it may be set to another one at any time,
    as a load balancer does, and is the place of connections made from then on.
    """

    def __init__(self, target: str, *, manner: Manner | None = None) -> None:
        self.target = target
        self.manner = manner or Manner()
        """How answers are passed on; may be changed at any time."""
        self.counts = Counts()
        self.down = False
        """While True, every new connection is reset."""
        self.asked = bytearray()
        """The bytes that clients sent; the last 4 MiB of them."""
        self.told = bytearray()
        """The bytes that the server sent, likewise."""
        self._plan: deque[Cut] = deque()
        self._connections: dict[ProxyConnection, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()
        self._listener: asyncio.Server | None = None
        self._port = 0

    @property
    def url(self) -> str:
        """Return the URL by which clients reach the server: the target's own, with the proxy's
        origin.
        """
        parts = urlsplit(_as_url(self.target))
        return parts._replace(netloc=f"127.0.0.1:{self._port}").geturl()

    @property
    def origin(self) -> str:
        """`http://host:port` of the proxy."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def connections(self) -> list[ProxyConnection]:
        """Return the open connections, oldest first; each of them can be cut."""
        return list(self._connections)

    def plan(self, *cuts: Cut) -> None:
        """Cut at these places too, one after the other."""
        self._plan.extend(replace(cut) for cut in cuts)  # each one is itself, equal or not

    def plan_nothing(self) -> None:
        """Forget the plan; a cut that counts its last bytes or seconds comes all the same."""
        self._plan.clear()

    @property
    def planned(self) -> Cut | None:
        """Return the cut that comes next."""
        return self._plan[0] if self._plan else None

    def cut(
        self, how: CutManner = "close", side: Side = "both", notice: float | None = None
    ) -> int:
        """Cut all open connections now, and say how many there were."""
        open_now = self.connections
        for connection in open_now:
            connection.cut(how, side, notice)
        return len(open_now)

    async def until(self, is_so: Callable[[], object]) -> None:
        """Wait until `is_so`; it is asked again whenever something passes or is cut."""
        while not is_so():
            self._news.clear()
            await self._news.wait()

    async def was_cut(self, times: int = 1) -> None:
        """Wait until there were so many cuts."""
        await self.until(lambda: self.counts.cuts >= times)

    def values_of(self, header: str) -> list[str]:
        """Return the values that clients sent under a header, in the order they came."""
        lines = bytes(self.asked).split(b"\r\n")[:-1]
        named = [line.decode("latin-1").partition(":") for line in lines]
        return [value.strip() for name, _, value in named if name.lower() == header.lower()]

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._serve_client, "127.0.0.1", 0)
        self._port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._listener is not None:
            self._listener.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve_client(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        client = _End(reader, writer)
        try:
            server = None if self.down else await self._connect_server()
            if server is None:
                self.counts.refused += 1
                client.close("reset")
                return
            self.counts.connections += 1
            connection = ProxyConnection(self, client, server)
            self._connections[connection] = None
            try:
                await connection.carry()
            finally:
                del self._connections[connection]
        except asyncio.CancelledError:
            client.close("close")  # the proxy ends
        finally:
            self._tasks.discard(task)
            self.notify()

    async def _connect_server(self) -> _End | None:
        parts = urlsplit(_as_url(self.target))
        try:
            return _End(*await asyncio.open_connection(parts.hostname, parts.port))
        except OSError:
            return None

    # Calls of the connections

    def notify(self) -> None:
        """Have `until` look again."""
        self._news.set()

    def claim(self, cut: Cut) -> None:
        """Take a cut that has found its connection out of the plan."""
        if self.planned is cut:
            self._plan.popleft()

    def asks(self, data: bytes) -> None:
        """Keep bytes that a client sent."""
        self.counts.asked += len(data)
        _keep_last(self.asked, data)
        self.notify()

    def tells(self, data: bytes, marks: list[Mark]) -> None:
        """Keep bytes that the server sent."""
        self.counts.told += len(data)
        self.counts.answers += sum(mark.kind == "head" for mark in marks)
        self.counts.messages += sum(mark.kind == "message" for mark in marks)
        _keep_last(self.told, data)
        self.notify()


def _keep_last(record: bytearray, data: bytes) -> None:
    record += data
    if len(record) > KEPT:
        del record[: len(record) - KEPT]


def _as_url(target: str) -> str:
    return target if "//" in target else f"//{target}"
