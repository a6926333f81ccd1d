"""An app that is started again: by each test of a suite, each call of a function, in any loop."""

import asyncio
import gc
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from httpx2 import ASGITransport, AsyncClient
from mcp.server import MCPServer
from starlette.testclient import TestClient
from tests.kit.waits import PATIENCE, until, wait_until, within

from headway import Headway, HeadwayApp, Settings, SetupError, asgi, report
from headway.journal import Journal, open_journal
from headway.journal.memory import memory_journal

T = TypeVar("T")

ACCEPT = {"Accept": "application/json, text/event-stream"}
META = "io.modelcontextprotocol/"
MODERN = {**ACCEPT, "MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call"}
HELLO = {
    "protocolVersion": "2025-06-18",
    "capabilities": {},
    "clientInfo": {"name": "again", "version": "1"},
}


@pytest.fixture(params=["memory", "sqlite", "redis"])
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "redis":
        new_redis_url: Callable[[], str] = request.getfixturevalue("new_redis_url")
        return new_redis_url()
    return "memory:" if request.param == "memory" else f"sqlite:///{tmp_path / 'journal.db'}"


def tools() -> Headway:
    mcp = Headway("again")

    @mcp.tool()
    async def echo(text: str = "hi") -> str:
        return text

    @mcp.tool()
    async def forever() -> str:
        report(1)
        await asyncio.Event().wait()
        return "never"

    return mcp


