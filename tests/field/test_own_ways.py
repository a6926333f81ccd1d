"""A `Headway` that is run, mounted or tested in the ways that every SDK server has of its own."""

import asyncio
import logging
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import anyio
import fastmcp
import pytest
from fastmcp.server import create_proxy
from mcp import Client, StdioServerParameters
from mcp.client.sse import sse_client
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.shared.exceptions import MCPError
from mcp_types import ElicitResult
from starlette.applications import Starlette
from starlette.routing import Mount
from tests.field import own_server
from tests.kit.stdio import ROOT
from tests.kit.tools import Name
from tests.kit.waits import until, within

import headway
from headway import Headway, HeadwayApp, part, report, track
from headway.cli.server.http_server import serving
from headway.engine.run import threads
from headway.journal import open_journal
from headway.testing import ServerProcess

pytestmark = pytest.mark.anyio

HERE = Path(__file__).parent
SAID: list[Any] = [
    *((0, 3, "step 0"), {"step": 0}),
    *((1, 3, "step 1"), {"step": 1}),
    *((2, 3, "step 2"), {"step": 2}),
    (3, 3, "3 done"),
]

MODES = {
    "legacy": {"mode": "legacy"},
    "auto": {"log_level": "info"},
    "pinned": {"mode": "2026-07-28", "log_level": "info"},
}
each_mode = pytest.mark.parametrize("mode", MODES)


class Heard:
    """What a client hears, in order."""

    def __init__(self) -> None:
        self.said: list[Any] = []

    async def progress(self, *what: Any) -> None:
        self.said.append(what)

    async def log(self, message: Any) -> None:
        self.said.append(message.data)


def text_in(result: Any) -> str:
    return result.content[0].text


async def heard_of(server: Any, tool: str = "work", **options: Any) -> tuple[str, list[Any]]:
    heard: Any = Heard()
    async with Client(server, logging_callback=heard.log, **options) as client:
        result = await within(client.call_tool(tool, {}, progress_callback=heard.progress))
        # Over a transport a notification may come behind the result that it was sent before.
        await until(lambda: len(heard.said) >= len(SAID) or options.get("log_level") == "quiet")
    return text_in(result), heard.said


# In memory


@each_mode
async def test_a_client_in_memory_hears_progress_and_parts_in_order(mode: str) -> None:
    assert await heard_of(own_server.mcp, **MODES[mode]) == ("done", SAID)


@each_mode
async def test_a_time_limit_holds_in_memory(mode: str) -> None:
    mcp, stopped = Headway("limited"), asyncio.Event()

    @mcp.tool(timeout="50ms")
    async def slow() -> str:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        return "never"

    async with Client(mcp, mode=MODES[mode].get("mode", "auto")) as client:
        with pytest.raises(MCPError, match=r"did not finish within its limit of 0\.05 s"):
            await within(client.call_tool("slow", {}))
    assert stopped.is_set()


@each_mode
async def test_who_gives_a_call_up_in_memory_stops_it(mode: str) -> None:
    mcp, begun, stopped = Headway("given up"), asyncio.Event(), asyncio.Event()

    @mcp.tool()
    async def slow() -> str:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        return "never"

    async with Client(mcp, mode=MODES[mode].get("mode", "auto")) as client:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(client.call_tool, "slow", {})
                await within(begun.wait())
                scope.cancel()
        await within(stopped.wait())


@each_mode
async def test_a_tools_failure_in_memory_is_the_sdks_own(mode: str) -> None:
    mcp = Headway("fails")

    @mcp.tool()
    async def fails() -> str:
        report(1, 2)
        raise ValueError("no such table")

    async with Client(mcp, mode=MODES[mode].get("mode", "auto")) as client:
        result = await within(client.call_tool("fails", {}))
    assert result.is_error
    assert "Error executing tool fails" in text_in(result)


async def test_calls_in_memory_share_the_limits_of_a_tool() -> None:
    mcp, at_once, most = Headway("narrow"), 0, 0

    @mcp.tool(concurrency=1)
    async def narrow() -> str:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0)
        at_once -= 1
        return "done"

    async with Client(mcp) as client:
        await within(asyncio.gather(*(client.call_tool("narrow", {}) for _ in range(5))))
    assert most == 1


async def test_a_question_in_memory_reaches_the_client_in_order() -> None:
    mcp = Headway("asks")

    @mcp.tool(rate=0)
    async def asks(ctx: Context[Any, Any]) -> str:
        report(1, 3)
        answer = await ctx.elicit("Who are you?", Name)
        await ctx.report_progress(2, 3)
        return cast("Any", answer).data.name

    heard: Any = Heard()

    async def answer(context: Any, params: Any) -> ElicitResult:
        heard.said.append(params.message)
        return ElicitResult(action="accept", content={"name": "Ada"})

    async with Client(mcp, mode="legacy", elicitation_callback=answer) as client:
        result = await within(client.call_tool("asks", {}, progress_callback=heard.progress))
        await until(lambda: len(heard.said) == 4)
    assert text_in(result) == "Ada"
    assert heard.said == [(1, 3, None), "Who are you?", (2, 3, None), (3, 3, "Done")]


async def test_a_server_in_memory_that_calls_another_one_in_memory_hears_its_own_only() -> None:
    outer = Headway("outer")

    @outer.tool(rate=0)
    async def work() -> str:
        report(1, 2)
        return (await heard_of(own_server.mcp, **MODES["auto"]))[0]

    heard: Any = Heard()
    async with Client(outer) as client:
        result = await client.call_tool("work", {}, progress_callback=heard.progress)
    assert text_in(result) == "done"
    assert heard.said == [(1, 2, None), (2, 2, "Done")]


