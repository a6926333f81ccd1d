"""A server of somebody else's, as bytes: it answers what a test says, however wrong that is."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from tests.cli.conftest import Command
from tests.kit.program import Finished

Answer = Callable[["Stranger", asyncio.StreamWriter, Any], Awaitable[None]]
"""Answers one request; the connection is closed after it."""

JSON = "Content-Type: application/json"
EVENTS = "Content-Type: text/event-stream"


class Stranger:
    """A server of 2025-11-25 without sessions; methods are answered by `answers`, or as usual."""

    def __init__(
        self, answers: Mapping[str, Answer], capabilities: Mapping[str, Any] | None = None
    ) -> None:
        self._answers = answers
        self._capabilities = {"tools": {}, **(capabilities or {})}
        self.tool: dict[str, Any] = {"name": "pay", "inputSchema": {"type": "object"}}
        self.asked: list[str] = []
        """The methods of all requests, in order; GET and DELETE too."""
        self.url = ""
        self.taking: set[asyncio.Task[Any]] = set()

    @property
    def calls(self) -> int:
        return self.asked.count("tools/call")

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.taking.add(task)
        try:
            await self._take(reader, writer)
        finally:
            self.taking.discard(task)
            writer.close()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = head.partition("content-length: ")[2].partition("\r\n")[0]
            message = json.loads(await reader.readexactly(int(length or 0)) or b"{}")
            method = message.get("method") or head.partition(" ")[0].upper()
            self.asked.append(method)
            await self._answers.get(method, answer_as_usual)(self, writer, message)
            await writer.drain()

    def result_of(self, method: str) -> dict[str, Any]:
        match method:
            case "initialize":
                return {
                    "protocolVersion": "2025-11-25",
                    "capabilities": self._capabilities,
                    "serverInfo": {"name": "stranger", "version": "1"},
                }
            case "tools/list":
                return {"tools": [self.tool]}
            case "tools/call":
                return {"content": [{"type": "text", "text": "paid"}]}
            case _:
                return {}


def write_head(writer: asyncio.StreamWriter, status: str, *lines: str) -> None:
    text = "\r\n".join([f"HTTP/1.1 {status}", *lines, "Connection: close"])
    writer.write(f"{text}\r\n\r\n".encode())


def write_json(
    writer: asyncio.StreamWriter, body: Any, status: str = "200 OK", *lines: str
) -> None:
    data = json.dumps(body).encode()
    write_head(writer, status, JSON, f"Content-Length: {len(data)}", *lines)
    writer.write(data)


async def answer_as_usual(stranger: Stranger, writer: asyncio.StreamWriter, message: Any) -> None:
    method = message.get("method", "")
    if "id" in message:
        result = stranger.result_of(method)
        write_json(writer, {"jsonrpc": "2.0", "id": message["id"], "result": result})
    else:
        status = "202 Accepted" if method else "405 Method Not Allowed"
        write_head(writer, status, "Content-Length: 0")


def refusing(status: str, *lines: str, body: str = "", times: int = 10**6) -> Answer:
    """Refuse a request with an HTTP status, so often."""
    refused = 0

    async def answer(stranger: Stranger, writer: asyncio.StreamWriter, message: Any) -> None:
        nonlocal refused
        refused += 1
        if refused > times:
            await answer_as_usual(stranger, writer, message)
        else:
            error = {"code": -32000, "message": body}
            write_json(writer, {"jsonrpc": "2.0", "id": None, "error": error}, status, *lines)

    return answer


def saying(head: tuple[str, ...], data: bytes) -> Answer:
    """Answer with 200 and some bytes, and close the connection."""

    async def answer(_: Stranger, writer: asyncio.StreamWriter, _message: Any) -> None:
        write_head(writer, "200 OK", *head)
        writer.write(data)

    return answer


@asynccontextmanager
async def serving_stranger(
    answers: Mapping[str, Answer] | None = None, capabilities: Mapping[str, Any] | None = None
) -> AsyncGenerator[Stranger]:
    stranger = Stranger(answers or {}, capabilities)
    server = await asyncio.start_server(stranger.take, "127.0.0.1", 0)
    async with server:
        stranger.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp"
        try:
            yield stranger
        finally:
            taking = [*stranger.taking]
            for task in taking:
                task.cancel()
            await asyncio.gather(*taking, return_exceptions=True)


async def call_pay(command: Command, url: str, *options: str) -> Finished:
    """Call the one tool of a stranger's server, from the command line."""
    return await asyncio.to_thread(command, "call", url, "pay", *options)
