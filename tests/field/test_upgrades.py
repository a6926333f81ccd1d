"""Requests that offer another protocol, as clients of Java and curl and many proxies send them:
the offer is ignored, and all else is as in any request."""

import asyncio
import json
import logging
from collections.abc import Callable

import pytest
from tests.kit.http import Connection
from tests.kit.peers import Modern, Wire, served, text_of
from tests.kit.waits import within

from headway import Headway, Settings

pytestmark = pytest.mark.anyio

OFFERS = {
    "Java's HttpClient": "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\n",
    "nginx": "Connection: upgrade\r\nUpgrade: websocket\r\n",
    "a WebSocket": "Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n",
    "TLS": "Connection: Upgrade\r\nUpgrade: TLS/1.3\r\n",
    "several": "Connection: Upgrade\r\nUpgrade: IRC/6.9\r\nUpgrade: h2c, RTA/x11\r\n",
    "nothing known": "UPGRADE: x\r\ncOnNeCtIoN: uPgRaDe\r\n",
}


def make() -> Headway:
    mcp = Headway("upgrades")

    @mcp.tool()
    async def echo(text: str) -> str:
        return text

    return mcp


def framed(body: bytes, chunks: int) -> tuple[str, bytes]:
    """A body with its length, or in so many chunks; and the header that says it."""
    if not chunks:
        return f"Content-Length: {len(body)}\r\n", body
    step = -(-len(body) // chunks)
    pieces = [body[at : at + step] for at in range(0, len(body), step)]
    data = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return "Transfer-Encoding: chunked\r\n", data + b"0\r\n\r\n"


def request(wire: Wire, offer: str, text: str, chunks: int = 0, more: str = "") -> bytes:
    client = Modern(wire)
    message = client.call_message("echo", {"text": text})
    length, data = framed(json.dumps(message).encode(), chunks)
    headers = "".join(f"{name}: {value}\r\n" for name, value in client.headers(message).items())
    host = f"Host: {wire.host}:{wire.port}\r\n"
    return f"POST /mcp HTTP/1.1\r\n{host}{headers}{offer}{length}{more}\r\n".encode() + data


async def send(connection: Connection, data: bytes, size: int) -> None:
    for at in range(0, len(data), size):
        connection.write(data[at : at + size])
        for _ in range(3):
            await asyncio.sleep(0)


async def said(connection: Connection) -> str:
    answer = await connection.answer()
    assert answer.status == 200, await answer.body()
    return text_of(await answer.outcome())


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture):
    """Nothing is wrong with such a request, and nobody is advised to install anything."""
    with caplog.at_level(logging.INFO):
        yield
    said = [record.getMessage().lower() for record in caplog.records]
    assert not [text for text in said if "upgrade" in text or "websocket" in text]


@pytest.mark.parametrize("chunks", [0, 1, 4])
@pytest.mark.parametrize("size", [100_000, 40, 7])
@pytest.mark.parametrize("offer", OFFERS)
async def test_an_offer_is_ignored_and_the_body_has_the_length_it_says(
    offer: str, size: int, chunks: int
) -> None:
    async with served(make()) as wire:
        connection = await wire.connect()
        first = request(wire, OFFERS[offer], "first", chunks)
        await send(connection, first, size)
        assert await said(connection) == "first"
        await send(connection, request(wire, "", "second"), size)
        assert await said(connection) == "second"


def cuts(data: bytes) -> list[int]:
    """Where a body begins and ends, and what lies beside that."""
    head = data.index(b"\r\n\r\n") + 4
    return sorted({head - 2, head - 1, head, head + 1, len(data) - 1, len(data) - 5})


@pytest.mark.parametrize("chunks", [0, 2])
async def test_head_and_body_may_be_cut_anywhere(chunks: int) -> None:
    async with served(make()) as wire:
        data = request(wire, OFFERS["nginx"], "cut", chunks)
        for cut in cuts(data):
            connection = await wire.connect()
            connection.write(data[:cut])
            await asyncio.sleep(0.01)  # two segments, and not one
            connection.write(data[cut:])
            assert await said(connection) == "cut"


