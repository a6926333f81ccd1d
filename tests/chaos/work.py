"""The server of the soak: tools that note what they do, and one that says what is held."""

import asyncio
import ctypes
import gc
import os
import sys
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Literal

from tests.chaos.ledger import KNOWN, WORKERS, Pen
from tests.kit.known import known_server
from tests.kit.sabotage import sabotage

from headway import Headway, checkpoint, last_checkpoint, part, report, track

mcp = known_server("chaos") if os.environ.get(KNOWN) else Headway("chaos")

ALL_OBJECTS = "objects.all"
"""The name in a census for what the garbage collector knows, of whatever class."""

BLOCKS = "objects.blocks"
"""The name for what Python has allocated, texts and numbers included."""


async def plain(job: str, steps: int, pause: float) -> str:
    """Steps, each noted, reported and given out."""
    with closing(Pen(job)) as pen:
        for number in range(1, steps + 1):
            pen.note("step", number)
            report(number, steps, f"{number} of {steps}")
            part(f"step {pen.nonce} {number}")
            await asyncio.sleep(pause)
        return pen.done()


def threaded(job: str, steps: int, pause: float) -> str:
    """The same in a thread."""
    with closing(Pen(job)) as pen:
        for number in range(1, steps + 1):
            pen.note("step", number)
            part(f"step {pen.nonce} {number}")
            report(number, steps)
            time.sleep(pause)
        return pen.done()


async def counted(job: str, steps: int, pause: float, gate: str = "") -> str:
    """Items that are done once: what was checkpointed is not done again.

    The last one is not done before there is a file `gate`.
    """
    with closing(Pen(job)) as pen:
        kept = last_checkpoint(0)
        async for number in track(range(1, steps + 1), checkpoint=True):
            while number == steps and gate and not Path(gate).exists():  # noqa: ASYNC110, ASYNC240
                await asyncio.sleep(0.02)
            if number < kept:
                pen.note("again", number)
            if number > kept:
                pen.note("step", number)
                part(f"step {pen.nonce} {number}")
                await asyncio.sleep(pause)
                await checkpoint(number)
                pen.note("kept", number)
        return pen.done()


async def big(job: str, size: int) -> str:
    """Much of nothing."""
    with closing(Pen(job)) as pen:
        pen.done()
        return "x" * size


def census() -> dict[str, int]:
    """What this process has going on: tasks by what they run, and threads."""
    names = [getattr(task.get_coro(), "__qualname__", "?") for task in asyncio.all_tasks(_loop())]
    threads = [f"thread {thread.name.rstrip('0123456789')}" for thread in threading.enumerate()]
    return dict(Counter([*names, *threads]))


def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


async def held() -> dict[str, int]:
    """What the process of this server holds."""
    return census()


async def objects() -> dict[str, int]:
    """The objects that are alive: all, and of Headway's own classes, as `module.Class`."""
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)  # free memory that the allocator keeps is no growth
    kinds = Counter(type(one) for one in gc.get_objects())
    whole = {ALL_OBJECTS: kinds.total(), BLOCKS: sys.getallocatedblocks()}
    names = {kind: f"{kind.__module__}.{kind.__qualname__}" for kind in kinds}
    return whole | {
        name: kinds[kind] for kind, name in names.items() if name.startswith("headway.")
    }


AWAY: Literal["worker"] | None = "worker" if os.environ.get(WORKERS) else None
"""Where every other tool is executed."""

mcp.add_tool(plain, name="plain", rate=0)
mcp.add_tool(threaded, name="threaded", where=AWAY)
mcp.add_tool(plain, name="kept", detached=True, rate=0)
mcp.add_tool(threaded, name="anew_threaded", restart=True)
mcp.add_tool(plain, name="anew", restart=True, detached=True, rate=0, where=AWAY)
mcp.add_tool(counted, name="counted", restart=True, detached=True, where=AWAY)
mcp.add_tool(plain, name="tasked", hand_over="at once")
mcp.add_tool(plain, name="tasked_anew", hand_over="at once", restart=True, where=AWAY)
mcp.add_tool(plain, name="handed", hand_over="100ms", detached=True, where=AWAY)
mcp.add_tool(counted, name="handed_anew", hand_over="100ms", restart=True, detached=True)
mcp.add_tool(big, structured_output=False, detached=True)
mcp.add_tool(sabotage)
mcp.add_tool(sabotage, name="sabotage_away", where=AWAY)
mcp.add_tool(held)
mcp.add_tool(objects)