async def test_an_option_that_has_no_effect_in_memory_is_named_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    mcp = Headway("options")

    @mcp.tool(restart=True, hand_over="at once")
    async def work() -> str:
        return "done"

    async with Client(mcp) as client:
        for _ in range(2):
            await client.call_tool("work", {})
    told = [record.message for record in caplog.records if "no effect" in record.message]
    assert len(told) == 1
    assert "hand_over, restart" in told[0]
    assert "headway.asgi" in told[0]


async def test_fastmcps_client_and_a_fastmcp_proxy_hear_it_too() -> None:
    heard: Any = Heard()
    async with fastmcp.Client(own_server.mcp, log_handler=heard.log) as client:
        result = await client.call_tool("work", {}, progress_handler=heard.progress)
        assert text_in(result) == "done"
    assert [said for said in heard.said if isinstance(said, tuple)] == SAID[::2]
    heard: Any = Heard()
    proxy = create_proxy(own_server.mcp)
    async with fastmcp.Client(proxy) as client:
        result = await client.call_tool("work", {}, progress_handler=heard.progress)
        assert text_in(result) == "done"
    assert heard.said == SAID[::2]


# As an app


async def test_the_sdks_app_function_gives_headways_app_and_its_options_count() -> None:
    app = own_server.mcp.streamable_http_app(
        streamable_http_path="/api", stateless_http=True, session_idle_timeout=None, max_sessions=5
    )
    assert isinstance(app, HeadwayApp)
    settings = app.settings
    assert (app.path, settings.stateless, settings.max_sessions) == ("/api", True, 5)
    with pytest.raises(TypeError, match="there is no option 'jounral'"):
        own_server.mcp.streamable_http_app(jounral="memory:")


class Host(Starlette):
    async def drain(self) -> None:
        """What `serving` wants."""


async def test_mounted_by_the_sdks_book_it_starts_and_stops_with_the_host() -> None:
    mcp = Headway("booked")

    @mcp.tool(rate=0)
    def work() -> str:
        for step in track(range(3), message="step {item}"):
            part({"step": step})
        return "done"

    with pytest.raises(RuntimeError, match="streamable_http_app"):
        _ = mcp.session_manager
    inner = mcp.streamable_http_app()

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        async with mcp.session_manager.run():
            yield

    host = Host(routes=[Mount("/", app=inner)], lifespan=lifespan)
    async with serving(host) as origin:
        assert await heard_of(f"{origin}/mcp", mode="legacy") == ("done", SAID)
    assert isinstance(inner, HeadwayApp)
    assert inner.journal.closed


async def test_over_the_transport_of_2024_tools_run_in_the_engine(
    caplog: pytest.LogCaptureFixture,
) -> None:
    host = Host(routes=[Mount("/", app=own_server.mcp.sse_app())])
    assert "a cut stream is not resumed" in caplog.text
    async with serving(host, grace=1) as origin:
        assert await heard_of(sse_client(f"{origin}/sse"), mode="legacy") == ("done", SAID)


# By its own run


async def test_its_own_run_in_a_loop_serves_until_it_is_cancelled(
    capsys: pytest.CaptureFixture[str],
) -> None:
    running = asyncio.create_task(own_server.mcp.run_streamable_http_async(port=0))
    said = ""

    def is_said() -> bool:
        nonlocal said
        said += capsys.readouterr().err
        return "serving own at " in said

    await until(is_said)
    assert await heard_of(said.split(" at ")[1].split()[0], mode="legacy") == ("done", SAID)
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()


async def test_its_own_run_over_http_is_headways_and_returns_after_sigterm(tmp_path: Path) -> None:
    journal = f"sqlite:///{tmp_path / 'journal.db'}"
    command = [sys.executable, str(HERE / "own_server.py"), "streamable-http", "{port}"]
    env = {"PYTHONPATH": str(ROOT), "JOURNAL": journal}
    async with ServerProcess(command, env=env) as process:
        assert await heard_of(f"{process.origin}/mcp", mode="legacy") == ("done", SAID)
        assert await process.terminate() == 0
    assert "headway: serving own at " in process.stderr
    assert "it goes on" in process.stderr
    async with open_journal(journal) as kept:
        assert await kept.streams("run/") != []


async def test_mcp_run_serves_it_over_stdio() -> None:
    command = StdioServerParameters(
        command=str(Path(sys.executable).with_name("mcp")),
        args=["run", str(HERE / "own_server.py")],
        env={"PYTHONPATH": str(ROOT), "JOURNAL": "memory:"},
    )
    assert await heard_of(command, mode="legacy") == ("done", SAID)


def test_a_transport_that_does_not_exist_is_named() -> None:
    with pytest.raises(ValueError, match="there is no transport 'websocket'; there is stdio"):
        own_server.mcp.run(cast("Any", "websocket"))


# Outside of a run


@pytest.mark.parametrize("what", ["report", "part", "log", "stage", "track"])
async def test_what_is_said_outside_of_a_run_is_told_once_with_the_remedy(
    what: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tool of an SDK server that the SDK serves, say."""
    monkeypatch.setattr(threads, "_warned_functions", set())
    mcp = MCPServer("alone")

    @mcp.tool()
    def work() -> str:
        for _ in range(2):
            if what == "stage":
                with headway.stage("One"):
                    pass
            elif what == "track":
                assert list(track([1])) == [1]
            else:
                getattr(headway, what)(1)
        return "done"

    async with Client(mcp) as client:
        await client.call_tool("work", {})
    told = [record for record in caplog.records if record.name == threads.__name__]
    assert [record.levelno for record in told] == [logging.WARNING]
    assert told[0].message.startswith(f"{what}() was called outside of a run")
    assert "headway run FILE:NAME" in told[0].message
