"""How many functions a call of an unchanged server calls: a figure that no other process disturbs.

    python -m bench.counting

Counted are the calls of functions written in Python and of those that are not, without an HTTP
server. `echo` ends in its first step, and `pause` waits for a turn of the event loop. Besides, the
path of a call that reports progress once: the files of `src/headway` that it passes, and how often
it crosses from one to another.
"""

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from types import FrameType
from typing import Literal, NamedTuple

import headway
from bench.by_hand import ByHand
from bench.servers.fixture import mcp
from bench.wire import ERAS, Era
from headway.server import asgi
from headway.settings import Settings

WARM_UP, COUNTED = 50, 200

TOOLS = ("echo", "pause")

Tool = Literal["echo", "pause"]


def calls_of_one(era: Era, tool: Tool = "echo") -> float:
    """Return how many functions are called for one call of a tool."""
    return asyncio.run(_count(era, tool))


class CallPath(NamedTuple):
    """The way of a call through the files of `src/headway`."""

    files: int
    crossings: int
    """Calls of functions from one file to another; what lies between, of a library, is left out."""


def path_of_one(era: Era) -> CallPath:
    """Return the path of a call that reports progress once, to a client that has sent a token."""
    return asyncio.run(_follow(era))


@asynccontextmanager
async def _client(era: Era) -> AsyncGenerator[ByHand]:
    app = asgi(mcp, settings=Settings(progress_rate=0))
    async with app.lifespan():
        client = ByHand(app, era)
        await client.shake_hands()
        yield client


async def _count(era: Era, tool: Tool) -> float:
    async with _client(era) as client:
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


async def _follow(era: Era) -> CallPath:
    files, crossings = set[str](), 0

    def follow(frame: FrameType, event: str, _argument: object) -> None:
        nonlocal crossings
        file = frame.f_code.co_filename
        if event == "call" and file.startswith(_OURS):
            files.add(file)
            caller = _caller_of(frame)
            crossings += caller is not None and caller != file

    async with _client(era) as client:
        await client.call("emit", {"n": 1}, token="t")
        sys.setprofile(follow)
        try:
            await client.call("emit", {"n": 1}, token="t")
        finally:
            sys.setprofile(None)
    return CallPath(len(files), crossings)


_OURS = str(Path(headway.__file__).parent)


def _caller_of(frame: FrameType) -> str | None:
    """Return the file of ours that is nearest before a call."""
    before = frame.f_back
    while before is not None and not before.f_code.co_filename.startswith(_OURS):
        before = before.f_back
    return None if before is None else before.f_code.co_filename


def main() -> None:
    """Print all of it."""
    for era in ERAS:
        for tool in TOOLS:
            print(f"{era}: a call of {tool} calls {calls_of_one(era, tool):.0f} functions")
        path = path_of_one(era)
        print(f"{era}: one that reports progress passes {path.files} files", end=", ")
        print(f"and crosses {path.crossings} times from one to another")


if __name__ == "__main__":
    main()
