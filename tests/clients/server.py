"""The server that real clients are tried against; it counts what it did."""

import asyncio
from collections import Counter
from typing import Annotated, Any

from mcp.server.mcpserver import Context, Elicit, ElicitationResult, Resolve
from mcp_types import TextContent
from pydantic import BaseModel

from headway import Headway, log, part, track

mcp = Headway("clients")
began: Counter[str] = Counter()
stopped: Counter[str] = Counter()


@mcp.tool()
async def quick(text: str) -> str:
    """Give the text back."""
    return f"you said {text}"


@mcp.tool()
async def work(name: str, seconds: float, steps: int = 10) -> str:
    """Take that long, in steps; `name` is for asking about it later."""
    began[name] += 1
    log(f"{name} begins", "warning")
    try:
        async for step in track(range(steps), message="Step {item}"):
            part({"step": step})
            await asyncio.sleep(seconds / steps)
    except asyncio.CancelledError:
        stopped[name] += 1
        raise
    return f"{name} is done"


@mcp.tool()
async def count(name: str) -> dict[str, int]:
    """How often this work began and was stopped."""
    return {"began": began[name], "stopped": stopped[name]}


@mcp.tool()
async def fail() -> list[TextContent]:
    """Fail on purpose."""
    raise LookupError("no such table")


class Name(BaseModel):
    name: str


async def ask_name() -> Elicit[Name]:
    return Elicit("Who are you?", Name)


@mcp.tool()
async def greet(answer: Annotated[ElicitationResult[Name], Resolve(ask_name)]) -> str:
    """Ask for a name."""
    return f"hello {answer.data.name}" if answer.action == "accept" else answer.action


@mcp.tool()
async def grow(name: str, ctx: Context[Any, Any]) -> str:
    """Add a tool."""

    async def grown() -> str:
        return name

    mcp.add_tool(grown, name=name)
    await ctx.notify_tools_changed()
    return "grown"
