"""A long task of 1 to 20 steps.

headway call examples/long_task.py:mcp long_task steps=5
"""

import asyncio
from typing import Annotated

from pydantic import Field

from headway import Headway, track

mcp = Headway("long-task")


@mcp.tool()
async def long_task(
    steps: Annotated[int, Field(ge=1, le=20)] = 5, seconds_per_step: float = 1
) -> str:
    """Work for a while, a step at a time."""
    async for _ in track(range(1, steps + 1), message="Step {item}"):
        await asyncio.sleep(seconds_per_step)
    return f"{steps} steps done"
