"""A watchdog that logs code which blocks the event loop, and for how long.

Code that computes, or waits without `await`, on the event loop's thread blocks all other calls: no
ping is sent, and no heartbeat. The loop cannot notice that itself, so a thread samples the stack of
the loop's thread: it shows which call it is, and which line of its author.
"""

import asyncio
import contextvars
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Final, NamedTuple

from headway.engine.author_frames import frames_from, is_headways, line_of
from headway.engine.run.current_run import ToolRun, current_run
from headway.engine.run.run import Run
from headway.log_lines import quiet_logger
from headway.protocol.methods import TOOL_CALL

logger = quiet_logger(__name__)

HOLD_WARN_AFTER: Final = 0.25
"""The longest interval between two samples, in seconds."""

HOLD_WARN_INTERVAL: Final = 60.0
"""Seconds in which the same line of the same tool is logged once."""

MOST_SAMPLES: Final = 100
"""Samples of one hold that are kept, and lines that are remembered as logged."""

HOLD_GOES_ON_AFTER: Final = 10.0
"""Seconds after which a hold is logged while it goes on."""

_IDLE: Final = (
    "asyncio/runners.py",
    "asyncio/base_events.py",
    "selectors.py",
    "cli/server/event_loop.py",
)
"""Files of the innermost frame while the loop waits for an event or for the interpreter."""


class Sample(NamedTuple):
    """The call and the line of code that the loop's thread executes at one moment."""

    who: str
    line: str


class Watchdog:
    """Watches one event loop, from a thread.

    Args:
        warning: Seconds that code may hold the loop before the log names it; 0: never.
        late: Called in the thread, at each sample while the loop is held, with a function that
            returns for how many seconds it is.
    """

    def __init__(
        self, warning: float, late: Callable[[Callable[[], float]], object] = lambda _: None
    ) -> None:
        self._warning = warning
        self._late = late
        self._every = min(HOLD_WARN_AFTER, warning / 4) if warning else HOLD_WARN_AFTER
        self._samples: list[Sample] = []
        self._is_told = False
        self._named: dict[Sample, tuple[float, int]] = {}
        self._over = threading.Event()
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to watch the running loop, which is this thread's."""
        self._loop, self._thread_id = asyncio.get_running_loop(), threading.get_ident()
        self._schedule_tick()
        threading.Thread(target=self._watch_loop, name="headway-watchdog", daemon=True).start()

    def stop(self) -> None:
        """Stop watching."""
        self._over.set()
        if self._timer is not None:
            self._timer.cancel()

    def seconds_held(self) -> float:
        """Return for how many seconds the loop has been held so far; from any thread."""
        return max(0.0, time.monotonic() - self._due)

    # On the loop

    def _schedule_tick(self) -> None:
        self._due = time.monotonic() + self._every
        self._timer = self._loop.call_later(self._every, self._note_tick)

    def _note_tick(self) -> None:
        held, samples = time.monotonic() - self._due, self._samples
        self._samples, self._is_told = [], False
        self._schedule_tick()
        if self._warning and held >= self._warning and samples:
            self._warn_about(_most_of(samples), f"held the event loop for {held:.1f} s")

    def _warn_about(self, sample: Sample, did: str) -> None:
        """Log the sample, unless the same one was logged a short while ago."""
        now = time.monotonic()
        until, count = self._named.get(sample, (0.0, 0))
        if now < until:
            self._named[sample] = until, count + 1
            return
        if len(self._named) >= MOST_SAMPLES:
            self._named.clear()
        self._named[sample] = now + HOLD_WARN_INTERVAL, 0
        more = f" ({count} times more before)" if count else ""
        logger.warning("%s %s at %s%s", sample.who, did, sample.line, more)

    # In the thread

    def _watch_loop(self) -> None:
        # Code that closes a loop without stopping what runs in it does not call `stop`.
        while not self._over.wait(self._every) and not self._loop.is_closed():
            held = self.seconds_held()
            if held < self._every:
                continue
            self._take_sample()
            if held >= HOLD_GOES_ON_AFTER and self._warning and self._samples and not self._is_told:
                self._is_told = True
                self._warn_about(
                    _most_of(self._samples), f"has held the event loop for {held:.0f} s"
                )
            self._late(self.seconds_held)

    def _take_sample(self) -> None:
        if not self._loop.is_running():
            return  # between two calls of `run_until_complete`, as in a notebook
        frame = sys._current_frames().get(self._thread_id)  # pyright: ignore[reportPrivateUsage]
        if frame is None or frame.f_code.co_filename.endswith(_IDLE):
            return  # it waits, for an event or for another thread that has the interpreter
        if len(self._samples) < MOST_SAMPLES:
            run = _run_of(frame) or self._run_of_task()
            self._samples.append(Sample(_describe_run(run), line_of(frame)))

    def _run_of_task(self) -> ToolRun | None:
        """Return the run that the current task was started by; None before Python 3.12."""
        with suppress(Exception):
            task = asyncio.current_task(self._loop)
            context = getattr(task, "get_context", contextvars.Context)()
            return context.get(current_run)
        return None


def _most_of(samples: list[Sample]) -> Sample:
    """Return the most frequent sample; it names no call if several took turns."""
    found = Counter(samples).most_common(1)[0][0]
    who = {sample.who for sample in samples}
    return found if len(who) == 1 else Sample("several pieces of code", found.line)


def _run_of(frame: FrameType) -> ToolRun | None:
    """Return the run whose handler is in this stack."""
    for each in frames_from(frame):
        code = each.f_code
        if code.co_qualname == "Engine._execute_run" and is_headways(code.co_filename):
            return each.f_locals.get("run")
        if code.co_qualname == "Handle._run":  # of asyncio's own loop: a callback's context
            return each.f_locals["self"]._context.get(current_run)
    return None


def _describe_run(run: ToolRun | None) -> str:
    if not isinstance(run, Run):  # none, or a recorder, which has no name
        return "something"
    method, target = run.request.method, run.request.target
    name = f"tool {target!r}" if method == TOOL_CALL else method
    return f"{name} (run {run.reference})"
