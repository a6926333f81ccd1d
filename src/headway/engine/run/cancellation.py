"""How a run is asked to stop: what is told of it, and what has to be done before it does."""

import asyncio
import inspect
import logging
from collections.abc import Callable
from contextvars import ContextVar
from threading import Lock
from typing import TYPE_CHECKING

import anyio

from headway.clock import Timer
from headway.engine.failures import contain_failures
from headway.events import Interrupted

if TYPE_CHECKING:
    from headway.engine.run.run import Run

logger = logging.getLogger(__name__)

CANCEL_GRACE = 1.0
"""Seconds between asking a run to stop and giving its end out without it."""

SERVER_STOPPED = Interrupted("the server stopped before the run was done")

TAKEN_OVER = Interrupted("another process took the run over")
"""Why a run stops here that goes on, or was ended, in another process."""

Hook = Callable[[], object]

is_shielded: ContextVar[bool] = ContextVar("headway_shield", default=False)
"""Whether the current task or thread is in a part that is not to be stopped."""

_telling: set[asyncio.Task[None]] = set()


class Cancellation:
    """What is to happen when one run is asked to stop. Made when somebody asks for it.

    `enter`, `leave`, `hook` and `unhook` are for any thread, all else for the event loop.
    """

    __slots__ = ("_hooks", "_lock", "_loop", "_patience", "_run", "_shields", "asked", "out")

    def __init__(self, run: "Run", loop: asyncio.AbstractEventLoop) -> None:
        self._run = run
        self._loop = loop
        self._lock = Lock()
        self._hooks: list[Hook] = []
        self._shields = 0
        self._patience: Timer | None = None
        self.asked = anyio.Event()
        """Set when the run is asked to stop."""
        self.out = asyncio.Event()
        """Set while nothing of it is shielded."""
        self.out.set()

    def begin(self) -> None:
        """Tell the tool's code, and give it its time."""
        self.asked.set()
        with self._lock:
            hooks = list(self._hooks)
        for hook in hooks:
            self._tell(hook)
        self._wait()

    def enter_shield(self) -> None:
        """A part begins that is not to be stopped."""
        with self._lock:
            self._shields += 1
        self._say()

    def leave_shield(self) -> None:
        """It is over."""
        with self._lock:
            self._shields -= 1
        self._say()

    def add_hook(self, hook: Hook) -> None:
        """Call this when the run is asked to stop; at once if it was."""
        with self._lock:
            self._hooks.append(hook)
        if self._run.stop_event is not None:
            self._loop.call_soon_threadsafe(self._tell, hook)

    def remove_hook(self, hook: Hook) -> None:
        """Do not call it any more."""
        with self._lock:
            self._hooks.remove(hook)

    def end(self) -> None:
        """The run has its end."""
        if self._patience is not None:
            self._patience.cancel()

    def _tell(self, hook: Hook) -> None:
        task = self._loop.create_task(_tell(hook, self._run.reference))
        _telling.add(task)
        task.add_done_callback(_telling.discard)

    def _say(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._look)
        except RuntimeError:
            return  # the loop is closed: a thread outlived its server

    def _look(self) -> None:
        if self._shields:
            self.out.clear()
        else:
            self.out.set()
            if self._run.stop_event is not None:
                self._wait()

    def _wait(self) -> None:
        if not self._shields and self._patience is None and not self._run.ended:
            self._patience = self._run.clock.call_later(CANCEL_GRACE, self._lose)

    def _lose(self) -> None:
        self._patience = None
        if not self._shields:
            self._run.hooks.give_up()


async def _tell(hook: Hook, reference: str) -> None:
    """Call it without holding anybody up, and survive what it raises."""
    who = f"run {reference}: what on_cancel() was given"
    if not inspect.iscoroutinefunction(hook):
        await asyncio.to_thread(_call, hook, who)
        return
    with contain_failures(who):
        await hook()


def _call(hook: Hook, who: str) -> None:
    with contain_failures(who):
        hook()
