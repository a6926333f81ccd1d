"""Background tasks: coroutines that are started and that nothing awaits.

The event loop keeps only weak references to its tasks, so the code that starts one has to keep it.
And the exception of such a task is not logged until the task is collected. `BackgroundTasks` keeps
tasks, logs their exceptions, and stops them.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextvars import Context
from typing import Any

from headway.first_step import start_at_once
from headway.log_lines import quiet_logger

logger = quiet_logger(__name__)


class BackgroundTasks:
    """A set of running tasks; each one leaves it when it ends, and its exception is logged.

    Args:
        name: Names the tasks in the log, as in "a task of NAME failed".
    """

    __slots__ = ("_name", "_tasks")

    def __init__(self, name: str) -> None:
        self._name = name
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Iterator[asyncio.Task[Any]]:
        """Iterate over a copy: a task that ends meanwhile leaves the set."""
        return iter(tuple(self._tasks))

    def start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start `work` on the running loop, and return its task, which may be cancelled."""
        task: asyncio.Task[Any] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._end_task)
        return task

    def start_at_once(
        self, work: Callable[[], Coroutine[Any, Any, None]], context: Context
    ) -> asyncio.Task[None] | None:
        """Take the first step of `work` in this moment, in a task with this context.

        Returns None where that was all of it.
        """
        task = start_at_once(work(), context)
        if task.done():
            self._log_error(task)
            return None
        self._tasks.add(task)
        task.add_done_callback(self._end_task)
        return task

    def cancel(self) -> None:
        """Cancel every task; returns before they have ended."""
        for task in self:
            task.cancel()

    async def wait_for_one(self, seconds: float) -> None:
        """Return when a task ends, or after `seconds`; at once where there is none."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)

    async def stop(self, seconds: float) -> None:
        """Let the tasks end within `seconds`, then cancel those that have not.

        Cancellation: leaves the tasks as they are.
        """
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        self.cancel()

    def _end_task(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        self._log_error(task)

    def _log_error(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a task of %s failed", self._name, exc_info=error)
