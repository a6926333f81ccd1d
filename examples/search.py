"""Search many sources at once: each source's hits as soon as it has them, whatever the others do.

headway call examples/search.py:mcp search query=headway
"""

import asyncio
from collections.abc import Awaitable, Callable

from headway import Headway, log, part, track

mcp = Headway("search")

DEADLINE = 2.0
"""Seconds for all sources together."""


async def documents(query: str) -> list[str]:
    """A fast source."""
    await asyncio.sleep(0.1)
    return [f"notes on {query}", f"{query}, a history"]


async def archive(query: str) -> list[str]:
    """A slow source."""
    await asyncio.sleep(0.5)
    return [f"{query} in the archive"]


async def broken(query: str) -> list[str]:
    """A source that fails."""
    raise ConnectionError(f"nobody answers for {query!r}")


SOURCES: dict[str, Callable[[str], Awaitable[list[str]]]] = {
    "documents": documents,
    "archive": archive,
    "broken": broken,
}


@mcp.tool(timeout=60)
async def search(query: str, deadline: float = DEADLINE) -> dict[str, list[str]]:
    """Search all sources; whoever has not answered at the deadline is left out."""
    found: dict[str, list[str]] = {}

    async def ask(source: str) -> None:
        try:
            async with asyncio.timeout(deadline):
                found[source] = await SOURCES[source](query)
        except (TimeoutError, OSError) as error:
            log(f"{source}: {error or 'no answer in time'}", "warning")
        else:
            part({"source": source, "hits": found[source]})

    asking = asyncio.as_completed([ask(source) for source in SOURCES])
    for answer in track(asking, total=len(SOURCES), message="Searching"):
        await answer
    return found
