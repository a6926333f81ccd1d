"""What an author's code raises is its own failure: its caller is told, nobody else notices."""

import asyncio
import logging
import signal
from collections.abc import Generator
from contextlib import asynccontextmanager
from types import FrameType
from typing import Any

import pytest
from fastmcp import FastMCP
from mcp.server.lowlevel import Server
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult, GetPromptResult, ListToolsResult, TextContent
from tests.field.troubles import ANYWHERE, WORDS, Patient, cancel, fail, leave, server_of
from tests.kit.peers import Modern, Session, begin, connect, each_era, served, text_of
from tests.kit.stdio import piped
from tests.kit.waits import until, within

from headway import Headway, SetupError, in_process
from headway.testing import run_tool

pytestmark = pytest.mark.anyio

each_trouble = pytest.mark.parametrize("trouble", WORDS)
SERVERS: dict[str, Any] = {"headway": Headway, "sdk": MCPServer, "fastmcp": FastMCP}


@pytest.fixture(autouse=True)
def _as_a_server_does() -> Generator[None]:
    """Ctrl+C is taken care of, as in every process that serves."""

    def ignore(_number: int, _frame: FrameType | None) -> None:
        pass

    before = signal.signal(signal.SIGINT, ignore)
    yield
    signal.signal(signal.SIGINT, before)


def lowlevel(_name: str = "") -> Any:
    async def call(_context: Any, params: Any) -> CallToolResult:
        await fail(params.arguments["trouble"])
        return CallToolResult(content=[TextContent(text="no trouble")])

    return Server("troubles", on_call_tool=call)


# Tools


@each_era
@pytest.mark.parametrize("kind", SERVERS)
async def test_a_tool_that_fails_in_any_way_is_a_tool_error(kind: str, era: str):
    async with served(server_of(SERVERS[kind])) as wire:
        client = await connect(wire, era)
        for trouble, words in WORDS.items():
            outcome = await (await client.call("fail", {"trouble": trouble})).outcome()
            assert outcome["result"]["isError"] is True, trouble
            assert words in text_of(outcome), trouble
            assert "customer 7" not in text_of(outcome), trouble
            assert not wire.app.engine.runs, trouble


@pytest.mark.parametrize("trouble", ANYWHERE)
@each_era
async def test_a_tool_that_fails_in_a_thread_is_a_tool_error(era: str, trouble: str):
    async with served(server_of(Headway)) as wire:
        client = await connect(wire, era)
        outcome = await (await client.call("fail_in_a_thread", {"trouble": trouble})).outcome()
        assert outcome["result"]["isError"] is True
        assert WORDS[trouble] in text_of(outcome)


@each_era
@pytest.mark.parametrize("trouble", ["leave", "cancel", "leave_a_cancelled_scope"])
async def test_a_lowlevel_server_that_fails_is_a_tool_error(era: str, trouble: str):
    async with served(lowlevel()) as wire:
        client = await connect(wire, era)
        outcome = await (await client.call("fail", {"trouble": trouble})).outcome()
        assert outcome["result"]["isError"] is True
        assert WORDS[trouble] in text_of(outcome)


@each_era
async def test_other_callers_notice_nothing(era: str):
    patient = Patient()
    async with served(server_of(Headway, patient)) as wire:
        other = await connect(wire, era)
        waiting = await begin(other, "wait", id=1)
        await within(patient.begun.wait())
        client = await connect(wire, era)
        for trouble in WORDS:
            assert (await (await client.call("fail", {"trouble": trouble})).outcome())["result"]
        patient.go.set()
        assert text_of(await (await waiting.answer()).outcome()) == "done"


@each_era
async def test_over_stdio_as_well(era: str):
    async with piped(server_of(Headway)) as client:
        if era == "2025":
            await client.shake_hands()
        for trouble, words in WORDS.items():
            answer = await client.call("fail", {"trouble": trouble}, era=era)
            assert words in text_of(answer)
            assert answer["result"]["isError"] is True


@each_trouble
async def test_in_a_test_of_its_author_as_well(trouble: str):
    outcome = await run_tool(server_of(Headway), "fail", {"trouble": trouble}, raise_on_error=False)
    assert WORDS[trouble] in (outcome.error or "")