def message(method: str, params: dict[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


def modern_call(tool: str) -> dict[str, Any]:
    meta = {f"{META}protocolVersion": "2026-07-28", f"{META}clientCapabilities": {}}
    return message("tools/call", {"name": tool, "arguments": {}, "_meta": meta})


def client_of(app: HeadwayApp) -> AsyncClient:
    return AsyncClient(transport=ASGITransport(app=app), base_url="http://localhost")


async def echoes(app: HeadwayApp) -> None:
    async with client_of(app) as client:
        answer = await client.post(
            "/mcp", json=modern_call("echo"), headers=MODERN | {"Mcp-Name": "echo"}
        )
        assert answer.json()["result"]["content"][0]["text"] == "hi"


def run_in(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
    return loop.run_until_complete(within(work))


def test_a_test_client_for_each_test_finds_the_app_as_new(journal: str) -> None:
    app = asgi(tools(), journal=journal)
    session = ""
    for attempt in range(3):
        with TestClient(app, base_url="http://localhost") as client:
            assert client.get("/readyz").status_code == 200
            old = {**ACCEPT, "Mcp-Session-Id": session}
            if attempt:
                # A journal that outlives the app knows the session, one in memory does not.
                known = client.post("/mcp", headers=old, json=message("ping", {}))
                assert known.status_code == (404 if journal == "memory:" else 200)
            opened = client.post("/mcp", headers=ACCEPT, json=message("initialize", HELLO))
            session = opened.headers["mcp-session-id"]
            call = message("tools/call", {"name": "echo", "arguments": {}})
            answer = client.post("/mcp", headers={**ACCEPT, "Mcp-Session-Id": session}, json=call)
            assert answer.json()["result"]["content"][0]["text"] == "hi"


def test_a_function_that_starts_the_app_for_each_call_may_keep_its_loop() -> None:
    """As Mangum does: start-up, a request and shutdown, again and again in one loop."""
    app = asgi(tools())
    loop = asyncio.new_event_loop()
    try:
        for _ in range(3):
            lifespan = app.lifespan()
            run_in(loop, lifespan.__aenter__())
            run_in(loop, echoes(app))
            run_in(loop, lifespan.__aexit__(None, None, None))
            assert app.journal.closed
    finally:
        loop.close()


def test_each_request_may_come_in_a_loop_of_its_own(journal: str) -> None:
    """As with `TestClient(app)` without `with`, and with cells of a notebook that run a loop."""
    app = asgi(tools(), journal=journal)
    for _ in range(3):
        asyncio.run(within(echoes(app)))
        assert app.life.lifecycle.is_over


def test_a_loop_that_ends_around_a_call_leaves_its_end_in_the_journal(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'journal.db'}"
    app = asgi(tools(), journal=url)

    async def begin() -> None:
        async with client_of(app) as client:
            headers = MODERN | {"Mcp-Name": "forever"}
            asking = client.post("/mcp", json=modern_call("forever"), headers=headers)
            calling = asyncio.create_task(asking)
            runs = app.engine.runs
            await until(lambda: any(run.events.state == "working" for run in runs.values()))
            assert not calling.done()
        # `asyncio.run` cancels all that goes on, our own tasks too.

    asyncio.run(within(begin()))

    async def look() -> list[str]:
        async with open_journal(url) as journal:
            return await journal.streams("", unfinished=True)

    left = asyncio.run(look())
    assert [name for name in left if name.startswith(("run/", "process/"))] == []


def _is_watchdog(thread: threading.Thread) -> bool:
    return thread.name == "headway-watchdog"


def _close_without_an_end(loop: asyncio.AbstractEventLoop) -> None:
    for task in asyncio.all_tasks(loop):
        task.__setattr__("_log_destroy_pending", False)  # that is the point
    loop.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("scheme", ["memory:", "sqlite:///"])
def test_a_loop_that_was_closed_without_an_end_is_not_waited_for(
    scheme: str, tmp_path: Path
) -> None:
    url = scheme if scheme == "memory:" else f"{scheme}{tmp_path / 'journal.db'}"
    app, before = asgi(tools(), journal=url), set(threading.enumerate())
    loop = asyncio.new_event_loop()
    run_in(loop, echoes(app))
    first = app.life
    _close_without_an_end(loop)
    asyncio.run(within(echoes(app)))
    assert app.life is not first
    del first, loop, app
    # Its watchdog notices that the loop is closed, and has held it until then.
    wait_until(lambda: not any(_is_watchdog(each) for each in {*threading.enumerate()} - before))
    gc.collect()  # what was left in that loop, here and not in another test


def test_two_loops_at_once_have_a_life_each() -> None:
    """A server in a thread, and a test that calls the same app in its own loop."""
    app = asgi(tools())
    has_begun, may_end = threading.Event(), threading.Event()
    failures: list[BaseException] = []

    async def serve() -> None:
        async with app.lifespan():
            await echoes(app)
            has_begun.set()
            await asyncio.to_thread(may_end.wait, PATIENCE)
            await echoes(app)

    def in_thread() -> None:
        try:
            asyncio.run(within(serve()))
        except BaseException as error:  # noqa: BLE001 - told in the test's own thread
            failures.append(error)
        finally:
            has_begun.set()

    thread = threading.Thread(target=in_thread)
    thread.start()
    assert has_begun.wait(PATIENCE)
    asyncio.run(within(echoes(app)))
    may_end.set()
    thread.join(PATIENCE)
    assert not failures


def test_who_enters_an_app_that_lives_shares_its_life_and_the_last_one_ends_it() -> None:
    started: list[str] = []

    @asynccontextmanager
    async def lifespan(_: MCPServer) -> AsyncGenerator[None]:
        started.append("start")
        yield
        started.append("stop")

    app = asgi(MCPServer("shared", lifespan=lifespan))

    async def enter_twice() -> None:
        first, second = app.lifespan(), app.lifespan()
        await first.__aenter__()
        await second.__aenter__()
        await first.__aexit__(None, None, None)
        assert started == ["start"]
        assert app.life.takes_calls
        await second.__aexit__(None, None, None)
        assert started == ["start", "stop"]

    asyncio.run(within(enter_twice()))


def test_a_journal_that_was_given_as_an_object_is_opened_anew_or_the_start_says_what_to_do() -> (
    None
):
    app = asgi(tools(), journal=memory_journal())
    for _ in range(2):
        asyncio.run(within(echoes(app)))
    once = asgi(tools(), journal=Journal())
    asyncio.run(within(echoes(once)))
    with pytest.raises(
        SetupError, match=r"give headway\.asgi the journal's URL, or make a new app"
    ):
        asyncio.run(within(echoes(once)))


def test_a_start_that_failed_may_be_tried_again() -> None:
    fails = [True, False]

    @asynccontextmanager
    async def lifespan(_: MCPServer) -> AsyncGenerator[None]:
        if fails.pop(0):
            raise RuntimeError("the database is away")
        yield

    app = asgi(MCPServer("fails", lifespan=lifespan))

    async def start() -> None:
        async with app.lifespan():
            assert app.life.takes_calls

    with pytest.raises(RuntimeError, match="the database is away"):
        asyncio.run(within(start()))
    asyncio.run(within(start()))


def test_a_start_that_is_given_up_leaves_nothing_behind() -> None:
    begun, ended = asyncio.Event(), list[str]()

    @asynccontextmanager
    async def lifespan(_: MCPServer) -> AsyncGenerator[None]:
        begun.set()
        try:
            await asyncio.Event().wait()
            yield
        finally:
            ended.append("given up")

    app = asgi(MCPServer("slow", lifespan=lifespan))

    async def give_up() -> None:
        entering = asyncio.create_task(app.lifespan().__aenter__())
        await begun.wait()
        entering.cancel()
        await asyncio.wait([entering])
        assert entering.cancelled()
        assert ended == ["given up"]
        assert app.journal.closed

    asyncio.run(within(give_up()))


def test_counts_go_on_when_the_app_is_started_again() -> None:
    app = asgi(tools(), settings=Settings(metrics="all"))
    for many in (1, 2):
        with TestClient(app, base_url="http://localhost") as client:
            headers = MODERN | {"Mcp-Name": "echo"}
            client.post("/mcp", json=modern_call("echo"), headers=headers)
            page = client.get("/metrics").text
            assert f'headway_calls_total{{end="completed",tool="echo"}} {many}.0' in page
