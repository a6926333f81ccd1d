"""The tools that every server offers, on the SDK's `MCPServer`; `pause` is only counted."""

import asyncio

from mcp.server.mcpserver import Context, MCPServer

mcp = MCPServer("bench", version="1")


@mcp.tool()
async def echo(text: str) -> str:
    """Return the text."""
    return text


@mcp.tool()
async def pause(text: str) -> str:
    """Return the text after a turn of the event loop."""
    await asyncio.sleep(0)
    return text


@mcp.tool()
async def emit(n: int, ctx: Context) -> str:
    """Report progress n times, back to back."""
    for i in range(1, n + 1):
        await ctx.report_progress(i, n)
    return "done"


@mcp.tool()
async def paced(n: int, interval: float, ctx: Context) -> str:
    """Report progress n times, once in an interval."""
    for i in range(1, n + 1):
        await asyncio.sleep(interval)
        await ctx.report_progress(i, n)
    return "done"