async def test_the_log_has_the_traceback_and_what_argparse_said(caplog: pytest.LogCaptureFixture):
    async with served(server_of(Headway)) as wire:
        outcome = await (await Modern(wire).call("fail", {"trouble": "parse_options"})).outcome()
    [record] = [each for each in caplog.records if each.levelno >= logging.ERROR]
    reference = text_of(outcome).rpartition("(reference ")[2][:-1]
    assert record.getMessage() == (
        f"run {reference}: tool 'fail' ended with SystemExit(2): "
        "argument --size: invalid int value: 'big'"
    )
    assert record.exc_info is not None
    assert "in parse_options" in caplog.text


async def test_the_text_of_an_exit_is_for_the_log_alone(caplog: pytest.LogCaptureFixture):
    async with served(server_of(Headway)) as wire:
        outcome = await (await Modern(wire).call("fail", {"trouble": "leave_with_text"})).outcome()
    assert "customer 7" not in str(outcome)
    assert "ended with SystemExit: the licence file of customer 7 is missing" in caplog.text


async def test_a_stop_that_was_asked_for_is_told_as_such_whatever_the_tool_makes_of_it():
    mcp = Headway("stubborn")

    @mcp.tool(timeout=5)
    async def stubborn(trouble: str) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if trouble == "error":
                raise ToolError("I had to stop") from None
            await fail(trouble)
        return "never"

    async with served(mcp) as wire:
        for trouble in ("error", "leave", "fall_sick", "cancel"):
            client = Modern(wire)
            message = client.call_message("stubborn", {"trouble": trouble})
            call = asyncio.create_task(client.post(message))
            await until(lambda: any(run.execution.scope for run in wire.app.engine.runs.values()))
            await wire.clock.advance(5)
            outcome = await (await call).outcome()
            assert "did not finish within its limit" in outcome["error"]["message"]


async def test_a_result_is_kept_though_its_tool_leaves_a_scope_open(
    caplog: pytest.LogCaptureFixture,
):
    """As a tool does that opens a connection for the calls that follow."""
    import anyio

    mcp = Headway("lazy")
    kept: list[Any] = []

    @mcp.tool()
    async def open_once() -> str:
        if not kept:
            group = anyio.create_task_group()
            await group.__aenter__()
            group.start_soon(asyncio.Event().wait)
            kept.append(group)
        return "open"

    async with served(mcp) as wire:
        client = Modern(wire)
        assert text_of(await (await client.call("open_once")).outcome()) == "open"
        assert text_of(await (await client.call("open_once")).outcome()) == "open"
        assert "left a cancel scope open" in caplog.text
        kept[0].cancel_scope.cancel()


# What several tasks of a tool raise together


def together(*errors: Exception) -> Headway:
    mcp = Headway("together")

    @mcp.tool()
    async def ask_all() -> str:
        async def ask(error: Exception) -> None:
            raise error

        async with asyncio.TaskGroup() as group:
            for error in errors:
                group.create_task(ask(error))
        return "never"

    return mcp


async def test_what_tasks_raise_for_the_model_reaches_it():
    outcome = await run_tool(
        together(ToolError("no such city"), ToolError("no key")), "ask_all", raise_on_error=False
    )
    assert outcome.error == "Error executing tool ask_all: no such city; no key"


async def test_a_protocol_error_of_a_task_is_the_answer():
    async with served(together(MCPError(-32042, "Confirm it first", {"url": "x"}))) as wire:
        outcome = await (await Modern(wire).call("ask_all")).outcome()
    assert outcome["error"] == {"code": -32042, "message": "Confirm it first", "data": {"url": "x"}}


async def test_a_crash_among_them_is_logged_and_its_text_is_not_told(
    caplog: pytest.LogCaptureFixture,
):
    outcome = await run_tool(
        together(ToolError("no key"), ValueError("customer 7")), "ask_all", raise_on_error=False
    )
    assert outcome.error == "Error executing tool ask_all: no key; and 1 unexpected error"
    assert "ValueError: customer 7" in caplog.text


async def test_crashes_alone_are_told_as_one_is():
    outcome = await run_tool(
        together(ValueError("customer 7"), KeyError("x")), "ask_all", raise_on_error=False
    )
    assert outcome.error == "Error executing tool ask_all"


# All else that an author writes


