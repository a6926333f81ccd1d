"""What is said when the other end is no MCP server, or not for us."""

import asyncio
from typing import Any, cast

import anyio
import httpx2
import pytest
from tests.cli.conftest import Command

from headway.api import Headway
from headway.cli.client import peer
from headway.cli.client.browser_login import BrowserLogin
from headway.cli.client.http_client import route_to
from headway.cli.server.http_server import serving
from headway.cli.server.listener import listening
from headway.server import asgi

pytestmark = pytest.mark.anyio


class Says:
    """Answers every request with one status, content type and body."""

    def __init__(self, status: int, kind: str = "text/html", body: bytes = b"<html>") -> None:
        self.headers: list[dict[bytes, bytes]] = []
        self._start = {
            "type": "http.response.start",
            "status": status,
            "headers": [(b"content-type", kind.encode())],
        }
        self._body = body

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for phase in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{phase}.complete"})
            return
        self.headers.append(dict(scope["headers"]))
        await send(self._start)
        await send({"type": "http.response.body", "body": self._body})

    async def drain(self) -> None:
        pass


@pytest.mark.parametrize("era", [[], ["--era", "2025"], ["--era", "2026"]])
@pytest.mark.parametrize(
    ("app", "says"),
    [
        (Says(401), "HTTP 401 Unauthorized: it wants authorization; set HEADWAY_TOKEN"),
        (Says(403), "HTTP 403 Forbidden: this caller is not allowed"),
        (Says(404), "HTTP 404 Not Found: no MCP endpoint there"),
        (Says(405), "HTTP 405 Method Not Allowed: no MCP endpoint there"),
        (Says(502), "HTTP 502 Bad Gateway"),
        (Says(200), "is no MCP endpoint (Unexpected content type: text/html); check the path"),
    ],
)
async def test_an_answer_that_is_no_mcp_is_exit_4(
    command: Command, app: Says, says: str, era: list[str]
):
    async with serving(app) as origin:
        finished = await asyncio.to_thread(command, "tools", f"{origin}/mcp", *era)
    assert (finished.code, finished.out) == (4, "")
    assert says in finished.err
    assert finished.err.count("\n") == 1


async def test_headers_are_sent_with_every_request(command: Command):
    app = Says(401)
    async with serving(app) as origin:
        await asyncio.to_thread(
            command, "tools", origin, "--header", "Authorization: Bearer x", "--header", "X-A:b:c"
        )
    assert app.headers
    assert all(h[b"authorization"] == b"Bearer x" and h[b"x-a"] == b"b:c" for h in app.headers)


async def test_json_that_is_no_mcp_answer_is_an_error(command: Command):
    async with serving(Says(200, "application/json", b'{"hello": 1}')) as origin:
        finished = await asyncio.to_thread(command, "tools", origin)
    assert finished.code in (1, 4)
    assert finished.err.startswith("headway: ")


async def test_a_server_that_accepts_and_says_nothing_is_exit_4(
    command: Command, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(peer, "CONNECT", 0.2)
    with listening("127.0.0.1", 0) as silent:
        finished = await asyncio.to_thread(command, "tools", silent.origin)
    assert finished.code == 4
    assert "did not answer within 0.2 s" in finished.err


@pytest.mark.parametrize("url", ["http://", "http://[::1", "http://host:port/mcp"])
async def test_a_malformed_url_is_said_to_be_one(command: Command, url: str):
    finished = await asyncio.to_thread(command, "tools", url)
    assert finished.code in (2, 4)
    assert finished.err.startswith("headway: ")
    assert finished.err.count("\n") == 1


class CancelledAtTheAnswer(httpx2.AsyncBaseTransport):
    """Cancels what a client is used for whenever an answer is about to reach it."""

    def __init__(self, number: int) -> None:
        self.work: asyncio.Task[None] | None = None
        self._left = number

    def over(self, carrier: httpx2.AsyncBaseTransport) -> httpx2.AsyncBaseTransport:
        self._carrier = carrier
        return self

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        answer = await self._carrier.handle_async_request(request)
        self._left -= 1
        if self._left == 0 and self.work is not None:
            self.work.cancel()
        return answer

    async def aclose(self) -> None:
        await self._carrier.aclose()


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("era", ["2025", "2026", None])
async def test_a_cancel_at_the_moment_of_an_answer_is_a_cancel(
    era: peer.Era | None, number: int
) -> None:
    async def connect() -> None:
        async with peer.Peer(way, options).connect() as connection:
            await peer.list_tools(connection.client)
            await anyio.sleep_forever()

    login = CancelledAtTheAnswer(number)
    options = peer.ConnectOptions(era=era, login=cast("BrowserLogin", login))
    async with serving(asgi(Headway("any"), journal="memory:")) as origin:
        way = route_to(f"{origin}/mcp")
        login.work = asyncio.ensure_future(connect())
        with pytest.raises(asyncio.CancelledError):
            await login.work
