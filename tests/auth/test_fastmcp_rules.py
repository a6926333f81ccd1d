"""What FastMCP has of its own: rules for a tool, and second names of tools."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastmcp import Context, FastMCP
from fastmcp.server.auth import StaticTokenVerifier, require_scopes
from fastmcp.server.providers.addressing import TOOL_HASH_META_KEY, hash_tool, hashed_backend_name
from tests.auth.callers import Known2025, ask, connect, keyed, listed, policy, poor, rich
from tests.auth.issuer import Issuer, issuing
from tests.kit.peers import each_era, served, text_of
from tests.kit.tools import Gate

from headway import Settings

pytestmark = pytest.mark.anyio


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with issuing() as issuer:
        yield issuer


def with_rules_of_its_own() -> tuple[FastMCP[Any], Gate]:
    """A FastMCP server with its own tokens, `poor` and `rich`, and its own rule for a tool."""
    verifier = StaticTokenVerifier(
        tokens={
            "poor": {"client_id": "app", "sub": "alice", "scopes": ["use"]},
            "rich": {"client_id": "app", "sub": "alice", "scopes": ["use", "net"]},
        }
    )
    mcp: FastMCP[Any] = FastMCP("own", auth=verifier)
    gate = Gate()
    runs: list[int] = []

    @mcp.tool(auth=require_scopes("net"))
    async def secret(context: Context) -> str:
        runs.append(1)
        await context.report_progress(1, 2)
        await gate.wait()
        return f"run {len(runs)}"

    assert secret
    return mcp, gate


@each_era
async def test_what_fastmcp_guards_by_itself_is_as_guarded_when_it_is_handed_out(era: str) -> None:
    server, gate = with_rules_of_its_own()
    gate.open()
    async with served(server) as wire:
        client = await connect(wire, era, "rich")
        worse = client.with_token("poor")
        assert await listed(client) == ["secret"]
        assert await listed(worse) == []
        assert text_of(await (await client.post(keyed(client, "secret"))).outcome()) == "run 1"
        refused = await worse.post(keyed(worse, "secret"))
        assert refused.status == 403
        assert "www-authenticate" not in refused.headers  # nobody knows what to ask for
        assert b"run 1" not in await refused.body()
        assert text_of(await (await client.post(keyed(client, "secret"))).outcome()) == "run 1"


async def test_what_fetches_a_result_of_such_a_tool_is_as_guarded_as_the_result() -> None:
    server, gate = with_rules_of_its_own()
    async with served(server) as wire:
        client = await connect(wire, "2025", "rich")
        worse = client.with_token("poor")
        assert isinstance(client, Known2025)
        assert isinstance(worse, Known2025)
        meta = {"progressToken": "t"}
        call = {"name": "secret", "arguments": {}, "task": {"ttl": 60_000}, "_meta": meta}
        task = (await ask(client, "tools/call", **call))["result"]["task"]["taskId"]
        message = client.message("tasks/result", {"taskId": task}, id="r", token="r")
        fetching = await client.post(message)
        await fetching.message()
        place = fetching.ids[0]
        assert (await worse.post(message)).status == 403
        assert (await worse.get(place)).status == 400
        gate.open()
        assert "run 1" in json.dumps((await fetching.rest())[-1])
        assert (await worse.get(place)).status == 400
        assert "run 1" in json.dumps(await (await client.get(place)).rest())


@each_era
async def test_the_second_name_of_a_fastmcp_tool_is_no_way_around_its_scope_or_rate(
    era: str, issuer: Issuer
) -> None:
    """Apps call tools by a name that is made of a hash, which everybody can compute."""
    mcp: FastMCP[Any] = FastMCP("app")
    meta = {
        "fastmcp": {TOOL_HASH_META_KEY: hash_tool("app", "guarded")},
        "ui": {"visibility": ["app", "model"]},
    }

    @mcp.tool(meta=meta)
    async def guarded() -> str:
        return "secret"

    assert guarded
    alias = hashed_backend_name("app", "guarded")
    async with served(mcp, auth=policy(issuer, guarded=("net",))) as wire:
        client = await connect(wire, era, poor(issuer))
        assert (await client.call(alias)).status == 403
        better = client.with_token(rich(issuer))
        assert text_of(await (await better.call(alias)).outcome()) == "secret"
    # Nor around a rate: such a name may be that of each tool, so it counts for each.
    rates = Settings(calls_of_tools=(("guarded", "1/d"),))
    async with served(mcp, settings=rates, auth=policy(issuer)) as wire:
        client = await connect(wire, era, poor(issuer))
        assert [(await client.call(name)).status for name in ("guarded", alias)] == [200, 429]
