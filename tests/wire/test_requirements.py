"""Sentences of the specification that no other test is about."""

import pytest
from tests.kit.peers import (
    MODERN,
    Client,
    Modern,
    Session,
    connect,
    each_era,
    served,
    text_of,
)

from headway import Headway, report

pytestmark = pytest.mark.anyio


def echo() -> Headway:
    mcp = Headway("echo")

    @mcp.tool()
    async def echo(text: str) -> str:
        return text

    @mcp.tool()
    async def work() -> str:
        report(1, 2, "half")
        return "done"

    return mcp


async def discovered(client: Client) -> dict[str, object]:
    if isinstance(client, Session):
        return client.handshake["result"]["capabilities"]
    return (await (await client.request("server/discover")).outcome())["result"]["capabilities"]


@pytest.mark.requirement("http.origin-403")
@each_era
@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "https://127.0.0.1.evil.example"]
)
async def test_a_foreign_origin_is_refused(era: str, origin: str) -> None:
    async with served(echo()) as wire:
        client = await connect(wire, era)
        if isinstance(client, Session):
            headers = client.headers(Origin=origin)
        else:
            headers = client.headers(client.body("tools/list"), {"Origin": origin})
        answer = await wire.ask("POST", headers, b"{}")
        assert answer.status == 403


@pytest.mark.requirement("http.version.default", era="2025")
async def test_a_request_without_a_version_header_is_served() -> None:
    async with served(echo()) as wire:
        session = await Session.open(wire, "2025-03-26")
        headers = session.headers(**{"MCP-Protocol-Version": None})
        assert "mcp-protocol-version" not in {name.lower() for name in headers}
        body = b'{"jsonrpc":"2.0","id":"p","method":"ping"}'
        answer = await wire.ask("POST", headers, body)
        assert (answer.status, (await answer.json())["id"]) == (200, "p")


@pytest.mark.requirement("logging.invalid-level", era="2025")
async def test_a_level_that_does_not_exist_cannot_be_set() -> None:
    async with served(echo()) as wire:
        session = await Session.open(wire)
        outcome = await (await session.request("logging/setLevel", {"level": "loud"})).outcome()
        assert outcome["error"]["code"] == -32602


@pytest.mark.requirement("logging.declared")
@each_era
async def test_a_server_says_that_it_logs(era: str) -> None:
    async with served(echo()) as wire:
        assert "logging" in await discovered(await connect(wire, era))


@pytest.mark.requirement("http.no-buffering")
@each_era
async def test_a_stream_is_not_to_be_buffered(era: str) -> None:
    async with served(echo()) as wire:
        client = await connect(wire, era)
        answer = await client.call("work", token=1)
        assert answer.headers["x-accel-buffering"] == "no"
        assert "no-transform" in answer.headers["cache-control"]
        assert text_of((await answer.rest())[-1]) == "done"


@pytest.mark.requirement("http.one-endpoint")
@each_era
async def test_one_path_is_for_all_methods(era: str) -> None:
    async with served(echo()) as wire:
        client = await connect(wire, era)
        headers = (
            {"MCP-Protocol-Version": MODERN} if isinstance(client, Modern) else client.headers()
        )
        for method in ("POST", "GET", "DELETE"):
            elsewhere = await wire.ask(method, {**headers, "Accept": "*/*"}, path="/elsewhere")
            assert elsewhere.status == 404
            here = await wire.ask(method, {**headers, "Accept": "text/event-stream"})
            assert here.status in (200, 400, 405, 406, 415)
            here.cut()
