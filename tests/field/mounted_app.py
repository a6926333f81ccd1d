"""A FastAPI app with two Headway apps: one starts with it, the other with its first request.

`HEADWAY_TEST_GO` names a file for which the tool `work` waits.
"""

import asyncio
import os
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI

import headway
from headway import Headway, Settings, report

GO = Path(os.environ["HEADWAY_TEST_GO"])
SETTINGS = Settings(grace=float(os.environ.get("HEADWAY_TEST_GRACE", "8")))

mcp = Headway("mounted")


@mcp.tool()
def work() -> str:
    """Wait until the test says that it may end."""
    report(1, 2, "half")
    while not GO.exists():
        time.sleep(0.02)
    return "done"


@mcp.tool()
async def never() -> str:
    """Take longer than any server waits."""
    report(1, 2, "half")
    await asyncio.Event().wait()
    return "never"


tools = headway.asgi(mcp, settings=SETTINGS)
more = headway.asgi(mcp, journal=f"sqlite:///{GO.parent / 'more.db'}", settings=SETTINGS)


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
    """Start and stop one of them together with the app."""
    async with tools.lifespan():
        yield


app = FastAPI(lifespan=lifespan)
app.mount("/tools", tools)
app.mount("/more", more)
