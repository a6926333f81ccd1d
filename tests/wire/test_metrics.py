"""`/metrics`: what it says while calls run, who may read it, and what it never says."""

import asyncio
import gc
from typing import Any

import pytest
from mcp.server.lowlevel import Server
from mcp_types import CallToolResult, ListToolsResult, TextContent, Tool
from prometheus_client.registry import CollectorRegistry
from starlette.responses import PlainTextResponse
from tests.kit.auth import bearer, guarded_tools
from tests.kit.http import Answer
from tests.kit.peers import Modern, Session, Wire, begin, connect, each_era, served, text_of
from tests.wire.sums import scrape, scraped

from headway import Headway, Settings, SetupError, report

pytestmark = pytest.mark.anyio


def waiting() -> tuple[Headway, asyncio.Event]:
    go, mcp = asyncio.Event(), Headway("m")

    @mcp.tool(concurrency=2)
    async def wait(secret: str = "") -> str:
        report(1, 2, secret)
        await go.wait()
        return secret

    @mcp.tool()
    async def fail() -> None:
        raise ValueError("no")

    return mcp, go


@each_era
async def test_what_goes_on_is_seen_while_it_does_and_counted_when_it_is_over(era: str) -> None:
    mcp, go = waiting()
    async with served(mcp, settings=Settings(max_runs=7)) as wire:
        client = await connect(wire, era)
        calls = [await begin(client, "wait", id=n, token=n) for n in range(1, 4)]
        seen = await scraped(wire, lambda n: n("tool_queued", tool="wait") == 1)
        assert (seen("runs", state="working"), seen("runs", state="queued")) == (2, 1)
        assert (seen("in_use", setting="max_runs"), seen("limit", setting="max_runs")) == (2, 7)
        assert (seen("tool_in_use", tool="wait"), seen("tool_limit", tool="wait")) == (2, 2)
        assert seen("in_use", setting="max_queue") == 1
        assert seen("limit_reached_total", setting="concurrency") == 1
        assert seen("in_use", setting="max_connections") >= 4
        assert seen("journal_memory_bytes") > 0
        seen = await scraped(wire, lambda n: n("open_streams", of="request") == 3)
        assert seen("in_use", setting="max_session_streams") == (3 if era == "2025" else 0)
        go.set()
        for call in calls:
            await (await call.answer()).outcome()
        await (await client.call("fail", id=9)).outcome()
        over = await scraped(wire, lambda n: n("in_use", setting="max_open") == 0)
        assert over("calls_total", tool="wait", end="completed") == 3
        assert over("calls_total", tool="fail", end="tool_error") == 1
        assert over("call_seconds_count", tool="wait") == 3
        assert over("first_byte_seconds_count") >= 4
        assert over("open_streams", of="request") == 0


async def test_it_counts_resumed_streams_repeated_calls_and_cancelled_ones() -> None:
    mcp, go = waiting()
    async with served(mcp) as wire:
        session = await Session.open(wire)
        first = await session.call("wait", id=1, token=1)
        await first.message()
        first.cut()
        again = await session.get(first.ids[-1])

        def keyed_call(id: int, **meta: str) -> dict[str, Any]:
            message = session.call_message("wait", {"secret": "x"}, id=id)
            message["params"]["_meta"] = {"headway/idempotency-key": "k" * 20, **meta}
            return message

        keyed = await session.post(keyed_call(2, progressToken="a"))
        await keyed.message()
        repeated = await session.send(keyed_call(3))
        await scraped(wire, lambda n: n("repeated_calls_total") == 1)
        await session.notify("notifications/cancelled", {"requestId": 1})
        assert (await again.rest())[-1]["error"]["code"] == -32800
        go.set()
        assert text_of(await keyed.outcome()) == "x"
        assert text_of(await (await repeated.answer()).outcome()) == "x"
        over = await scrape(wire)
        assert over("resumed_streams_total") == 1
        assert over("calls_total", tool="wait", end="cancelled") == 1
        assert over("calls_total", tool="wait", end="completed") == 1  # executed once


# What it never says


def lowlevel() -> Server[Any]:
    async def listing(_context: Any, _params: Any) -> ListToolsResult:
        return ListToolsResult(tools=[Tool(name="known", input_schema={"type": "object"})])

    async def call(_context: Any, params: Any) -> CallToolResult:
        return CallToolResult(content=[TextContent(text=f"{params.name} is fine")])

    return Server("low", on_call_tool=call, on_list_tools=listing)


@pytest.mark.parametrize("make", [lambda: waiting()[0], lowlevel], ids=["Headway", "lowlevel"])
async def test_names_that_clients_make_up_are_one_name(make: Any) -> None:
    async with served(make()) as wire:
        client = Modern(wire)
        await (await client.request("tools/list")).outcome()
        for number in range(50):
            await (await client.call(f"made-up-{number}")).outcome()
        numbers = await scrape(wire)
        assert numbers.labels("calls_total", "tool") == {"(other)"}
        assert "made-up" not in numbers.text
        assert sum(v for (n, _), v in numbers.samples.items() if n == "headway_calls_total") == 50


