"""One server object, served in every way: its tools see and say the same in each of them."""

import asyncio
import logging
import os
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from mcp.shared.exceptions import MCPError
from mcp_types import ElicitResult
from starlette.applications import Starlette
from starlette.routing import Mount
from tests.field import one_object
from tests.kit.stdio import ROOT
from tests.kit.waits import until, within

from headway import Settings, asgi
from headway.cli.server.http_server import serving
from headway.testing import run_tool
from headway.worker_app import Worker

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]

SETTINGS = Settings(progress_rate=0)

Server = Any
"""What the official client connects to."""


class Host(Starlette):
    async def drain(self) -> None:
        """What `serving` wants."""


@asynccontextmanager
async def over_http(_request: Any) -> AsyncGenerator[Server]:
    async with serving(asgi(one_object.mcp, settings=SETTINGS)) as origin:
        yield f"{origin}/mcp"


@asynccontextmanager
async def mounted(_request: Any) -> AsyncGenerator[Server]:
    app = asgi(one_object.mcp, settings=SETTINGS)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        async with app.lifespan():
            yield

    host = Host(routes=[Mount("/tools", app=app)], lifespan=lifespan)
    async with serving(host) as origin:
        yield f"{origin}/tools/mcp"


@asynccontextmanager
async def mounted_alone(_request: Any) -> AsyncGenerator[Server]:
    app = asgi(one_object.mcp, settings=SETTINGS)
    async with serving(Host(routes=[Mount("/tools", app=app)])) as origin:
        yield f"{origin}/tools/mcp"
        await app.aclose()


@asynccontextmanager
async def in_memory(_request: Any) -> AsyncGenerator[Server]:
    yield one_object.mcp


@asynccontextmanager
async def over_stdio(_request: Any) -> AsyncGenerator[Server]:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    target = str(Path(one_object.__file__))
    arguments = ["-m", "headway", "run", f"{target}:mcp", "--stdio"]
    yield StdioServerParameters(command=sys.executable, args=arguments, env=env)


@asynccontextmanager
async def in_a_worker(request: Any) -> AsyncGenerator[Server]:
    new_redis_url: Callable[[], str] = request.getfixturevalue("new_redis_url")
    url, settings = new_redis_url(), replace(SETTINGS, where="worker")
    async with AsyncExitStack() as stack:
        worker = Worker(one_object.mcp, journal=url, settings=settings, queues=None, concurrency=5)
        await stack.enter_async_context(worker.running())
        app = asgi(one_object.mcp, journal=url, settings=settings)
        yield f"{await stack.enter_async_context(serving(app))}/mcp"


WAYS = {
    way.__name__: way
    for way in (over_http, mounted, mounted_alone, in_memory, over_stdio, in_a_worker)
}


@pytest.fixture(params=WAYS)
async def server(request: pytest.FixtureRequest) -> AsyncGenerator[Server]:
    async with WAYS[request.param](request) as server:
        yield server


class Heard:
    """What a client hears, in order, but for what a queue says of itself."""

    def __init__(self) -> None:
        self.said: list[Any] = []

    async def progress(self, progress: float, total: float | None, message: str | None) -> None:
        if progress:  # the first one is at 0, or says that a worker is waited for
            self.said.append((round(progress, 6), total))

    async def log(self, params: Any) -> None:
        self.said.append(params.data)

    async def answer(self, context: Any, params: Any) -> ElicitResult:
        return ElicitResult(action="accept", content={"name": "Ada"})


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_it_sees_and_says_the_same_however_it_is_served(server: Server, mode: str) -> None:
    heard = Heard()
    async with Client(
        server,
        mode=mode,
        log_level="info",
        logging_callback=heard.log,
        elicitation_callback=heard.answer,
    ) as client:
        for tool in ("here", "in_thread"):
            result = await within(client.call_tool(tool, {}))
            assert result.structured_content == {"place": "lifespan", "db": "open"}
        read: Any = await within(client.read_resource("place://here"))
        assert read.contents[0].text == "lifespan"
        said: Any = await within(client.get_prompt("prompt"))
        assert said.messages[0].content.text == "lifespan"
        await within(client.call_tool("talk", {}, progress_callback=heard.progress))
        await until(lambda: "said" in heard.said)
        parts = [said for said in heard.said if isinstance(said, dict)]
        assert parts == [{"step": 0}, {"step": 1}]
        values = [said for said in heard.said if isinstance(said, tuple)]
        assert values == sorted(set(values))
        assert values[-1] == (6, 6)  # a track of two, and four behind it
        with pytest.raises(MCPError, match=r"hang did not finish within its limit of 0\.05 s"):
            await within(client.call_tool("hang", {}))
        if mode == "legacy":
            asked: Any = await within(client.call_tool("ask", {}))
            assert asked.content[0].text == "Ada"


async def test_in_a_test_of_its_author_it_sees_the_same() -> None:
    outcome = await run_tool(one_object.mcp, "here")
    assert outcome.structured == {"place": "lifespan", "db": "open"}


async def test_logging_that_the_author_set_up_stays_as_it_is() -> None:
    """An app, a `run` and a client in memory have no business with it."""
    root = logging.getLogger()
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.handle = lambda record: records.append(record) is None
    one_object.logger.addHandler(handler)
    one_object.logger.setLevel(logging.INFO)
    before = (root.level, list(root.handlers))
    try:
        for way in (over_http, mounted, in_memory):
            async with way(None) as server, Client(server) as client:
                await within(client.call_tool("here", {}))
        running = asyncio.create_task(one_object.mcp.run_streamable_http_async(port=0))
        await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait([running])
    finally:
        one_object.logger.removeHandler(handler)
    assert (root.level, root.handlers) == before
    assert [record.getMessage() for record in records] == ["here"] * 3
