"""The server that the tests of the command line run."""

import asyncio
import sys
import threading
from pathlib import Path
from typing import Annotated, Any

from mcp.server.mcpserver import Context, Elicit, ElicitationResult, Resolve
from pydantic import BaseModel, Field

from headway.api import Headway, log, part, report

mcp = Headway("example")
marks: dict[str, asyncio.Event] = {}


@mcp.tool()
async def count(
    steps: Annotated[int, Field(description="How far to count")] = 3, note: str | None = None
) -> str:
    """Count, and tell.

    A second paragraph.
    """
    for step in range(1, steps + 1):
        report(step, steps, f"Step {step}")
    log({"note": note}, "warning")
    part({"file": "a.txt"})
    return f"counted to {steps}"


@mcp.tool()
async def types(text: str, number: float, flag: bool, items: list[int]) -> dict[str, object]:
    """Give back what came."""
    return {"text": text, "number": number, "flag": flag, "items": items}


@mcp.tool()
async def fail() -> str:
    """Fail on purpose."""
    raise ValueError("it broke")


@mcp.tool()
async def broken() -> str:
    """Fail in the middle."""
    report(3, 8, "Row 3")
    raise ValueError("it broke")


@mcp.tool()
async def chatty() -> str:
    """Say much at once."""
    report(1, 2, "word " * 100)
    return "said"


@mcp.tool()
async def rows(number: int, texts: bool = False) -> list[Any]:
    """Give back some rows."""
    return [f"row {n}" if texts else {"row": n} for n in range(number)]


@mcp.tool()
async def umlauts() -> str:
    """Say what not every terminal can write."""
    report(1, 2, "Prüfe ✓ データ")
    part({"größe": "…"})
    return "größer ✓"


@mcp.tool()
async def key(ctx: Context[Any, Any]) -> str:
    """Give back the key that this call came with."""
    return str((ctx.request_context.meta or {}).get("headway/idempotency-key"))


naps: list[float] = []


@mcp.tool()
async def nap(seconds: float) -> str:
    """Take some time."""
    naps.append(seconds)
    await asyncio.sleep(seconds)
    return "rested"


@mcp.tool(name="naps")
async def count_naps() -> str:
    """How many there were."""
    return str(len(naps))


@mcp.tool()
async def noisy() -> str:
    """Print to stdout."""
    sys.stdout.write("from the tool itself\n")
    return "quiet"


@mcp.tool()
async def wait(mark: str) -> str:
    """Wait for ever, and leave `mark` when cancelled."""
    event = marks.setdefault(mark, asyncio.Event())
    try:
        report(1, None, "waiting")
        await asyncio.get_running_loop().create_future()
    finally:
        event.set()
    return "never"


@mcp.tool(restart=True)
async def again(secret: str) -> str:
    """Be one that another process may go on with."""
    return f"{len(secret)} characters"


@mcp.tool()
async def steps(gate: str) -> str:
    """Take one step, and another one when somebody has written into a named pipe."""
    report(1, 2, "first")
    log("one")
    await asyncio.to_thread(Path(gate).read_text)
    report(2, 2, "second")
    log("two")
    return "all of it"


@mcp.tool()
async def much() -> str:
    """Give more than an answer may have."""
    return "x" * 50_000


@mcp.tool()
async def was_cancelled(mark: str) -> str:
    """Wait until a `wait` has left `mark`."""
    if mark not in marks:
        return "never begun"
    await marks.setdefault(mark, asyncio.Event()).wait()
    return "yes"


@mcp.tool()
def stuck() -> str:
    """Hang in a thread, where nothing can interrupt it."""
    report(1, None, "stuck")
    threading.Event().wait()
    return "never"


@mcp.tool()
async def read(fifo: str) -> str:
    """Give what somebody writes into a named pipe, when they do."""
    report(1, None, "reading")
    return await asyncio.to_thread(Path(fifo).read_text)


class Answer(BaseModel):
    """What `ask` asks for."""

    colour: str
    sure: bool = True


def which_colour() -> Elicit[Answer]:
    return Elicit("Which colour?", Answer)


@mcp.tool()
async def ask(answer: Annotated[ElicitationResult[Answer], Resolve(which_colour)]) -> str:
    """Ask the person who calls."""
    return f"{answer.action} {answer.data.colour if answer.action == 'accept' else ''}".strip()


if __name__ == "__main__":
    raise SystemExit("this does not run under headway run")
