"""The test kit for tools: a call without a server, and a recording without a tool."""

import asyncio
import threading
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from fastmcp import Context as FastContext
from fastmcp import FastMCP
from mcp.server.lowlevel import Server
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult, TextContent
from tests.kit.tools import Name
from tests.kit.waits import PATIENCE

from headway import Headway, Settings, SetupError, log, part, report, track
from headway.run_state import State
from headway.testing import FakeClock, Logged, Reported, ToolRunFailed, record, run_tool

pytestmark = pytest.mark.anyio


def headway() -> Any:
    mcp = Headway("h")

    @mcp.tool()
    async def work(ctx: Context[Any, Any], steps: int) -> dict[str, int]:
        for step in track(range(steps)):
            log(step)
        return {"steps": steps}

    return mcp


def unchanged() -> Any:
    mcp = MCPServer("m")

    @mcp.tool()
    async def work(ctx: Context[Any, Any], steps: int) -> dict[str, int]:
        for step in range(steps):
            await ctx.report_progress(step, steps)
            await ctx.session.send_log_message("info", step, related_request_id=ctx.request_id)
        return {"steps": steps}

    return mcp


def fastmcp() -> Any:
    mcp: FastMCP[Any] = FastMCP("f")

    @mcp.tool
    async def work(ctx: FastContext, steps: int) -> dict[str, int]:
        for step in range(steps):
            await ctx.report_progress(step, steps)
            await ctx.session.send_log_message("info", step)
        return {"steps": steps}

    return mcp


def lowlevel() -> Any:
    async def call(context: Any, params: Any) -> CallToolResult:
        steps = params.arguments["steps"]
        for step in range(steps):
            await context.session.send_progress_notification(
                context.meta["progress_token"], step, steps
            )
            await context.session.send_log_message("info", step)
        return CallToolResult(
            content=[TextContent(type="text", text="done")], structured_content={"steps": steps}
        )

    return Server("l", on_call_tool=call)


@pytest.mark.filterwarnings("ignore::mcp.MCPDeprecationWarning")
@pytest.mark.parametrize("make", [headway, unchanged, fastmcp, lowlevel])
async def test_tools_of_every_kind_of_server_are_called_alike(make: Any) -> None:
    outcome = await run_tool(make(), "work", {"steps": 3})
    assert outcome.result == outcome.structured == {"steps": 3}
    assert outcome.progress == [(0, 3, None), (1, 3, None), (2, 3, None), outcome.progress[-1]]
    assert outcome.progress[-1][:2] == (3, 3)
    assert outcome.logs == [("info", step, None) for step in range(3)]
    assert outcome.state is State.COMPLETED
    assert not outcome.is_error


@pytest.mark.filterwarnings("ignore::mcp.MCPDeprecationWarning")
async def test_messages_that_name_no_request_are_recorded_too() -> None:
    mcp = MCPServer("m")

    @mcp.tool()
    async def talk(ctx: Context[Any, Any]) -> str:
        await ctx.session.send_log_message("warning", "w")
        return "ok"

    assert (await run_tool(mcp, "talk")).logs == [Logged("warning", "w")]


async def test_every_report_is_there_whatever_the_tool_s_rate_is() -> None:
    mcp = Headway()

    @mcp.tool(rate=1)
    def flood() -> int:
        for step in range(20_000):
            report(step, 20_000)
        return 1

    everything = await run_tool(mcp, "flood")
    assert everything.progress == [
        *(Reported(step, 20_000) for step in range(20_000)),
        Reported(20_000, 20_000, "Done"),
    ]
    paced = await run_tool(mcp, "flood", settings=Settings(), clock=FakeClock())
    assert paced.progress == [(0, 20_000, None), (20_000, 20_000, "Done")]


@dataclass
class Point:
    x: int
    tags: tuple[str, ...] = ()


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (int, 3, 3),
        (None, None, None),
        (list[int], [1, 2], [1, 2]),
        (dict[str, int], {"a": 1}, {"a": 1}),
        (Point, Point(1, ("t",)), {"x": 1, "tags": ["t"]}),
        (str, "text", "text"),
    ],
    ids=str,
)
async def test_the_result_is_the_value_that_was_returned(
    kind: Any, value: object, expected: object
) -> None:
    mcp = Headway()

    def give() -> Any:
        return value

    give.__annotations__["return"] = kind
    mcp.add_tool(give)
    assert (await run_tool(mcp, "give")).result == expected


