"""The server that is fuzzed: a little of everything, with limits so short that they are reached.

`python -m tests.fuzz.target` serves it on a free port, prints its origin, and answers
`GET /figures` with what the process holds. The same server is on a pipe with
`PYTHONPATH=. headway run tests/fuzz/target.py:mcp --stdio`.
"""

import asyncio
import ctypes
import gc
import json
import logging
import sys
from dataclasses import dataclass, fields
from typing import Any

import psutil
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.shared.exceptions import MCPError
from pydantic import BaseModel
from tests.kit.sabotage import sabotage

from headway import Headway, Settings, asgi, log, part, report, track
from headway.cli.server.http_server import Receive, Scope, Send, serve_until_stopped
from headway.cli.server.listener import bind
from headway.journal import journal as journals
from headway.journal import open_journal
from headway.server import HeadwayApp
from headway.settings import Retention

mcp = Headway("fuzzed")


class Reply(BaseModel):
    """What `ask` wants to know."""

    text: str


@mcp.tool()
async def add(a: int, b: int) -> int:
    return a + b


@mcp.tool()
async def echo(value: Any) -> dict[str, Any]:
    return {"value": value}


@mcp.tool()
async def say(text: str, times: int = 3) -> str:
    for step in track(range(max(0, min(times, 20)))):
        report(step, times, text)
        log(text, logger=text)
        part({text: step})
    return text


@mcp.tool()
def count(to: float) -> float:
    report(to / 2, to, "half")
    return to


@mcp.tool()
async def fail(text: str) -> str:
    raise ToolError(text)


mcp.add_tool(sabotage)


@mcp.tool(timeout="1s")
async def ask(ctx: Context[Any, Any], question: str) -> str:
    try:
        answer = await ctx.elicit(question, Reply)
    except (MCPError, ValueError) as error:  # whatever the client makes of the question
        raise ToolError("no good answer") from error
    return answer.action


@mcp.tool()
async def shout(times: int, size: int) -> str:
    """Say far more than a connection takes."""
    for number in range(times):
        log(f"{number} {'x' * size}")
        if number % 100 == 0:
            await asyncio.sleep(0)
    return "y" * size


@mcp.tool()
async def hold() -> str:
    report(1, 2, "holding")
    await asyncio.Event().wait()
    return "never"


@mcp.tool(hand_over="at once")
async def later(seconds: float = 0.05) -> str:
    report(1, 3, "soon")
    await asyncio.sleep(max(0.0, min(seconds, 0.2)))
    return "done"


@mcp.resource("fuzz://one")
def one() -> str:
    return "one"


@mcp.resource("fuzz://many/{name}")
def many(name: str) -> str:
    return name


@mcp.prompt()
def greet(name: str) -> str:
    return f"Greet {name}"


# The process


@dataclass(frozen=True)
class Figures:
    """What a server holds at a moment."""

    sessions: int
    runs: int
    answers: int
    streams: int
    tasks: int
    fds: int
    rss: int

    @classmethod
    def of(cls, app: HeadwayApp) -> "Figures":
        gc.collect()
        if sys.platform == "linux":
            ctypes.CDLL(None).malloc_trim(0)  # free memory that the allocator keeps is no growth
        process = psutil.Process()
        return cls(
            sessions=len(app.life.sessions),
            runs=len(app.engine.runs),
            answers=len(app.transport.responses),
            streams=len(app.journal._buffers),
            tasks=len(asyncio.all_tasks()),
            fds=process.num_fds(),
            rss=process.memory_info().rss,
        )

    def __str__(self) -> str:
        said = [f"{field.name} {getattr(self, field.name)}" for field in fields(self)[:-1]]
        return f"{', '.join(said)}, {self.rss / 2**20:.0f} MiB"


class WithFigures:
    """The app, and a page that says what it holds."""

    def __init__(self, app: HeadwayApp) -> None:
        self._app = app
        self.drain = app.drain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != "/figures":
            await self._app(scope, receive, send)
            return
        body = json.dumps(vars(Figures.of(self._app))).encode()
        length = (b"content-length", b"%d" % len(body))
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await send({"type": "http.response.body", "body": body})


def main() -> None:
    """Serve until a signal; arguments are settings, as `session_ttl=2`."""
    chosen: dict[str, Any] = {
        "commit_after": 0.05,
        "timeout": 30.0,
        "session_ttl": 3.0,
        "max_body": 2**20,
        "max_sessions": 5000,
    }
    for argument in sys.argv[1:]:
        name, _, value = argument.partition("=")
        chosen[name] = type(getattr(Settings(), name))(value)
    logging.basicConfig(level=logging.WARNING, force=True)
    # Ended runs are what the memory of a journal is for; here they go soon, to tell it from growth.
    journals.SWEEP_INTERVAL = 0.5
    journal = open_journal("memory:", retention=Retention(ttl=1.0, failed=1.0))
    settings = Settings(**chosen)
    app = asgi(mcp, journal=journal, settings=settings)
    listener = bind("127.0.0.1", 0)
    serve_until_stopped(
        WithFigures(app),
        listener,
        announce=lambda _: sys.stdout.write(f"{listener.origin}\n") and sys.stdout.flush(),
        settings=settings,
        grace=1.0,
    )


if __name__ == "__main__":
    main()
