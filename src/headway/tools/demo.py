"""A tool that takes its time: to try a client, a proxy or a deadline."""

from typing import Annotated

import anyio
from pydantic import Field

from headway import log, part, stage, track

Steps = Annotated[int, Field(ge=1, le=20, description="How many steps, 1 to 20.")]
Seconds = Annotated[float, Field(ge=0, le=60, description="How long each takes, 0 to 60 s.")]


async def long_task(steps: Steps = 5, seconds_per_step: Seconds = 1) -> str:
    """Take a number of steps, each of some seconds, and report every one.

    Shows all that can be seen of a call: two stages with progress, log messages, a partial result
    for each step, and the result.
    """
    log(f"Taking {steps} steps of {seconds_per_step:g} s")
    with stage("Work", weight=steps):
        for step in track(range(1, steps + 1), message=f"Step {{item}} of {steps}"):
            await anyio.sleep(seconds_per_step)
            part({"step": step, "of": steps})
    with stage("Check"):
        log("All steps are taken", "debug")
    return f"Done: {steps} steps of {seconds_per_step:g} s"
