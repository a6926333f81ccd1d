"""Stopping in order: calls may finish, and what may be begun anew is left to the next process."""

import asyncio
from typing import TYPE_CHECKING

from headway.engine.recovery.take_over import is_found
from headway.engine.run.cancellation import SERVER_STOPPED
from headway.engine.run.run import Run
from headway.events import Event

if TYPE_CHECKING:
    from headway.engine.engine import Engine

SHIELDED_GRACE = 5.0
"""Seconds that a shielded part of a call gets beyond the time to finish."""


async def finish_calls(engine: "Engine") -> None:
    """Accept no more tool calls; returns when those that go on have ended.

    Cancellation: the calls go on.
    """
    engine.is_draining = True
    while tasks := [run.task for run in engine.runs.values() if run.task and _is_call(run)]:
        await asyncio.wait(tasks)


async def wait_for_shields(engine: "Engine") -> None:
    """Return when no call is in a part that its author shielded, or after `SHIELDED` seconds."""
    calls = [run for run in engine.runs.values() if _is_call(run)]
    waiting = [asyncio.create_task(run.cancellation.unshielded.wait()) for run in calls]
    if waiting:
        await asyncio.wait(waiting, timeout=SHIELDED_GRACE)
    for task in waiting:
        task.cancel()


def release_restartable(engine: "Engine") -> list[Run]:
    """Stop all that goes on; returned are the runs that `leave` left.

    From now on nothing is begun: not even what is being accepted.
    """
    engine.is_over = True
    begun = [run for run in engine.runs.values() if run.task is not None]
    return [run for run in begun if stop_or_release(engine, run)]


def stop_or_release(engine: "Engine", run: Run, end: Event = SERVER_STOPPED) -> bool:
    """Stop a run; whether its client is sent away to ask for it again, in another process.

    A call that may be is left to that process: begun anew there at once, which does not count as a
    crash. Others end as `end` says, and who is being stopped already ends as that says.
    """
    if run.stop_event is not None:
        return False
    may_ask = not _is_call(run)
    if not may_ask and _may_return(engine, run):
        run.release()
        del engine.runs[run.id]
        may_ask = True
    else:
        run.stop(end)
    if may_ask:
        engine.on_run_released(run)
    return may_ask


def _is_call(run: Run) -> bool:
    return run.request.method == "tools/call"


def _may_return(engine: "Engine", run: Run) -> bool:
    """Whether its tool may be done twice, and somebody can come back for its result."""
    is_kept = engine.journal.is_durable and run.events.recorded
    may_twice = run.request.follows is not None or engine.options_of(run.request.target).restart
    has_repeater = run.request.follows is not None and not run.request.owns
    return is_kept and may_twice and (has_repeater or is_found(run)) and not run.ended
