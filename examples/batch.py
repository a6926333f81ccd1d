"""Process a batch: a few API calls at a time, retries, each item's outcome as it comes.

headway call examples/batch.py:mcp check_links --json '{"urls": ["http://127.0.0.1:8000/"]}'
"""

import asyncio

import httpx2

from headway import Headway, part, track

mcp = Headway("batch")

RETRIES = 2


@mcp.tool(timeout="10m")
async def check_links(urls: list[str], concurrency: int = 8) -> dict[str, int]:
    """Fetch every address and say what came back."""
    counts = {"ok": 0, "failed": 0}
    places = asyncio.Semaphore(concurrency)

    async with httpx2.AsyncClient(timeout=10) as client:

        async def check(url: str) -> None:
            async with places:
                outcome = await fetch(client, url)
            counts["failed" if "error" in outcome else "ok"] += 1
            part(outcome)

        checks = asyncio.as_completed([check(url) for url in urls])
        for done in track(checks, total=len(urls), message="Checking"):
            await done
    return counts


async def fetch(client: httpx2.AsyncClient, url: str) -> dict[str, object]:
    """One address, tried again with longer and longer pauses."""
    for attempt in range(RETRIES + 1):
        try:
            response = await client.get(url)
            if response.status_code < 500 or attempt == RETRIES:
                return {"url": url, "status": response.status_code}
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            if attempt == RETRIES or isinstance(error, httpx2.InvalidURL):
                return {"url": url, "error": str(error) or type(error).__name__}
        await asyncio.sleep(0.2 * 2**attempt)
    raise AssertionError("the last attempt returns")
