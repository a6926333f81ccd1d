"""Stopping in order: calls may finish, and what may be begun anew is left to the next process."""

import asyncio

from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from headway.engine.engine import Engine
from headway.engine.run import Run
from headway.events import Interrupted


async def finish(engine: Engine) -> None:
    """Accept no more tool calls; returns when those that go on have ended.

    Cancellation: the calls go on.
    """
    engine.is_draining = True
    while tasks := [run.task for run in engine.runs.values() if run.task and _is_call(run)]:
        await asyncio.wait(tasks)


def give_back(engine: Engine) -> list[Run]:
    """Stop all calls that go on: those that may are left to the next process, and returned.

    They are begun anew there at once, and that does not count as a crash. The others end as
    interrupted.
    """
    left: list[Run] = []
    for run in [run for run in engine.runs.values() if _is_call(run)]:
        if _may_return(engine, run):
            run.give_back()
            del engine.runs[run.id]
            left.append(run)
        else:
            run.stop(Interrupted("the server stopped before the run was done"))
    return left


def _is_call(run: Run) -> bool:
    return run.method == "tools/call"


def _may_return(engine: Engine, run: Run) -> bool:
    """Whether its tool may be done twice, and somebody can come back for its result."""
    is_kept = engine.journal.is_durable and run.recorded and run.follows is None
    is_found = run.has_handle or run.detached or run.version not in MODERN_PROTOCOL_VERSIONS
    return is_kept and is_found and engine.options_of(run.target).restart and not run.ended
