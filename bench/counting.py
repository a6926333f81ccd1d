"""How many functions a call of an unchanged server calls: a figure that no other process disturbs.

Counted are the calls of functions written in Python and of those that are not, without an HTTP
server. `echo` ends in its first step, and `pause` waits for a turn of the event loop.
"""

import asyncio
import sys
from typing import Literal

from bench.by_hand import ByHand
from bench.servers.fixture import mcp
from bench.wire import Era
from headway.server import asgi
from headway.settings import Settings

WARM_UP, COUNTED = 50, 200


Tool = Literal["echo", "pause"]


def calls_of_one(era: Era, tool: Tool = "echo") -> float:
    """Return how many functions are called for one call of a tool."""
    return asyncio.run(_count(era, tool))


async def _count(era: Era, tool: Tool) -> float:
    app = asgi(mcp, settings=Settings(progress_rate=0))
    async with app.lifespan():
        client = ByHand(app, era)
        await client.shake_hands()
        for _ in range(WARM_UP):
            await client.call(tool, {"text": "x"})
        counted = 0

        def count(_frame: object, event: str, _argument: object) -> None:
            nonlocal counted
            counted += event in ("call", "c_call")

        sys.setprofile(count)
        try:
            for _ in range(COUNTED):
                await client.call(tool, {"text": "x"})
        finally:
            sys.setprofile(None)
        return counted / COUNTED
