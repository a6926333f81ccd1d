"""FastMCP's client with `fastmcp-tasks`: `python with_tasks.py URL`; prints what came as JSON."""

import asyncio
import json
import sys
from typing import Any

from fastmcp import Client
from fastmcp_tasks import call_tool_task


async def main(url: str) -> list[Any]:
    """A call that is finished behind the caller's back, and one whose handle he holds."""
    async with Client(url) as client:
        quiet = await client.call_tool("work", {"name": "quiet", "seconds": 1.5})
        task = await call_tool_task(client, "work", {"name": "held", "seconds": 1.5})
        state = await task.status()
        held = await task.result()
        counts = [(await client.call_tool("count", {"name": n})).data for n in ("quiet", "held")]
        return [quiet.content[0].text, state.status, held.content[0].text, counts]


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1]))))