async def test_without_structured_content_the_result_is_the_text_or_the_blocks() -> None:
    mcp = Headway()

    @mcp.tool(structured_output=False)
    def words() -> str:
        return "plain"

    @mcp.tool()
    def silent() -> CallToolResult:
        return CallToolResult(content=[])

    assert (await run_tool(mcp, "words")).result == "plain"
    assert (await run_tool(mcp, "silent")).result is None


@pytest.mark.parametrize("error", [KeyError("customer_id"), ToolError("not today")])
async def test_a_call_that_fails_raises_with_what_the_tool_raised(error: Exception) -> None:
    mcp = Headway()

    @mcp.tool()
    def look_up() -> str:
        part("one")
        raise error

    with pytest.raises(ToolRunFailed, match="look_up: Error executing tool look_up") as failed:
        await run_tool(mcp, "look_up")
    assert failed.value.__cause__ is error
    assert failed.value.outcome.parts == ["one"]


async def test_a_tool_that_is_not_there_and_wrong_arguments_raise_too() -> None:
    with pytest.raises(ToolRunFailed, match="Unknown tool: nowhere"):
        await run_tool(headway(), "nowhere")
    with pytest.raises(ToolRunFailed, match="steps"):
        await run_tool(headway(), "work", {"steps": "many"})


@pytest.mark.filterwarnings("ignore::mcp.MCPDeprecationWarning")
async def test_a_failed_call_of_a_server_that_is_no_headway_raises_without_a_cause() -> None:
    mcp = MCPServer("m")

    @mcp.tool()
    async def fail() -> str:
        raise ToolError("not today")

    with pytest.raises(ToolRunFailed, match="not today") as failed:
        await run_tool(mcp, "fail")
    assert failed.value.__cause__ is None


async def test_an_error_of_a_tool_is_the_outcome_where_it_is_expected() -> None:
    mcp = Headway()

    @mcp.tool()
    def refuse() -> str:
        part("one")
        raise ToolError("not today")

    @mcp.tool()
    def protest() -> str:
        raise MCPError(-32002, "no such thing")

    refused = await run_tool(mcp, "refuse", raise_on_error=False)
    assert (refused.error, refused.result) == ("Error executing tool refuse: not today", None)
    assert refused.parts == ["one"]
    assert refused.state is State.COMPLETED
    protested = await run_tool(mcp, "protest", raise_on_error=False)
    assert (protested.error, protested.state) == ("no such thing", State.FAILED)
    assert (await run_tool(mcp, "nowhere", raise_on_error=False)).error == "Unknown tool: nowhere"


async def test_arguments_arrive_as_off_the_wire() -> None:
    mcp = Headway()

    @mcp.tool()
    def kinds(point: Any) -> str:
        return f"{type(point).__name__} {type(point['tags']).__name__}"

    outcome = await run_tool(mcp, "kinds", {"point": Point(1)})
    assert outcome.result == "dict list"


@pytest.mark.parametrize(
    "answers",
    [
        {"elicitation/create": {"action": "accept", "content": {"name": "Bo"}}},
        lambda _method, params: {
            "action": "accept",
            "content": {"name": "Bo" if params["message"] == "Who?" else "?"},
        },
    ],
    ids=["by method", "by a function"],
)
async def test_questions_of_a_tool_are_answered_by_the_test(answers: Any) -> None:
    mcp = Headway()

    @mcp.tool()
    async def greet(ctx: Context[Any, Any]) -> str:
        answer = await ctx.elicit("Who?", Name)
        return f"Hello {answer.data.name}" if answer.action == "accept" else answer.action

    assert (await run_tool(mcp, "greet", answers=answers)).result == "Hello Bo"
    with pytest.raises(AssertionError, match="asked elicitation/create"):
        await run_tool(mcp, "greet")


