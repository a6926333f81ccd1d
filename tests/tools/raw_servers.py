"""A server with any answer, time that is turned by hand, and `process_batch` between them."""

import asyncio
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from headway import Headway
from headway.testing import Outcome, run_tool
from headway.tools.batch import BatchLimits, BatchTool
from headway.tools.timing import Clock, SystemClock
from headway.tools.web.hosts import Host, Hosts, Resolver


class Turned(SystemClock):
    """Time that only passes where somebody sleeps; limits of attempts are never reached."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def now(self) -> float:
        return self.ahead

    async def sleep(self, delay: float) -> None:
        if delay >= 30:
            await asyncio.Event().wait()
        self.ahead += delay
        await asyncio.sleep(0)


async def local(name: str, port: int) -> Sequence[str]:
    return ["127.0.0.1"]


Answer = Callable[[str], bytes]
"""Path to a whole response."""


def reply(status: int = 200, body: bytes = b"{}", **headers: str) -> bytes:
    more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n{more}Connection: close\r\n\r\n"
    return head.encode() + body


class RawServer:
    """A server that notes the requests it gets, and answers each connection once."""

    def __init__(self, answer: Answer | None) -> None:
        self.answer = answer
        self.heads: list[str] = []
        self.left = asyncio.Event()
        self.came = asyncio.Event()
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.heads.append(head)
            self.came.set()
            if self.answer is None:
                await reader.read()  # until the other side is gone
                self.left.set()
                return
            writer.write(self.answer(head.split(" ")[1]))
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            self.left.set()
        finally:
            writer.close()

    @property
    def paths(self) -> list[str]:
        return [head.split(" ")[1] for head in self.heads]

    def header(self, name: str) -> list[str]:
        lines = (line for head in self.heads for line in head.split("\r\n"))
        return [line.split(": ", 1)[1] for line in lines if line.lower().startswith(name + ":")]


Start = Callable[..., Awaitable[RawServer]]


@asynccontextmanager
async def raw_servers() -> AsyncGenerator[Start]:
    """Start servers, each with its answer; all end with the block."""
    servers: list[asyncio.Server] = []

    async def start(answer: Answer | None = None, tls: ssl.SSLContext | None = None) -> RawServer:
        made = RawServer(answer)
        server = await asyncio.start_server(made.serve, "127.0.0.1", 0, ssl=tls)
        made.port = server.sockets[0].getsockname()[1]
        servers.append(server)
        return made

    try:
        yield start
    finally:
        for server in servers:
            server.close()


async def batch(
    hosts: dict[str, Host],
    items: list[Any],
    request: dict[str, Any],
    *,
    limits: BatchLimits | None = None,
    resolver: Resolver = local,
    clock: Clock | None = None,
    **more: Any,
) -> Outcome:
    tool = BatchTool(Hosts(hosts), limits=limits, clock=clock or Turned(), resolver=resolver)
    mcp = Headway("s")
    mcp.add_tool(tool.process_batch)
    return await run_tool(
        mcp, "process_batch", {"items": items, "request": request, **more}, raise_on_error=False
    )


def allowed(*ports: int, rate: float = 10_000, **more: Any) -> Host:
    return Host(ports, private=True, rate=rate, **more)
