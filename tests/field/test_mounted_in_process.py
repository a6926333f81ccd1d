"""Mounted in somebody's app: probes answer, refusals fit the place, metadata is found."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from httpx2 import ASGITransport, AsyncClient
from mcp.server import MCPServer
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from pydantic import AnyHttpUrl
from starlette.applications import Starlette
from starlette.routing import Mount
from tests.kit.waits import within

import headway
from headway import Headway, Settings, asgi, well_known

pytestmark = pytest.mark.anyio


def client_of(app: Any) -> AsyncClient:
    return AsyncClient(transport=ASGITransport(app=app), base_url="http://localhost")


def hosted(**apps: headway.HeadwayApp) -> Starlette:
    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        async with AsyncExitStack() as stack:
            for app in apps.values():
                await stack.enter_async_context(app.lifespan())
            yield

    mounts = [Mount(f"/{name}", app=app) for name, app in apps.items()]
    return Starlette(routes=mounts, lifespan=lifespan)


@asynccontextmanager
async def living(host: Starlette) -> AsyncGenerator[AsyncClient]:
    async with host.router.lifespan_context(host), client_of(host) as client:
        yield client


async def test_probes_answer_below_the_place_where_the_app_is_mounted() -> None:
    tools = asgi(Headway("tools"), settings=Settings(metrics="all"))
    async with living(hosted(tools=tools)) as client:
        for path, text in (("healthz", "alive"), ("readyz", "ready"), ("metrics", "headway_runs")):
            answer = await client.get(f"/tools/{path}")
            assert answer.status_code == 200
            assert text in answer.text
        assert (await client.get("/healthz")).status_code == 404
        await within(tools.drain())
        unready = await client.get("/tools/readyz")
        assert (unready.status_code, unready.headers["connection"]) == (503, "close")
        assert (await client.get("/tools/healthz")).status_code == 200


async def test_two_apps_in_one_host_live_and_end_together() -> None:
    one, two = asgi(Headway("one")), asgi(Headway("two"), journal="memory:")
    async with living(hosted(one=one, two=two)) as client:
        for name in ("one", "two"):
            assert (await client.get(f"/{name}/readyz")).status_code == 200
    assert one.journal.closed
    assert two.journal.closed


async def test_one_server_object_can_be_mounted_twice() -> None:
    mcp = Headway("both")

    @mcp.tool()
    def echo() -> str:
        return "hi"

    here, there = asgi(mcp), asgi(mcp, path="/api")
    hello = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "x", "version": "1"},
        },
    }
    accept = {"Accept": "application/json, text/event-stream"}
    async with living(hosted(here=here, there=there)) as client:
        sessions: set[str] = set()
        for path in ("/here/mcp", "/there/api"):
            answer = await client.post(path, json=hello, headers=accept)
            sessions.add(answer.headers["mcp-session-id"])
        assert len(sessions) == 2
        assert (len(here.life.sessions), len(there.life.sessions)) == (1, 1)


@pytest.mark.parametrize(
    ("header", "value", "status", "advice"),
    [
        ("Host", "mcp.example.com", 421, "settings=Settings(allowed_hosts=("),
        ("Origin", "https://app.example", 403, "settings=Settings(allowed_origins=("),
    ],
)
async def test_a_refusal_advises_what_can_be_done_in_an_app(
    header: str, value: str, status: int, advice: str
) -> None:
    async with living(hosted(tools=asgi(Headway("tools")))) as client:
        answer = await client.post("/tools/mcp", headers={header: value}, json={})
        assert answer.status_code == status
        message = answer.json()["error"]["message"]
        assert advice in message
        assert "headway.asgi" in message
        assert "--allow" not in message


async def test_refused_metrics_name_the_setting_and_not_the_option() -> None:
    async with living(hosted(tools=asgi(Headway("tools")))) as client:
        answer = await client.get("/tools/metrics", headers={"X-Forwarded-For": "192.0.2.1"})
        assert answer.status_code == 403
        assert "Settings(metrics='all')" in answer.text


class Verifier:
    async def verify_token(self, token: str) -> AccessToken | None:
        return None


async def test_a_mounted_servers_metadata_is_where_its_refusals_say() -> None:
    auth = AuthSettings(
        issuer_url=AnyHttpUrl("https://issuer.example"),
        resource_server_url=AnyHttpUrl("http://localhost/tools/mcp"),
        validate_token_resource=False,
    )
    tools = asgi(MCPServer("guarded", auth=auth, token_verifier=Verifier()))
    host = hosted(tools=tools)
    host.router.routes.extend(well_known(tools, at="/tools"))
    async with living(host) as client:
        refused = await client.post("/tools/mcp", json={})
        assert refused.status_code == 401
        where = refused.headers["www-authenticate"].partition('resource_metadata="')[2][:-1]
        metadata = await client.get(where)
        assert metadata.json()["resource"] == "http://localhost/tools/mcp"


async def test_an_authorization_server_in_it_is_found_by_its_issuers_path() -> None:
    app = Starlette()
    app.add_route("/.well-known/oauth-authorization-server", _metadata)
    app.add_route("/token", _metadata)
    paths = [getattr(route, "path", "") for route in well_known(app, at="/tools/")]
    found = "/.well-known/oauth-authorization-server"
    assert paths == [found, f"{found}/tools"]


async def _metadata(_request: Any) -> Any:
    await asyncio.sleep(0)


async def test_middleware_that_is_added_to_the_app_sees_its_requests() -> None:
    seen: list[str] = []

    class Look:
        def __init__(self, app: Any) -> None:
            self._app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            seen.append(scope["type"])
            await self._app(scope, receive, send)

    tools = asgi(Headway("tools"))
    tools.add_middleware(Look)
    async with living(hosted(tools=tools)) as client:
        await client.post("/tools/mcp", json={})
    assert seen == ["http"]
