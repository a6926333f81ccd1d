"""What comes behind the chunks of a body: it is dropped, it is bounded, and it is no header."""

import asyncio
import json
from typing import Any

import pytest
from tests.kit.auth import guarded_tools
from tests.kit.http import Connection
from tests.kit.peers import Modern, Wire, served, text_of
from tests.kit.waits import within

from headway import Headway, Settings

pytestmark = pytest.mark.anyio

HEAD = 2000
SETTINGS = Settings(max_head=HEAD)
READ = 256 * 1024
"""Bytes that one read of a socket may bring."""


def make() -> Headway:
    mcp = Headway("trailers")

    @mcp.tool()
    async def echo(text: str) -> str:
        return text

    return mcp


def chunked(
    wire: Wire,
    trailers: str,
    *,
    tool: str = "echo",
    text: str = "hi",
    chunk: int = 10_000,
    **changes: Any,
) -> bytes:
    """A call in chunks, with what is to follow the last one."""
    client = Modern(wire)
    message = client.call_message(tool, {"text": text} if tool == "echo" else {})
    headers: dict[str, str | None] = {
        "Host": f"{wire.host}:{wire.port}",
        **client.headers(message),
        "Transfer-Encoding": "chunked",
    }
    headers |= changes
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items() if value)
    data = json.dumps(message).encode()
    pieces = [data[at : at + chunk] for at in range(0, len(data), chunk)]
    body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return f"POST /mcp HTTP/1.1\r\n{lines}\r\n".encode() + body + b"0\r\n" + trailers.encode()


async def flood(connection: Connection, block: bytes, most: int) -> int:
    """Send without end, until the server does not read any more; return how much it took."""
    sent = 0
    closed = asyncio.ensure_future(connection.reader.read())
    try:
        while sent < most and not closed.done():
            connection.write(block)
            sent += len(block)
            await within(connection.writer.drain())
            await asyncio.sleep(0)
    except ConnectionError:
        pass
    closed.cancel()
    return sent


@pytest.mark.parametrize(
    ("trailer", "changes", "status"),
    [
        ("Host: localhost", {"Host": "evil.example"}, 421),
        ("Host: localhost", {"Host": None}, 400),
        ("Origin: http://localhost", {"Origin": "http://evil.example"}, 403),
        ("Content-Type: application/json", {"Content-Type": "text/plain"}, 415),
        ("Accept: application/json, text/event-stream", {"Accept": "text/plain"}, 406),
        ("MCP-Protocol-Version: 2025-11-25", {}, 200),
        ("Mcp-Session-Id: x", {}, 200),
        ("Content-Encoding: gzip", {}, 200),
        ("X-Whatever: x", {}, 200),
    ],
    ids=str,
)
async def test_a_trailer_is_no_header(trailer: str, changes: dict[str, Any], status: int) -> None:
    async with served(make()) as wire:
        connection = await wire.connect()
        connection.write(chunked(wire, f"{trailer}\r\n\r\n", **changes))
        assert (await connection.answer()).status == status


@pytest.mark.parametrize("lines", [{}, {"Authorization": "Bearer mallory:1"}])
async def test_a_token_in_a_trailer_is_nobodys(lines: dict[str, Any]) -> None:
    mcp = guarded_tools().mcp
    async with served(mcp) as wire:
        data = chunked(wire, "Authorization: Bearer alice:1\r\n\r\n", tool="whoami", **lines)
        answer = await wire.raw(data)
        if lines:
            assert text_of(await answer.outcome()) == "mallory"
        else:
            assert answer.status == 401


async def test_a_request_with_trailers_is_answered_and_the_next_one_too() -> None:
    async with served(make(), settings=SETTINGS) as wire:
        connection = await wire.connect()
        for _ in range(3):
            connection.write(chunked(wire, "A: 1\r\nB: 2\r\nA: 3\r\n\r\n"))
            assert text_of(await (await connection.answer()).outcome()) == "hi"


TOO_MUCH = {
    "many": "A: b\r\n" * 1000 + "\r\n",
    "one long value": f"A: {'x' * 3000}\r\n\r\n",
    "one long name": f"{'x' * 3000}: a\r\n\r\n",
}


