"""The same three tools on FastMCP 4 and its HTTP app."""

import asyncio
import sys

from fastmcp import Context, FastMCP

from bench.servers.serving import serve

mcp = FastMCP("bench", version="1")


@mcp.tool
async def echo(text: str) -> str:
    """Return the text."""
    return text


@mcp.tool
async def emit(n: int, ctx: Context) -> str:
    """Report progress n times, back to back."""
    for i in range(1, n + 1):
        await ctx.report_progress(i, n)
    return "done"


@mcp.tool
async def paced(n: int, interval: float, ctx: Context) -> str:
    """Report progress n times, once in an interval."""
    for i in range(1, n + 1):
        await asyncio.sleep(interval)
        await ctx.report_progress(i, n)
    return "done"


if __name__ == "__main__":
    serve(mcp.http_app(), int(sys.argv[1]))
