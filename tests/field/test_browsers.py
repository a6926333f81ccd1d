"""Pages in browsers: who may call is told so by every answer, and everybody else by none."""

import json
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount
from tests.kit.auth import bearer, guarded_tools
from tests.kit.http import Answer
from tests.kit.peers import Client, Modern, Session, Wire, connect, each_era, served

from headway import Headway, HeadwayApp, Settings, asgi
from headway.cli.server.http_server import serving
from headway.clock import Clock

pytestmark = pytest.mark.anyio

PAGE = "https://app.example"
LOOPBACK = "http://localhost:5173"
FOREIGN = "https://evil.example"
ALLOWED = Settings(allowed_origins=(PAGE, "https://*.pages.example"))

NEEDED = [
    "content-type", "accept", "authorization", "mcp-session-id", "mcp-protocol-version",
    "last-event-id", "idempotency-key", "mcp-method", "mcp-name",
]  # fmt: skip
"""What clients of either era send."""


def make() -> Headway:
    mcp = Headway("pages")

    @mcp.tool()
    async def echo(text: str = "hi") -> str:
        return text

    @mcp.custom_route("/about", methods=["GET"])
    async def about(_request: Request) -> Response:
        return PlainTextResponse("about", headers={"Vary": "Accept"})

    @mcp.custom_route("/open", methods=["GET"])
    async def anyone(_request: Request) -> Response:
        return PlainTextResponse("open", headers={"Access-Control-Allow-Origin": "*"})

    return mcp


def preflight(origin: str, method: str = "POST", names: str = "", **more: str) -> dict[str, str]:
    headers = {"Origin": origin, "Access-Control-Request-Method": method, **more}
    return {**headers, "Access-Control-Request-Headers": names} if names else headers


def assert_told(answer: Answer, origin: str) -> None:
    """Its browser lets the page read the answer, and what it needs of the head."""
    assert answer.headers["access-control-allow-origin"] == origin
    exposed = answer.headers["access-control-expose-headers"].lower()
    for name in ("mcp-session-id", "www-authenticate", "retry-after"):
        assert name in exposed
    assert "origin" in answer.headers["vary"].lower()
    assert "access-control-allow-credentials" not in answer.headers


def assert_not_told(answer: Answer) -> None:
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert "origin" in answer.headers["vary"].lower()


async def call(wire: Wire, client: Client, origin: str, **more: str) -> Answer:
    message = client.call_message("echo")
    headers = client.headers(message) if isinstance(client, Modern) else client.headers()
    headers |= {"Origin": origin, **more}
    return await wire.ask("POST", headers, json.dumps(message).encode())


@pytest.mark.parametrize("path", ["/mcp", "/healthz", "/readyz", "/about", "/nothing"])
@pytest.mark.parametrize("origin", [PAGE, LOOPBACK, "http://127.0.0.1", "https://a.pages.example"])
async def test_a_page_that_may_call_is_told_what_it_may_send(origin: str, path: str) -> None:
    async with served(make(), settings=ALLOWED) as wire:
        for method in ("POST", "GET", "DELETE"):
            asked = preflight(origin, method, ",".join(NEEDED))
            answer = await wire.ask("OPTIONS", asked, path=path)
            assert 200 <= answer.status < 300
            assert "content-length" not in answer.headers
            assert answer.headers["access-control-allow-origin"] == origin
            assert method in answer.headers["access-control-allow-methods"]
            allowed = answer.headers["access-control-allow-headers"].lower()
            assert all(name in allowed.split(", ") for name in NEEDED)
            assert "origin" in answer.headers["vary"].lower()


async def test_headers_that_a_tool_or_an_author_wants_may_be_sent_too() -> None:
    async with served(make(), settings=ALLOWED) as wire:
        asked = preflight(PAGE, names="Mcp-Param-Region, x-api-key, bad name, , a:b, traceparent")
        answer = await wire.ask("OPTIONS", asked)
        allowed = answer.headers["access-control-allow-headers"].lower().split(", ")
        assert {"mcp-param-region", "x-api-key", "traceparent"} <= {*allowed}
        assert not {"bad name", "", "a:b"} & {*allowed}


