"""A server that says which process it is."""

import os
from pathlib import Path

import anyio

from headway import Headway, report

mcp = Headway("pids")


async def until_there(place: Path) -> None:
    """Return when there is a file: a test in another process has no other word for it."""
    while not await anyio.Path(place).exists():  # noqa: ASYNC110
        await anyio.sleep(0.01)


@mcp.tool()
async def pid() -> str:
    """The id of the process that answers."""
    return str(os.getpid())


@mcp.tool()
async def wait(place: str) -> str:
    """Return when there is a file at `place`."""
    report(1, 2)
    await until_there(Path(place))
    return "done"


@mcp.tool(restart=True)
async def steady(place: str) -> str:
    """As `wait`, for any process: says which one it is."""
    report(1, 2, str(os.getpid()))
    await until_there(Path(place))
    return str(os.getpid())