@pytest.mark.parametrize("pieces", [1, 20])
@pytest.mark.parametrize("what", TOO_MUCH)
async def test_trailers_are_bounded_as_heads_are(what: str, pieces: int) -> None:
    async with served(make(), settings=SETTINGS) as wire:
        connection = await wire.connect()
        data = chunked(wire, TOO_MUCH[what])
        step = len(data) // pieces + 1
        for at in range(0, len(data), step):
            connection.write(data[at : at + step])
            await asyncio.sleep(0)
        answer = await connection.answer()
        assert answer.status == 431
        assert f"{HEAD} bytes" in (await answer.body()).decode()
        assert await within(connection.reader.read()) == b""
        assert not wire.app.engine.runs


ENDLESS = {
    "trailers": b"a:b\r\n" * 4000,
    "a trailer's value": b"x" * 20_000,
    "an extension of a chunk": b"x" * 20_000,
}


@pytest.mark.parametrize("what", ENDLESS)
async def test_what_has_no_end_is_not_read_on(what: str) -> None:
    async with served(make(), settings=SETTINGS) as wire:
        connection = await wire.connect()
        begin = chunked(wire, "")
        begin += b"A: " if "value" in what else b""
        if "chunk" in what:
            begin = begin[: -len(b"0\r\n")] + b"5;ext="
        connection.write(begin)
        taken = await flood(connection, ENDLESS[what], 40 * READ)
        assert taken < 20 * READ  # what sockets hold between the two, and a read
        assert not wire.app.engine.runs


async def test_behind_a_401_they_are_not_read_on_either_and_nothing_more_is_said() -> None:
    mcp = guarded_tools().mcp
    async with served(mcp, settings=SETTINGS) as wire:
        connection = await wire.connect()
        connection.write(chunked(wire, ""))
        answer = await connection.answer()
        assert answer.status == 401
        await answer.body()
        said = asyncio.ensure_future(_read_all(connection))
        taken = 0
        while not said.done() and taken < 40 * READ:
            connection.write(b"a:b\r\n" * 4000)
            taken += 20_000
            await asyncio.sleep(0)
        assert await within(said) == b""
        assert taken < 20 * READ


async def _read_all(connection: Connection) -> bytes:
    try:
        return await connection.reader.read()
    except ConnectionError:
        return b""


async def test_a_body_that_goes_on_behind_its_answer_is_not_read_for_ever() -> None:
    mcp = guarded_tools().mcp
    settings = Settings(max_body=20_000)
    async with served(mcp, settings=settings) as wire:
        head = f"POST /mcp HTTP/1.1\r\nHost: {wire.host}\r\nContent-Length: {10**12}\r\n\r\n"
        connection = await wire.connect()
        connection.write(head.encode() + b"x")
        assert (await connection.answer()).status == 401
        assert await flood(connection, b"x" * 20_000, 40 * READ) < 20 * READ
        assert wire.app.counters.reached["max_body"] == 1


@pytest.mark.parametrize("chunk", [1, 7])
async def test_a_body_in_tiny_chunks_is_no_trailer_however_long(chunk: int) -> None:
    async with served(make(), settings=SETTINGS) as wire:
        connection = await wire.connect()
        data = chunked(wire, "\r\n", text="x" * 20_000, chunk=chunk)
        for at in range(0, len(data), 3000):
            connection.write(data[at : at + 3000])
            await asyncio.sleep(0)
        assert text_of(await (await connection.answer()).outcome()) == "x" * 20_000


@pytest.mark.parametrize(
    ("coding", "version", "status"),
    [
        ("gzip, chunked", "1.1", 501),
        ("identity, chunked", "1.1", 501),
        ("chunked", "1.0", 400),
        ("Chunked", "1.1", 200),
    ],
)
async def test_a_coding_that_is_not_read_is_not_taken_for_the_body(
    coding: str, version: str, status: int
) -> None:
    async with served(make()) as wire:
        changes: dict[str, Any] = {"Transfer-Encoding": coding}
        data = chunked(wire, "\r\n", **changes)
        answer = await wire.raw(data.replace(b"HTTP/1.1", f"HTTP/{version}".encode(), 1))
        assert answer.status == status
