"""Tools of every kind, to be executed by workers."""

import asyncio
import os
from pathlib import Path
from typing import Any

from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from tests.kit.tools import Name

from headway import Headway, attempt, earlier_parts, log, part, track

mcp = Headway("works")


def write(place: str, name: str, text: str = "x") -> None:
    with Path(place, name).open("a") as file:
        file.write(text)


async def released(place: str) -> None:
    """Wait until the test lets it go on."""
    go = Path(place, "go")
    while not go.exists():  # noqa: ASYNC110, ASYNC240 - the test's file is the event
        await asyncio.sleep(0.02)


@mcp.tool(where="worker", rate=0)
async def count(upto: int) -> dict[str, int]:
    """Says one of each kind for each number."""
    async for number in track(range(upto), message="Number {item}"):
        part(number)
        log(f"at {number}")
    return {"pid": os.getpid(), "upto": upto}


@mcp.tool(where="worker")
def fail(why: str) -> str:
    raise ToolError(why)


@mcp.tool(where="worker")
async def ask(ctx: Context[Any, Any]) -> str:
    answer = await ctx.elicit("Who are you?", Name)
    return f"{answer.action} {getattr(getattr(answer, 'data', None), 'name', '-')}"


@mcp.tool(where="worker")
async def whoami(ctx: Context[Any, Any]) -> dict[str, Any]:
    token = get_access_token()
    params = ctx.session.client_params
    return {
        "client": params.client_info.name if params is not None else None,
        "version": ctx.session.protocol_version,
        "meta": dict(ctx.request_context.meta or {}),
        "access": None if token is None else token.model_dump(mode="json"),
    }


@mcp.tool(where="worker")
async def sleep(place: str) -> str:
    """Sleeps, and says what becomes of it."""
    write(place, "begun")
    try:
        await asyncio.sleep(600)
    except asyncio.CancelledError:
        write(place, "stopped")
        raise
    return "slept"


@mcp.tool(where="worker", timeout="500ms")
async def too_long() -> str:
    await asyncio.sleep(600)
    return "slept"


@mcp.tool(where="worker", queue="slow")
async def in_slow(value: int) -> int:
    return value


@mcp.tool(where="worker", restart=True, rate=0)
async def items(place: str) -> dict[str, Any]:
    """Ten items; the first attempt waits at the sixth until somebody lets it go on."""
    write(place, "attempts")
    async for item in track([str(n) for n in range(10)], checkpoint=True):
        if item == "5" and attempt() == 1:
            write(place, "stuck")
            await released(place)
        write(place, "done", item)
        part(item)
    return {"attempt": attempt(), "earlier": earlier_parts(), "pid": os.getpid()}


@mcp.tool(where="worker", rate=0)
async def once(place: str) -> str:
    """Must not be done twice; waits until somebody lets it go on."""
    write(place, "attempts", f"{os.getpid()}\n")
    await released(place)
    write(place, "finished")
    return "done once"


@mcp.tool()
async def here() -> int:
    return os.getpid()