async def test_a_public_page_may_call_a_private_address() -> None:
    name = "Access-Control-Request-Private-Network"
    async with served(make(), settings=ALLOWED) as wire:
        asked = preflight(PAGE, **{name: "true"})
        assert (await wire.ask("OPTIONS", asked)).headers[
            "access-control-allow-private-network"
        ] == "true"
        without = await wire.ask("OPTIONS", preflight(PAGE))
        assert "access-control-allow-private-network" not in without.headers


@each_era
@pytest.mark.parametrize("origin", [PAGE, LOOPBACK])
async def test_a_page_that_may_call_can_read_the_answer(era: str, origin: str) -> None:
    async with served(make(), settings=ALLOWED) as wire:
        client = await connect(wire, era)
        answer = await call(wire, client, origin)
        assert answer.status == 200
        assert_told(answer, origin)
        streamed = await wire.ask(
            "POST",
            {**_headers(client), "Origin": origin},
            json.dumps(client.call_message("echo", token="t")).encode(),
        )
        assert_told(streamed, origin)


def _headers(client: Client) -> dict[str, str]:
    message = client.call_message("echo")
    return client.headers(message) if isinstance(client, Modern) else client.headers()


async def test_a_page_can_open_a_session_listen_and_close_it() -> None:
    async with served(make(), settings=ALLOWED) as wire:
        session = await Session.open(wire, extra={"Origin": PAGE})
        listening = await session.get()
        assert listening.is_stream
        assert_told(listening, PAGE)
        assert_told(await session.delete(), PAGE)
        assert_told(await session.request("ping"), PAGE)  # 404


REFUSED: dict[int, dict[str, Any]] = {
    400: {"headers": {"Mcp-Session-Id": None}},
    404: {"headers": {"Mcp-Session-Id": "gone"}},
    405: {"method": "PUT"},
    406: {"headers": {"Accept": "text/plain"}},
    413: {"body": b" " * 5000},
    415: {"headers": {"Content-Type": "text/plain"}},
    421: {"headers": {"Host": "elsewhere.example"}},
    431: {"headers": {"X-Long": "x" * 4000}},
    503: {"is_stopping": True},
}


@pytest.mark.parametrize("status", REFUSED)
@pytest.mark.parametrize("origin", [PAGE, FOREIGN])
async def test_a_refusal_can_be_read_by_who_may_call_and_by_nobody_else(
    status: int, origin: str
) -> None:
    row = REFUSED[status]
    settings = Settings(allowed_origins=(PAGE,), max_body=2000, max_head=3000)
    async with served(make(), settings=settings) as wire:
        session = await Session.open(wire)
        if row.get("is_stopping"):
            await wire.app.drain()
        headers = session.headers(Origin=origin, **row.get("headers", {}))
        body = row.get("body", json.dumps(session.call_message("echo")).encode())
        answer = await wire.ask(row.get("method", "POST"), headers, body)
        if origin == PAGE:
            assert answer.status == status
            assert_told(answer, PAGE)
        else:
            assert answer.status in (403, 421, 431)
            assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("part", ["head", "body"])
async def test_what_did_not_arrive_in_time_is_told_to_a_page_as_well(part: str) -> None:
    limit: dict[str, Any] = {f"{part}_timeout": 0.05}
    settings = Settings(allowed_origins=(PAGE,), **limit)
    async with served(make(), settings=settings) as wire:
        head = f"POST /mcp HTTP/1.1\r\nHost: localhost\r\nOrigin: {PAGE}\r\n"
        head += "Content-Type: application/json\r\n"
        rest = "Content-Length: 5\r\n\r\n{" if part == "body" else "Conte"
        answer = await wire.raw((head + rest).encode())
        assert answer.status == 408
        assert_told(answer, PAGE)


