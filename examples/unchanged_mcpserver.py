"""A server of the official SDK that knows nothing of Headway: `headway run` serves it as it is.

headway run examples/unchanged_mcpserver.py:mcp
"""

import asyncio
from typing import Any

from mcp.server import MCPServer
from mcp.server.mcpserver import Context

mcp = MCPServer("official")


@mcp.tool()
async def countdown(ctx: Context[Any, Any], start: int = 5) -> str:
    """Count down to zero."""
    for number in range(start):
        await ctx.report_progress(number, start, f"{start - number} to go")
        await asyncio.sleep(0.1)
    return "Lift-off"
