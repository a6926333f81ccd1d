"""How a run stops: its hooks are called, its shielded parts are waited for, then it has to end.

```
 stop ──▶ hooks are called ──▶ shielded? ──no──▶ CANCEL_GRACE runs ──▶ it did not end: give_up
                                  │ yes                  ▲
                                  └── last shield left ──┘
```
"""

import asyncio
import inspect
from collections.abc import Callable
from contextvars import ContextVar
from threading import Lock
from typing import TYPE_CHECKING

import anyio

from headway.clock import Timer
from headway.engine.tool_failures import contain_failures
from headway.events import Interrupted
from headway.log_lines import quiet_logger

if TYPE_CHECKING:
    from headway.engine.run.run import Run

logger = quiet_logger(__name__)

CANCEL_GRACE = 1.0
"""Seconds between asking a run to stop and writing its end without waiting for it."""

SERVER_STOPPED = Interrupted("the server stopped before the run was done")

TAKEN_OVER = Interrupted("another process took the run over")
"""The end of a run here that another process goes on with, or has ended."""

Hook = Callable[[], object]

is_shielded: ContextVar[bool] = ContextVar("headway_shield", default=False)
"""Whether the current task or thread is inside of a `shield`."""

_hook_tasks: set[asyncio.Task[None]] = set()


class Cancellation:
    """The hooks and shields of one run.

    `enter_shield`, `leave_shield`, `add_hook` and `remove_hook` may be called from any thread, all
    else on the event loop only.
    """

    __slots__ = (
        "_grace_timer",
        "_has_told",
        "_hooks",
        "_lock",
        "_loop",
        "_run",
        "_shields",
        "stop_requested",
        "unshielded",
    )

    def __init__(self, run: "Run", loop: asyncio.AbstractEventLoop) -> None:
        self._run = run
        self._loop = loop
        self._lock = Lock()
        self._hooks: list[Hook] = []
        self._has_told = False
        self._shields = 0
        self._grace_timer: Timer | None = None
        self.stop_requested = anyio.Event()
        """Set when the run is asked to stop."""
        self.unshielded = asyncio.Event()
        """Set while no part of the run is shielded."""
        self.unshielded.set()

    def tell_hooks(self) -> None:
        """Call all hooks, and start the grace period unless a part is shielded."""
        self.stop_requested.set()
        # A copy: a hook may be added or removed by another thread while these are called.
        with self._lock:
            hooks, self._has_told = list(self._hooks), True
        for hook in hooks:
            self._call_hook_soon(hook)
        self._start_grace()

    def enter_shield(self) -> None:
        """Enter a part that must not be stopped."""
        with self._lock:
            self._shields += 1
        self._check_shields_soon()

    def leave_shield(self) -> None:
        """Leave such a part."""
        with self._lock:
            self._shields -= 1
        self._check_shields_soon()

    def add_hook(self, hook: Hook) -> None:
        """Call `hook` when the run is asked to stop; at once if it already was."""
        with self._lock:
            self._hooks.append(hook)
            # Not by `stop_event`, which is set a moment before the hooks are called: a hook that
            # is added in between would be called by both.
            is_late = self._has_told or self._run.is_released
        if is_late:
            self._loop.call_soon_threadsafe(self._call_hook_soon, hook)

    def remove_hook(self, hook: Hook) -> None:
        """Do not call `hook` any more."""
        with self._lock:
            self._hooks.remove(hook)

    def cancel_timer(self) -> None:
        """Stop the grace period: the run has its end."""
        if self._grace_timer is not None:
            self._grace_timer.cancel()

    def _call_hook_soon(self, hook: Hook) -> None:
        task = self._loop.create_task(_run_hook(hook, self._run.reference))
        _hook_tasks.add(task)
        task.add_done_callback(_hook_tasks.discard)

    def _check_shields_soon(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._check_shields)
        except RuntimeError:
            return  # the loop is closed: a thread outlived its server

    def _check_shields(self) -> None:
        if self._shields:
            self.unshielded.clear()
        else:
            self.unshielded.set()
            if self._run.stop_event is not None:
                self._start_grace()

    def _start_grace(self) -> None:
        if not self._shields and self._grace_timer is None and not self._run.ended:
            self._grace_timer = self._run.services.clock.call_later(CANCEL_GRACE, self._give_up)

    def _give_up(self) -> None:
        self._grace_timer = None
        if not self._shields:
            self._run.hooks.give_up()


async def _run_hook(hook: Hook, reference: str) -> None:
    """Call a hook without blocking the loop, and log what it raises."""
    who = f"run {reference}: what on_cancel() was given"
    if not inspect.iscoroutinefunction(hook):
        await asyncio.to_thread(_call_hook, hook, who)
        return
    with contain_failures(who):
        await hook()


def _call_hook(hook: Hook, who: str) -> None:
    with contain_failures(who):
        hook()
