"""A FastMCP server that knows nothing of Headway: `headway run` serves it as it is.

headway run examples/unchanged_fastmcp.py:mcp
"""

import asyncio

from fastmcp import Context, FastMCP

mcp = FastMCP("fastmcp")


@mcp.tool
async def countdown(ctx: Context, start: int = 5) -> str:
    """Count down to zero."""
    for number in range(start):
        await ctx.report_progress(number, start, f"{start - number} to go")
        await asyncio.sleep(0.1)
    return "Lift-off"