def everything(trouble: str) -> Any:
    """A server whose every handler fails."""
    mcp = Headway("everything")

    @mcp.resource("note://one")
    async def note() -> str:
        await fail(trouble)
        return "never"

    @mcp.resource("note://{name}")
    def notes(name: str) -> str:
        ANYWHERE[trouble][0]()
        return name

    @mcp.prompt()
    async def greet() -> str:
        await fail(trouble)
        return "never"

    @mcp.completion()
    async def complete(*_: Any) -> None:
        await fail(trouble)

    return mcp


REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("resources/read", {"uri": "note://one"}),
    ("resources/read", {"uri": "note://two"}),
    ("prompts/get", {"name": "greet"}),
    (
        "completion/complete",
        {"ref": {"type": "ref/prompt", "name": "greet"}, "argument": {"name": "a", "value": ""}},
    ),
]


@each_era
@pytest.mark.parametrize("trouble", ["leave", "fall_sick", "cancel", "interrupt"])
async def test_a_resource_a_prompt_or_a_completion_that_fails_is_an_error(era: str, trouble: str):
    async with served(everything(trouble)) as wire:
        client = await connect(wire, era)
        for method, params in REQUESTS:
            outcome = await (await client.request(method, params)).outcome()
            assert outcome["error"]["code"] == -32603
            assert f"{method} {WORDS[trouble]}" in outcome["error"]["message"]


async def test_a_handler_of_a_method_of_its_own_that_fails_is_an_error():
    async def get(_context: Any, _params: Any) -> GetPromptResult:
        leave()
        raise AssertionError

    async with served(Server("own", on_get_prompt=get)) as wire:
        outcome = await (await Modern(wire).request("prompts/get", {"name": "x"})).outcome()
        assert "prompts/get ended with SystemExit(2)" in outcome["error"]["message"]


async def test_middleware_that_fails_refuses_the_handshake_and_nothing_else():
    server = Server("guarded", on_list_tools=_no_tools)

    async def guard(ctx: Any, call_next: Any) -> Any:
        if ctx.method == "initialize":
            leave()
        return await call_next(ctx)

    server.middleware.append(guard)
    async with served(server) as wire:
        answer = await Session(wire, "2025-11-25", "", {}).request(
            "initialize",
            {
                "protocolVersion": "2025-11-25",
                "capabilities": {},
                "clientInfo": {"name": "x", "version": "1"},
            },
        )
        assert (await answer.json())["error"]["code"] == -32603
        assert (await (await Modern(wire).request("tools/list")).outcome())["result"]["tools"] == []
    async with piped(server) as client:
        for _ in range(2):
            assert (await client.ask("initialize", {"protocolVersion": "2025-11-25"}))["error"]


async def _no_tools(_context: Any, _params: Any) -> ListToolsResult:
    return ListToolsResult(tools=[])


@pytest.mark.filterwarnings("ignore:Client-to-server progress")
async def test_a_handler_of_notifications_that_fails_is_logged(caplog: pytest.LogCaptureFixture):
    async def hear(_context: Any, _params: Any) -> None:
        leave()

    server = Server("hearing", on_list_tools=_no_tools, on_progress=hear)
    said = {"progressToken": 1, "progress": 1}
    async with served(server) as wire:
        client = await Session.open(wire)
        await client.notify("notifications/progress", said)
        assert (await (await client.request("tools/list")).outcome())["result"]["tools"] == []
    assert "notifications/progress ended with SystemExit(2)" in caplog.text
    async with piped(server) as pipe:
        await pipe.shake_hands()
        await pipe.notify("notifications/progress", said)
        assert (await pipe.ask("tools/list"))["result"]["tools"] == []


@pytest.mark.parametrize("trouble", [leave, cancel])
async def test_a_lifespan_that_ends_is_a_start_that_failed(trouble: Any):
    @asynccontextmanager
    async def lifespan(_server: Any):
        trouble()
        yield

    with pytest.raises(SetupError, match="the server's own startup code ended with"):
        async with served(MCPServer("m", lifespan=lifespan)):
            pass


async def test_a_process_of_a_tool_that_exits_is_a_tool_error():
    mcp = Headway("processes")

    @mcp.tool()
    async def work() -> None:
        await in_process(leave)

    outcome = await run_tool(mcp, "work", raise_on_error=False)
    assert outcome.error == "Error executing tool work: leave ended with SystemExit(2)"
