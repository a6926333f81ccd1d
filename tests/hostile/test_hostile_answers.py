"""`headway tools` and `headway call` read no more of an answer than they say."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import pytest
from tests.kit.waits import within

from headway.cli.client import http_client, peer
from headway.cli.client.http_client import TooLarge
from headway.cli.exit_codes import ToolFailed, Unreachable

pytestmark = pytest.mark.anyio

LARGEST = 100_000

Pieces = Callable[[], "AsyncGenerator[bytes]"]


@asynccontextmanager
async def answering(head: str, piece: bytes) -> "AsyncGenerator[tuple[str, list[int]]]":
    """A server that answers each request with `head`, and `piece` until nobody listens."""
    sent: list[int] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 200 OK\r\n{head}\r\nConnection: close\r\n\r\n".encode())
        total = 0
        try:
            while total < 100 * LARGEST:
                writer.write(piece)
                await writer.drain()
                total += len(piece)
        except OSError:
            pass
        finally:
            sent.append(total)
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp", sent


@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
@pytest.mark.parametrize("era", ["2025", "2026"])
async def test_an_answer_without_an_end_is_given_up(
    kind: str, era: "peer.Era", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_client, "LARGEST", LARGEST)
    async with answering(f"Content-Type: {kind}", b" " * 10_000) as (url, sent):
        with pytest.raises(TooLarge, match="sends more than the 100,000 bytes"):
            await within(list_tools(url, era))
    assert sent
    assert max(sent) < 100 * LARGEST


async def list_tools(url: str, era: "peer.Era") -> None:
    async with peer.connect_peer(url, era=era) as client:
        await peer.list_tools(client)


async def test_an_answer_that_is_packed_is_not_unpacked() -> None:
    head = "Content-Type: application/json\r\nContent-Encoding: gzip"
    async with answering(head, b"\x1f\x8b" * 100) as (url, _):
        with pytest.raises(Unreachable, match="packed"):
            await within(list_tools(url, "2026"))


async def test_a_stream_of_many_messages_may_be_as_long_as_it_likes() -> None:
    class Body:
        async def __aiter__(self) -> "AsyncGenerator[bytes]":
            for _ in range(1000):
                yield b"data: " + b"x" * 1000 + b"\n\n"

        async def aclose(self) -> None:
            pass

    counted = http_client._Counted(
        http_client.BoundedTransport(http_client.ProxyRoute("http://127.0.0.1")),
        Body(),
        is_stream=True,
    )
    before, http_client.LARGEST = http_client.LARGEST, LARGEST
    try:
        assert sum([len(piece) async for piece in counted]) > LARGEST
    finally:
        http_client.LARGEST = before


async def test_a_list_of_tools_that_does_not_end_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from mcp_types import ListToolsResult

    class Endless:
        asked = 0

        async def list_tools(self, cursor: str | None) -> ListToolsResult:
            self.asked += 1
            return ListToolsResult(tools=[], next_cursor=f"{cursor}x")

    monkeypatch.setattr(peer, "MOST_PAGES", 10)
    endless = Endless()
    with pytest.raises(ToolFailed, match="does not end"):
        await peer.list_tools(endless)  # pyright: ignore[reportArgumentType]
    assert endless.asked == 10
