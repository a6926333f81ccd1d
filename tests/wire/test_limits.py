"""Limits of one caller and one run, and how an operator sets them."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from mcp.server.lowlevel import Server
from mcp_types import CallToolResult, TextContent
from tests.kit.auth import bearer, guarded_tools
from tests.kit.peers import Modern, Session, connect, each_era, served, text_of
from tests.kit.tools import GatedTools

from headway import Headway, Settings, SetupError, log, part, report
from headway.settings import Retention, with_values
from headway.testing import run_tool

JSON = "application/json"
pytestmark = pytest.mark.anyio


async def error_of(answer: Any) -> tuple[int, str, str]:
    error = (await answer.json())["error"]
    return answer.status, answer.headers["retry-after"], error["message"]


@each_era
async def test_one_caller_cannot_take_all_places(era: str) -> None:
    tools = guarded_tools()
    async with served(tools.mcp, settings=Settings(max_runs_each=2)) as wire:

        async def call(name: str, tool: str) -> Any:
            if era == "2025":
                session = await Session.open(wire, extra=bearer(f"{name}:1"))
                return await session.call(tool, token=1)
            modern = Modern(wire)
            body = modern.body("tools/call", {"name": tool, "arguments": {}}, token=1)
            return await modern.post(body, bearer(f"{name}:1"))

        mine = [await call("alice", "wait") for _ in range(2)]
        for answer in mine:
            await answer.frame()
        status, after, message = await error_of(await call("alice", "wait"))
        assert (status, after, "2 of your calls" in message) == (503, "2", True)
        assert text_of(await (await call("mallory", "whoami")).outcome()) == "mallory"
        tools.gate.open()
        for answer in mine:
            await answer.rest()
        assert text_of(await (await call("alice", "whoami")).outcome()) == "alice"
        assert not wire.app.engine.admission.of_callers


async def test_one_caller_cannot_open_all_sessions() -> None:
    tools = guarded_tools()
    async with served(tools.mcp, settings=Settings(max_sessions_each=2)) as wire:
        first = await Session.open(wire, extra=bearer("alice:1"))
        await Session.open(wire, extra=bearer("alice:2"))
        hello = first.message("initialize", {
            "protocolVersion": "2025-11-25", "capabilities": {},
            "clientInfo": {"name": "t", "version": "1"},
        })  # fmt: skip
        headers = {
            "accept": "application/json, text/event-stream",
            "content-type": JSON,
            **bearer("alice:1"),
        }
        refused = await wire.ask("POST", headers, json.dumps(hello).encode())
        status, _, message = await error_of(refused)
        assert (status, "2 of your sessions" in message) == (503, True)
        await Session.open(wire, extra=bearer("mallory:1"))
        assert (await first.delete()).status == 200
        await Session.open(wire, extra=bearer("alice:1"))


@each_era
async def test_requests_of_every_kind_together_are_bounded(era: str) -> None:
    tools = GatedTools("wait")
    async with served(tools.mcp, settings=Settings(max_open=1)) as wire:
        client = await connect(wire, era)
        answer = await client.call("wait", id=1, token=1)
        await answer.frame()
        status, _, message = await error_of(await client.request("tools/list", id=2))
        assert (status, "1 requests are open" in message) == (503, True)
        tools.gate.open()
        assert text_of((await answer.rest())[-1]) == "run 1"
        assert (await client.request("tools/list", id=3)).status == 200


@pytest.mark.parametrize(("on_delete", "state"), [("cancel", "cancelled"), ("finish", "working")])
async def test_what_a_closed_session_leaves_is_the_operators_choice(
    on_delete: Any, state: str
) -> None:
    tools = GatedTools("wait")
    async with served(tools.mcp, settings=Settings(on_delete=on_delete)) as wire:
        session = await Session.open(wire)
        answer = await session.call("wait", token=1)
        await answer.frame()
        (run,) = wire.app.engine.runs.values()
        await session.delete()
        await asyncio.sleep(0)
        assert (run.stop_event is not None) == (state == "cancelled")
        tools.gate.open()
        await answer.rest()


# What one run says


async def said_by(settings: Settings, *words: Any) -> Any:
    mcp = Headway("m")

    @mcp.tool()
    async def work() -> None:
        for word in words:
            word()

    return await run_tool(mcp, "work", settings=settings, raise_on_error=False)


async def test_a_flood_of_logs_is_left_out_and_counted() -> None:
    flood = [lambda number=number: log(number) for number in range(100)]
    outcome = await said_by(Settings(log_rate=2), *flood)
    assert [entry.data for entry in outcome.logs[:20]] == list(range(20))
    left_out = 100 - len(outcome.logs) + 1
    assert outcome.logs[-1] == (
        "warning", f"{left_out} log messages were left out: more than 2 a second", "headway",
    )  # fmt: skip
    assert len((await said_by(Settings(log_rate=0), *flood)).logs) == 100


async def test_what_is_too_long_is_cut_or_refused_and_the_rest_arrives() -> None:
    settings = Settings(max_text=10, max_part=2000)
    outcome = await said_by(
        settings,
        lambda: report(1, 2, "x" * 20),
        lambda: log("y" * 3000),
        lambda: part("z" * 1990),
    )
    assert outcome.progress[0].message == "x" * 9 + "…"
    assert outcome.logs[0].data == "y" * 1000 + "… (3002 bytes)"
    assert (outcome.parts, outcome.is_error) == (["z" * 1990], False)
    refused = await said_by(settings, lambda: part("z" * 2000))
    assert (refused.is_error, refused.parts) == (True, [])


# Large results


def large() -> Headway:
    mcp = Headway("m")

    @mcp.tool(structured_output=False)
    async def text(size: int) -> str:
        return "x" * size

    @mcp.tool()
    async def table(size: int) -> dict[str, str]:
        return {"cells": "x" * size}

    return mcp


@each_era
@pytest.mark.parametrize(("tool", "is_error"), [("text", False), ("table", True)])
async def test_a_result_that_is_too_large_is_a_link_to_a_resource(
    era: str, tool: str, is_error: bool
) -> None:
    async with served(large(), settings=Settings(max_result=2000)) as wire:
        client = await connect(wire, era)
        small = await (await client.call(tool, {"size": 500})).outcome()
        assert "x" * 500 in json.dumps(small)
        result = (await (await client.call(tool, {"size": 3000})).outcome())["result"]
        note, link = result["content"]
        assert (link["type"], result["isError"]) == ("resource_link", is_error)
        assert link["uri"] in note["text"]
        assert "structuredContent" not in result
        answer = await client.request("resources/read", {"uri": link["uri"]})
        (content,) = (await answer.outcome())["result"]["contents"]
        whole = json.loads(content["text"])
        assert (len(content["text"].encode()), whole["isError"]) == (link["size"], False)
        assert whole["content"][0]["text"].count("x") == 3000
        stranger = await Session.open(wire)
        refused = await (await stranger.request("resources/read", {"uri": link["uri"]})).outcome()
        assert refused["error"]["code"] == -32602


async def test_a_server_without_resources_sends_a_large_result_as_it_is() -> None:
    async def call(_context: Any, _params: Any) -> CallToolResult:
        return CallToolResult(content=[TextContent(type="text", text="x" * 3000)])

    low: Server[Any] = Server("low", on_call_tool=call)
    async with served(low, settings=Settings(max_result=2000)) as wire:
        answer = await (await Modern(wire).call("any")).outcome()
        assert text_of(answer) == "x" * 3000


# `--set`


def test_every_setting_has_a_name_to_set_it_by() -> None:
    changed = with_values(
        Settings(), ["max_runs=5", "lease=2m", "log_rate=0", "check_host=false", "keep.ttl=2h"]
    )
    assert changed == Settings(
        max_runs=5, lease=120.0, log_rate=0.0, check_host=False, retention=Retention(ttl=7200.0)
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("max_runs", "NAME=VALUE"),
        ("nothing=1", "max_sessions_each"),
        ("profiles=1", "keep.stream_bytes"),
        ("max_runs=many", "'many' is no value"),
        ("max_runs=0", "at least 1"),
        ("lease=soon", "'soon' is no value"),
        ("check_host=maybe", "'maybe' is no value"),
        ("on_delete=both", "cancel or finish"),
        ("keep.ttl=", "no value"),
    ],
)
def test_a_value_that_fits_nothing_is_refused_with_what_would(text: str, says: str) -> None:
    with pytest.raises(SetupError, match=says):
        with_values(Settings(), [text])


def test_a_retention_is_for_the_journal(tmp_path: Path) -> None:
    from headway import asgi

    app = asgi(
        Headway("m"),
        journal=f"sqlite:///{tmp_path / 'j.db'}",
        settings=Settings(retention=Retention(ttl=5)),
    )
    assert app.journal.retention.ttl == 5
