"""A server whose first process never comes past the middle of its work."""

import time
from pathlib import Path

from headway import Headway, part, track

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


mcp.add_tool(work, name="may_restart", restart=True, rate=0)
mcp.add_tool(work, name="fragile", rate=0)