async def test_a_client_may_answer_with_an_error() -> None:
    mcp = Headway()

    @mcp.tool()
    async def greet(ctx: Context[Any, Any]) -> str:
        try:
            await ctx.elicit("Who?", Name)
        except MCPError as error:
            return f"refused: {error}"
        return "answered"

    def refuse(_method: str, _params: dict[str, Any]) -> object:
        raise MCPError(-1, "nobody home")

    assert (await run_tool(mcp, "greet", answers=refuse)).result == "refused: nobody home"


async def test_the_server_s_lifespan_is_around_the_call() -> None:
    said: list[str] = []

    @asynccontextmanager
    async def lifespan(_server: object):
        said.append("up")
        yield {"db": 7}
        said.append("down")

    mcp = Headway(lifespan=lifespan)

    @mcp.tool()
    def look(ctx: Context[Any, Any]) -> int:
        said.append("call")
        return ctx.request_context.lifespan_context["db"]

    assert (await run_tool(mcp, "look")).result == 7
    assert said == ["up", "call", "down"]


async def test_a_fake_clock_turns_a_timeout_while_the_call_goes_on() -> None:
    mcp, clock, begun = Headway(), FakeClock(), asyncio.Event()

    @mcp.tool(timeout="10m")
    async def hang() -> str:
        begun.set()
        await asyncio.Event().wait()
        return "never"

    async with asyncio.timeout(PATIENCE):
        call = asyncio.create_task(run_tool(mcp, "hang", clock=clock, raise_on_error=False))
        await begun.wait()
        await clock.advance(601)
        outcome = await call
    assert outcome.state is State.FAILED
    assert outcome.error == "hang did not finish within its limit of 600 s and was stopped"


@pytest.mark.parametrize("kind", ["async", "thread"])
async def test_a_call_that_takes_too_long_or_is_cancelled_stops_its_tool(kind: str) -> None:
    mcp, stopped = Headway(), threading.Event()
    begun, loop = asyncio.Event(), asyncio.get_running_loop()

    async def hang() -> str:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        return "never"

    def hang_in_thread() -> str:
        loop.call_soon_threadsafe(begun.set)
        try:
            while True:
                report(1)
        finally:
            stopped.set()

    mcp.add_tool(hang if kind == "async" else hang_in_thread, "hang")
    async with asyncio.timeout(PATIENCE):
        call = asyncio.create_task(run_tool(mcp, "hang"))
        await begun.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await asyncio.to_thread(stopped.wait, 5)
        stopped.clear()
        with pytest.raises(TimeoutError):
            await run_tool(mcp, "hang", timeout=0.05)
        assert await asyncio.to_thread(stopped.wait, 5)


async def test_what_is_no_server_is_refused() -> None:
    with pytest.raises(SetupError, match="no MCP server"):
        await run_tool(object(), "work")


def test_run_tool_can_be_called_from_a_plain_test() -> None:
    assert asyncio.run(run_tool(headway(), "work", {"steps": 1})).result == {"steps": 1}


def test_a_recording_hears_sync_code_and_nothing_is_added_at_its_end() -> None:
    def work() -> int:
        report(1, 4, "one")
        part({"n": 1})
        log("half", "warning", logger="mine")
        return 1

    with record() as said:
        assert work() == 1
        assert said.parts == [{"n": 1}]
    assert said.progress == [(1, 4, "one")]
    assert said.logs == [("warning", "half", "mine")]
    work()
    assert len(said.parts) == 1


async def test_a_recording_hears_async_code_and_its_tasks() -> None:
    async def work(name: str) -> None:
        async for item in track([1, 2]):
            part([name, item])

    with record() as said:
        await asyncio.gather(work("a"), work("b"))
    assert sorted(said.parts) == [["a", 1], ["a", 2], ["b", 1], ["b", 2]]
    assert said.progress[-1][:2] == (4, 4)


def test_recordings_do_not_hear_each_other() -> None:
    with record() as outer:
        part("outer")
        with record() as inner:
            part("inner")
        part("outer again")
    assert (outer.parts, inner.parts) == (["outer", "outer again"], ["inner"])


async def test_what_is_recorded_inside_a_tool_is_not_told_to_its_client() -> None:
    mcp = Headway()

    @mcp.tool()
    def work() -> list[str]:
        with record() as said:
            part("kept")
        part("told")
        return said.parts

    outcome = await run_tool(mcp, "work")
    assert (outcome.parts, outcome.result) == (["told"], ["kept"])