async def test_a_page_of_an_origin_that_may_not_call_is_told_nothing() -> None:
    async with served(make(), settings=ALLOWED) as wire:
        for origin in (FOREIGN, "null", "https://app.example.evil", "http://app.example"):
            for path in ("/mcp", "/healthz", "/about"):
                answer = await wire.ask("OPTIONS", preflight(origin), path=path)
                assert answer.status >= 400 or path == "/healthz"
                assert_not_told(answer)
            answer = await call(wire, Modern(wire), origin)
            assert answer.status == 403
            assert_not_told(answer)
            assert_not_told(await wire.ask("GET", {"Origin": origin}, path="/healthz"))


async def test_only_loopback_may_call_where_nothing_is_allowed() -> None:
    async with served(make()) as wire:
        assert (await wire.ask("OPTIONS", preflight(LOOPBACK))).status == 204
        assert (await wire.ask("OPTIONS", preflight(PAGE))).status == 403


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/about", "/nothing"])
async def test_other_paths_can_be_read_too(path: str) -> None:
    async with served(make(), settings=ALLOWED) as wire:
        answer = await wire.ask("GET", {"Origin": PAGE}, path=path)
        assert_told(answer, PAGE)
        if path == "/about":
            assert "accept" in answer.headers["vary"].lower()
        # What a cache keeps for who has no origin must not be what it gives to a page.
        assert "origin" in (await wire.ask("GET", {}, path=path)).headers["vary"].lower()


async def test_a_route_that_speaks_cors_itself_says_what_it_says() -> None:
    async with served(make(), settings=ALLOWED) as wire:
        for origin in (PAGE, FOREIGN):
            answer = await wire.ask("GET", {"Origin": origin}, path="/open")
            assert answer.headers["access-control-allow-origin"] == "*"


async def test_before_there_is_a_token_a_page_is_told_what_it_may_send_and_why_it_is_refused() -> (
    None
):
    mcp = guarded_tools().mcp
    async with served(mcp, settings=ALLOWED) as wire:
        for origin in (PAGE, LOOPBACK):
            asked = preflight(origin, names="authorization, content-type")
            answer = await wire.ask("OPTIONS", asked)
            assert answer.status == 204
            assert "authorization" in answer.headers["access-control-allow-headers"].lower()
            unknown = await wire.ask("POST", {"Origin": origin})
            assert unknown.status == 401
            assert "www-authenticate" in unknown.headers
            assert_told(unknown, origin)
        narrow = await wire.ask("POST", {"Origin": PAGE, **bearer("narrow:1")})
        assert narrow.status == 403
        assert_told(narrow, PAGE)
        assert (await wire.ask("OPTIONS", preflight(FOREIGN))).status >= 400


OUTER = Middleware(CORSMiddleware, allow_origins=["*"], allow_methods=["*"])


class Outer(Starlette):
    """Another app, with ours below a path."""

    def __init__(self, inner: HeadwayApp, middleware: list[Middleware]) -> None:
        super().__init__(routes=[Mount("/tools", inner)], middleware=middleware)
        self.drain = inner.drain


@pytest.mark.parametrize("middleware", [[], [OUTER]], ids=["alone", "with its own CORS"])
async def test_mounted_a_page_is_told_the_same_unless_the_outer_app_says_it(
    middleware: list[Middleware],
) -> None:
    inner = asgi(make(), settings=ALLOWED)
    async with serving(Outer(inner, middleware), grace=0) as origin:
        wire = Wire(origin, inner, Clock())
        wire.path = "/tools/mcp"
        asked = await wire.ask("OPTIONS", preflight(PAGE))
        assert asked.status in (200, 204)
        answer = await call(wire, Modern(wire), PAGE)
        assert answer.status == 200
        # The kit's client fails where a header is there twice.
        assert answer.headers["access-control-allow-origin"] == ("*" if middleware else PAGE)
        wire.path = "/tools/mcp/"
        assert (await call(wire, Modern(wire), PAGE)).status == 200
        wire.cut_all()
    await inner.aclose()


async def test_an_answer_to_a_program_has_nothing_of_this() -> None:
    async with served(make(), settings=ALLOWED) as wire:
        answer = await Modern(wire).call("echo")
        assert not [name for name in answer.headers if name.startswith("access-control")]
        plain = await wire.ask("OPTIONS", {})
        assert plain.status == 405