@pytest.mark.parametrize("chunks", [0, 2])
async def test_requests_with_and_without_an_offer_are_answered_in_order(chunks: int) -> None:
    async with served(make()) as wire:
        connection = await wire.connect()
        offers = [*OFFERS.values(), "", *OFFERS.values()]
        texts = [f"number {number}" for number in range(len(offers))]
        data = [request(wire, *pair, chunks) for pair in zip(offers, texts, strict=True)]
        connection.write(b"".join(data))
        assert [await said(connection) for _ in texts] == texts


Smuggled = Callable[[bytes], bytes]


@pytest.mark.parametrize("pause", [False, True])
@pytest.mark.parametrize("chunks", [0, 1])
@pytest.mark.parametrize("offer", OFFERS)
async def test_a_body_never_becomes_a_request_of_its_own(
    offer: str, chunks: int, pause: bool
) -> None:
    async with served(make()) as wire:
        inner = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
        length, data = framed(inner, chunks)
        head = (
            f"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Accept: */*\r\n{OFFERS[offer]}{length}\r\n"
        )
        connection = await wire.connect()
        connection.write(head.encode())
        if pause:
            await asyncio.sleep(0.01)
        connection.write(data)
        answer = await connection.answer()
        assert answer.status == 400
        assert "not valid JSON" in (await answer.json())["error"]["message"]
        connection.write(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        last = await connection.answer()
        assert await last.body() == b"ready"
        assert await within(connection.reader.read()) == b""


@pytest.mark.parametrize("offer", ["nginx", "a WebSocket", "Java's HttpClient"])
async def test_a_get_with_an_offer_is_a_get(offer: str) -> None:
    async with served(make()) as wire:
        head = f"GET /healthz HTTP/1.1\r\nHost: localhost\r\n{OFFERS[offer]}\r\n"
        connection = await wire.connect()
        for _ in range(3):
            connection.write(head.encode())
            answer = await connection.answer()
            assert (answer.status, await answer.body()) == (200, b"alive")


@pytest.mark.parametrize("lines", ["Expect: 100-continue\r\n", "Connection: close\r\n"])
async def test_what_else_such_a_head_asks_for_is_done(lines: str) -> None:
    async with served(make()) as wire:
        connection = await wire.connect()
        data = request(wire, OFFERS["nginx"], "x", more=lines)
        head, _, body = data.partition(b"\r\n\r\n")
        connection.write(head + b"\r\n\r\n")
        if "Expect" in lines:
            assert b"100 Continue" in await within(connection.reader.readuntil(b"\r\n\r\n"))
        connection.write(body)
        answer = await connection.answer()
        await answer.outcome()
        assert (answer.headers.get("connection") == "close") == ("close" in lines)


async def test_a_head_with_an_offer_is_bounded_like_any_other() -> None:
    async with served(make(), settings=Settings(max_head=2000)) as wire:
        long = f"X-Long: {'x' * 3000}\r\n"
        answer = await wire.raw(request(wire, OFFERS["nginx"], "x", more=long))
        assert answer.status == 431


async def test_contradictions_in_such_a_head_are_refused_as_in_any_other() -> None:
    for lines in ("Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n"):
        async with served(make()) as wire:
            data = request(wire, OFFERS["nginx"], "x", more=lines)
            assert (await wire.raw(data)).status == 400


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/2"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "TLS"),
        (b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n", "target"),
    ],
)
async def test_who_speaks_another_protocol_at_once_is_told_which_one_is_spoken(
    data: bytes, says: str
) -> None:
    async with served(make()) as wire:
        answer = await wire.raw(data)
        assert answer.status == 400
        assert says in (await answer.body()).decode()
