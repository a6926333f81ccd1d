"""One server object, for every way in which it may be served."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

from mcp.server.mcpserver import Context
from pydantic import BaseModel

from headway import Headway, log, part, report, track

place: ContextVar[str] = ContextVar("place", default="unset")
logger = logging.getLogger("one_object")


class Name(BaseModel):
    """What the tool `ask` wants to know."""

    name: str


@asynccontextmanager
async def lifespan(_server: Any) -> AsyncGenerator[dict[str, str]]:
    """Set a context variable, and give tools something to hold."""
    place.set("lifespan")
    yield {"db": "open"}


mcp = Headway("one", lifespan=lifespan)


@mcp.tool(rate=0)
async def here(ctx: Context[Any, Any]) -> dict[str, str]:
    """Tell what an async tool sees of its lifespan."""
    logger.info("here")
    return {"place": place.get(), "db": ctx.request_context.lifespan_context["db"]}


@mcp.tool(rate=0)
def in_thread() -> dict[str, str]:
    """Tell what a sync tool sees, from a loop of its own inside of the server's."""

    async def nested() -> str:
        await asyncio.sleep(0)
        return place.get()

    return {"place": asyncio.run(nested()), "db": "open"}


@mcp.tool(rate=0)
async def talk(ctx: Context[Any, Any]) -> str:
    """Say something in each way there is."""
    for step in track(range(2), message="step {item}"):
        part({"step": step})
    await ctx.report_progress(3, 4)
    report(4, 4, "all")
    log("said")
    return "done"


@mcp.tool(timeout="50ms")
async def hang() -> str:
    """Take longer than it may."""
    await asyncio.Event().wait()
    return "never"


@mcp.tool()
async def ask(ctx: Context[Any, Any]) -> str:
    """Ask the client for a name."""
    answer = await ctx.elicit("Who?", Name)
    return answer.data.name if answer.action == "accept" else answer.action


@mcp.resource("place://here")
def resource() -> str:
    """Tell what a resource sees."""
    return place.get()


@mcp.prompt()
def prompt() -> str:
    """Tell what a prompt sees."""
    return place.get()
