"""The server of the tests about calls that outlast what is in between."""

import asyncio
from pathlib import Path

from headway.api import Headway, checkpoint, last_checkpoint, part, report

mcp = Headway("lasting")


def _leave_mark(marks: str) -> None:
    with Path(marks).open("a") as file:
        file.write("called\n")


@mcp.tool()
async def steps(number: int, marks: str) -> list[int]:
    """Take some steps, each with a part, and leave a mark for the call."""
    _leave_mark(marks)
    for step in range(1, number + 1):
        await asyncio.sleep(0.02)
        report(step, number, f"Step {step}")
        part({"step": step})
    return list(range(1, number + 1))


@mcp.tool(hand_over="never")
async def no_task(number: int, marks: str) -> list[int]:
    """Take some steps, as a call that cannot become a task."""
    return await steps(number, marks)


@mcp.tool(hand_over="at once", needs_task=True)
async def as_task(number: int, marks: str) -> list[int]:
    """Take some steps, as a call that has to be a task."""
    return await steps(number, marks)


@mcp.tool(restart=True)
async def begun_anew() -> str:
    """Wait for ever in the first process; go on in the next one."""
    if last_checkpoint() is None:
        checkpoint("half")
        part("first half")
        report(1, 2, "Waiting for the end of this process")
        await asyncio.get_running_loop().create_future()
    part("second half")
    return "whole"


@mcp.tool()
async def forgotten() -> str:
    """Wait for ever."""
    report(1, 2, "Waiting for the end of this process")
    await asyncio.get_running_loop().create_future()
    return "never"


@mcp.tool()
async def until(go: str, mark: str) -> str:
    """Wait until there is a file `go`; leave a file `mark` when cancelled before."""
    part("waiting")
    report(1, 2, "Waiting for a file")
    try:
        while not await asyncio.to_thread(Path(go).exists):  # noqa: ASYNC110 - a file has no event
            await asyncio.sleep(0.02)
    except asyncio.CancelledError:
        _leave_mark(mark)
        raise
    return "gone"
