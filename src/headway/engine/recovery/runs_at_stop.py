"""Stopping in order: calls may finish, and runs that may restart are left to the next process."""

import asyncio

from headway.engine.lifecycle import Phase
from headway.engine.recovery.stored_request import is_found
from headway.engine.run.cancellation import SERVER_STOPPED
from headway.engine.run.run import Run
from headway.engine.services import Services
from headway.events import Event

SHIELDED_GRACE = 5.0
"""Seconds that a shielded part of a call gets beyond the time to finish."""


class RunsAtStop:
    """Stops the runs of one process. `runs` are those that it executes, by id."""

    def __init__(self, services: Services, runs: dict[str, Run]) -> None:
        self._services = services
        self._runs = runs

    async def finish_calls(self) -> None:
        """Accept no more tool calls; returns when those that go on have ended.

        Cancellation: the calls go on.
        """
        self._services.lifecycle.move_to(Phase.DRAINING)
        while calls := [run for run in self._executing() if _is_call(run)]:
            for run in calls:
                run.execution.begin_now()
            tasks = [task for run in calls if (task := run.execution.task) is not None]
            if tasks:
                await asyncio.wait(tasks)

    async def wait_for_shields(self) -> None:
        """Return when no call is in a part that its author shielded, or after `SHIELDED_GRACE`."""
        calls = [run for run in self._runs.values() if _is_call(run)]
        waiting = [asyncio.create_task(run.cancellation.unshielded.wait()) for run in calls]
        if waiting:
            await asyncio.wait(waiting, timeout=SHIELDED_GRACE)
        for task in waiting:
            task.cancel()

    def release_restartable(self) -> list[Run]:
        """Stop all runs, and return those that were left to another process.

        From now on nothing is started, not even what is being accepted.
        """
        self._services.lifecycle.move_to(Phase.OVER)
        return [run for run in self._executing() if self.stop_or_release(run)]

    def _executing(self) -> list[Run]:
        return [run for run in self._runs.values() if run.execution.goes_on]

    def stop_or_release(self, run: Run, end: Event = SERVER_STOPPED) -> bool:
        """Stop a run, and return whether its client may ask for it again in another process.

        A tool call that may restart is released: that process executes it anew at once, which does
        not count as a crash. Every other run ends with `end`. A run that is being stopped already
        keeps the end that it was stopped with.
        """
        if run.stop_event is not None:
            return False
        may_ask_again = not _is_call(run)
        if not may_ask_again and self._may_release(run):
            # Removed here: a released run writes no end, which would remove it.
            run.release()
            del self._runs[run.id]
            may_ask_again = True
        else:
            run.stop(end)
        if may_ask_again:
            self._services.options.on_run_released(run.stream)
        return may_ask_again

    def _may_release(self, run: Run) -> bool:
        """Return whether another process may execute a run anew, and its client can find it."""
        request = run.request
        is_kept = self._services.journal.is_durable and run.events.recorded
        has_original = request.follows is not None and not request.owns
        return is_kept and request.may_restart and (has_original or is_found(run)) and not run.ended


def _is_call(run: Run) -> bool:
    return run.request.kind.is_recorded
