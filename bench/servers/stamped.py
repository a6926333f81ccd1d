"""A tool whose events say when they were made, on an unchanged `MCPServer`."""

import asyncio
import time

from mcp.server.mcpserver import Context, MCPServer

mcp = MCPServer("stamped", version="1")


@mcp.tool()
async def tick(n: int, interval: float, ctx: Context) -> str:
    """Report n times, once in an interval; the message is the time, which all processes share."""
    begin = time.monotonic()
    for step in range(1, n + 1):
        await asyncio.sleep(max(begin + step * interval - time.monotonic(), 0))
        await ctx.report_progress(step, n, f"at {time.monotonic():.6f}")
    return "done"


@mcp.tool()
async def echo(text: str) -> str:
    """Return the text."""
    return text
