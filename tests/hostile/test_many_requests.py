"""What many connections, or many requests of one, may hold before anybody is known."""

import asyncio
import gc
import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.kit.http import Connection
from tests.kit.peers import Modern, Wire, served, text_of
from tests.kit.waits import until, within

from headway import Headway, Settings
from headway.cli.server import client_connection
from headway.transport.http.unfinished_requests import UnfinishedRequests

pytestmark = pytest.mark.anyio


def make() -> Headway:
    mcp = Headway("crowd")

    @mcp.tool()
    async def size(text: str) -> int:
        return len(text)

    return mcp


def call(wire: Wire, length: int) -> bytes:
    client = Modern(wire)
    message = client.call_message("size", {"text": "x" * length})
    headers = "".join(f"{name}: {value}\r\n" for name, value in client.headers(message).items())
    body = json.dumps(message).encode()
    host = f"Host: {wire.host}:{wire.port}\r\nContent-Length: {len(body)}\r\n"
    return f"POST /mcp HTTP/1.1\r\n{host}{headers}\r\n".encode() + body


def open_connections() -> list[client_connection.Connection]:
    return [one for one in gc.get_objects() if isinstance(one, client_connection.Connection)]


async def begin(wire: Wire, data: bytes, arrivals: UnfinishedRequests) -> Connection:
    """Send what is not the whole of a request, and see that it is counted."""
    before = arrivals.held
    connection = await wire.connect()
    half = len(data) // 2
    for piece in (data[:half], data[half:]):
        connection.write(piece)
        await within(connection.writer.drain())
        await asyncio.sleep(0.01)
    await until(lambda: arrivals.held > before)
    return connection


UNFINISHED: dict[str, Callable[[Wire], bytes]] = {
    "bodies": lambda wire: call(wire, 30_000)[:-10],
    "heads": lambda wire: b"GET /mcp HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"x" * 30_000,
}


@pytest.mark.parametrize("what", UNFINISHED)
async def test_all_that_is_arriving_together_is_bounded_and_the_oldest_gives_way(what: str) -> None:
    async with served(make(), settings=Settings(max_arriving=100_000)) as wire:
        arrivals = wire.app.arrivals
        waiting = [await begin(wire, UNFINISHED[what](wire), arrivals) for _ in range(3)]
        connection = await wire.connect()
        data = UNFINISHED[what](wire)
        connection.write(data[:15_000])
        await asyncio.sleep(0.01)
        connection.write(data[15_000:])
        answer = await waiting[0].answer()
        assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        assert "max_arriving" in (await answer.body()).decode()
        assert arrivals.held <= 100_000
        assert wire.app.counters.reached["max_arriving"] == 1
        for one in waiting[1:]:
            assert not one.reader.at_eof()


async def test_who_sends_in_one_go_is_served_while_others_hold_all_that_may_be_held() -> None:
    async with served(make(), settings=Settings(max_arriving=100_000)) as wire:
        arrivals = wire.app.arrivals
        slow = [await begin(wire, call(wire, 30_000)[:-10], arrivals) for _ in range(3)]
        for _ in range(20):
            answer = await wire.raw(call(wire, 1000))
            assert text_of(await answer.outcome()) == "1000"
        for one in slow:
            one.write(b"x" * 10)
        assert [(await one.answer()).status for one in slow] == [400] * 3
        assert arrivals.held == 0


async def test_a_large_request_gets_through_a_crowd_of_slow_ones() -> None:
    async with served(make(), settings=Settings(max_arriving=100_000)) as wire:
        slow = [await begin(wire, call(wire, 30_000)[:-10], wire.app.arrivals) for _ in range(3)]
        connection = await wire.connect()
        data = call(wire, 80_000)
        for at in range(0, len(data), 20_000):
            connection.write(data[at : at + 20_000])
            await asyncio.sleep(0.01)
        assert text_of(await (await connection.answer()).outcome()) == "80000"
        assert (await slow[0].answer()).status == 503


async def test_nothing_is_held_of_those_who_leave() -> None:
    async with served(make()) as wire:
        for what in UNFINISHED.values():
            connection = await begin(wire, what(wire), wire.app.arrivals)
            connection.cut()
            await until(lambda: not wire.app.arrivals.held)


async def test_mounted_a_body_has_to_be_there_in_time_as_well() -> None:
    """Where another server listens nobody else looks at the clock."""
    from headway import asgi

    app = asgi(make(), settings=Settings(body_timeout=0.05))
    said: list[Any] = []
    never = asyncio.Event()
    pieces: list[Any] = [{"type": "http.request", "body": b"{", "more_body": True}]

    async def receive() -> Any:
        return pieces.pop() if pieces else await never.wait()

    async def send(message: Any) -> None:
        said.append(message)

    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    scope: dict[str, Any] = {"type": "http", "method": "POST", "path": "/mcp", "headers": headers}
    async with app.lifespan():
        await within(app({**scope, "query_string": b""}, receive, send))
    assert said[0]["status"] == 408


async def test_who_leaves_with_a_request_in_the_queue_leaves_nothing_at_work() -> None:
    mcp, over = make(), asyncio.Event()

    @mcp.tool()
    async def wait() -> str:
        try:
            await asyncio.Event().wait()
        finally:
            over.set()
        return ""

    async with served(mcp) as wire:
        client = Modern(wire)
        connection = await client.send(client.call_message("wait", token="t"))
        await until(lambda: wire.app.engine.runs)
        connection.write(call(wire, 10))
        await within(connection.writer.drain())
        await until(lambda: any(len(one.pipeline) for one in open_connections()))
        connection.cut()
        for _ in range(4):  # nothing is read behind a request that waits: a ping finds out
            await wire.clock.advance(10)
        await within(over.wait())
        await until(lambda: not wire.app.engine.runs)


@pytest.mark.parametrize("number", [5, 100, 3000])
async def test_requests_that_wait_for_the_answers_before_theirs_are_bounded(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting: list[int] = []
    begin = client_connection.Connection.on_headers_complete

    def noted(self: client_connection.Connection) -> None:
        begin(self)
        waiting.append(len(self.pipeline))

    monkeypatch.setattr(client_connection.Connection, "on_headers_complete", noted)
    async with served(make()) as wire:
        connection = await wire.connect()
        connection.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" * number)
        for _ in range(min(number, client_connection.MOST_PIPELINED)):
            assert await (await connection.answer()).body() == b"alive"
        assert max(waiting) <= client_connection.MOST_PIPELINED
        if number > 1000:
            await within(connection.reader.read())
            assert connection.reader.at_eof()
        connection.cut()
        # Who has to come again does, on another connection.
        assert (await wire.ask("GET", {}, path="/healthz")).status == 200