async def test_tools_without_end_are_told_apart_up_to_a_number() -> None:
    mcp = Headway("m")
    for number in range(300):
        mcp.add_tool(lambda: "x", name=f"tool-{number}")
    async with served(mcp) as wire:
        for number in (0, 199, 200, 299):
            await (await Modern(wire).call(f"tool-{number}")).outcome()
        numbers = await scrape(wire)
        assert numbers.labels("calls_total", "tool") == {"tool-0", "tool-199", "(other)"}


async def test_it_says_nothing_of_callers_arguments_sessions_or_runs() -> None:
    tools = guarded_tools()
    async with served(tools.mcp) as wire:
        session = await Session.open(wire, extra=bearer("alice:1"))
        answer = await session.call("wait", token="tok-en", id="my-id")
        await answer.message()
        (run,) = wire.app.engine.runs.values()
        text = (await scrape(wire)).text
        names = (session.id, run.id, run.reference, run.request.principal)
        for word in ("alice", "tok-en", "my-id", *names):
            assert word not in text
        tools.gate.open()
        await answer.rest()


# Who may read it


async def get(wire: Wire, headers: dict[str, str], method: str = "GET") -> Answer:
    return await wire.ask(method, headers, path="/metrics")


@pytest.mark.parametrize(
    ("who", "headers", "status"),
    [
        ("local", {}, 200),
        ("local", {"Host": "evil.example"}, 421),
        ("local", {"Host": "public.example"}, 421),
        ("local", {"Origin": "https://evil.example"}, 403),
        ("local", {"X-Forwarded-For": "203.0.113.9"}, 403),
        ("local", {"Forwarded": "for=127.0.0.1"}, 403),
        ("all", {"Host": "evil.example"}, 421),
        ("all", {"Host": "public.example", "X-Forwarded-For": "203.0.113.9"}, 200),
        ("off", {}, 404),
    ],
)
async def test_who_may_read_it_is_the_operators_choice(
    who: str, headers: dict[str, str], status: int
) -> None:
    settings = Settings(metrics=who, allowed_hosts=("public.example",))
    async with served(waiting()[0], settings=settings) as wire:
        answer = await get(wire, headers)
        assert answer.status == status
        assert ("headway_limit" in (await answer.body()).decode()) == (status == 200)


async def test_a_page_of_a_foreign_name_is_refused_also_where_clients_are_not_checked() -> None:
    async with served(waiting()[0], settings=Settings(check_host=False)) as wire:
        assert (await get(wire, {"Host": "rebound.example"})).status == 421


async def test_the_metrics_page_answers_only_get_and_head() -> None:
    async with served(waiting()[0]) as wire:
        answer = await get(wire, {}, "POST")
        assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")
        assert (
            (await get(wire, {"Accept": "application/openmetrics-text"}))
            .headers["content-type"]
            .startswith("application/openmetrics-text")
        )


async def test_a_servers_own_page_of_that_name_stays_its_own() -> None:
    mcp = Headway("m")

    @mcp.custom_route("/metrics", methods=["GET"])
    async def own(_request: Any) -> PlainTextResponse:
        return PlainTextResponse("mine")

    async with served(mcp) as wire:
        assert await (await get(wire, {})).body() == b"mine"


def test_an_unknown_value_of_the_metrics_setting_is_refused() -> None:
    with pytest.raises(SetupError, match="local, all, off"):
        Settings(metrics="some")


# What it costs


async def test_a_thousand_scrapes_leave_nothing_behind() -> None:
    mcp, go = waiting()
    async with served(mcp) as wire:
        call = await begin(Modern(wire), "wait", token=1)
        await scraped(wire, lambda n: n("in_use", setting="max_runs") == 1)
        for _ in range(100):
            wire.app.metrics.page("")
        gc.collect()
        tasks, objects = len(asyncio.all_tasks()), len(gc.get_objects())
        for number in range(1000):
            if number % 100:
                wire.app.metrics.page("")
            else:
                await scrape(wire)
        await scraped(wire, lambda n: n("in_use", setting="max_connections") <= 2)
        gc.collect()
        assert len(asyncio.all_tasks()) <= tasks + 2
        assert len(gc.get_objects()) < objects + 2000
        go.set()
        await (await call.answer()).outcome()


async def test_each_app_has_its_own_and_can_be_read_in_another_registry() -> None:
    async with served(waiting()[0]) as one, served(waiting()[0]) as other:
        await (await Modern(one).call("fail")).outcome()
        assert (await scrape(one))("calls_total", tool="fail", end="tool_error") == 1
        assert not (await scrape(other)).labels("calls_total", "tool")
        registry = CollectorRegistry()
        registry.register(one.app.metrics)
        labels = {"tool": "fail", "end": "tool_error"}
        assert registry.get_sample_value("headway_calls_total", labels) == 1
