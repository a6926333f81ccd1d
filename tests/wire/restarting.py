"""A server whose first process never comes past the middle of its work."""

import asyncio
import time
from pathlib import Path

from headway import (
    Headway,
    attempt,
    checkpoint,
    earlier_parts,
    last_checkpoint,
    part,
    track,
)

mcp = Headway("restarting")


def work(place: str) -> str:
    """Ten steps; the first attempt stops at the sixth and waits for its end."""
    attempts = Path(place, "attempts")
    with attempts.open("a") as file:
        file.write("x")
    is_first = attempts.stat().st_size == 1
    for step in track(range(10), message="Step {item}"):
        part(step)
        if is_first and step == 5:
            Path(place, "stuck").touch()
            time.sleep(600)
    return "migrated"


def write(place: str, name: str, text: str) -> None:
    with Path(place, name).open("a") as file:
        file.write(text)


async def migrate(place: str) -> dict[str, object]:
    """Ten tables of two pages each; the first attempt hangs in the second page of the sixth."""
    write(place, "attempts", "x")
    moved = last_checkpoint(0)
    async for table in track([f"t{number}" for number in range(10)], checkpoint=True):
        for page in track(range(2), checkpoint=True):
            if attempt() == 1 and (table, page) == ("t5", 1):
                write(place, "stuck", "")
                await asyncio.sleep(600)
            write(place, "done", f"{table}.{page}\n")
            part(f"{table}.{page}")
            moved += 1
            await checkpoint(moved)
    return {"moved": moved, "attempt": attempt(), "parts": earlier_parts()}


mcp.add_tool(migrate, name="migrate", restart=True, rate=0)
mcp.add_tool(work, name="may_restart", restart=True, rate=0)
mcp.add_tool(work, name="fragile", rate=0)
