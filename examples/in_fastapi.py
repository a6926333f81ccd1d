"""Tools beside the routes of a FastAPI app.

    uvicorn examples.in_fastapi:app

`http://127.0.0.1:8000/status` is the app's own; the tools are at `http://127.0.0.1:8000/tools/mcp`.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI

import headway
from headway import Headway, track

mcp = Headway("tools")


@mcp.tool()
def count_words(texts: list[str]) -> int:
    """Count the words of many texts."""
    return sum(len(text.split()) for text in track(texts, message="Counting"))


tools = headway.asgi(mcp, journal="memory:")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    """Start and stop the tools together with the app."""
    async with tools.lifespan():
        yield


app = FastAPI(lifespan=lifespan)
app.mount("/tools", tools)


@app.get("/status")
def status() -> dict[str, str]:
    """The app's own route."""
    return {"status": "ok"}
