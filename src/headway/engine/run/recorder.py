"""A run without a journal: everything that a tool gives out is passed to a function.

`report`, `track`, `stage`, `log` and `part` find a `Recorder` where there is no server: in a test,
or in a process that works for a run of another one.
"""

import asyncio
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from threading import RLock
from typing import Self

from headway.engine.recovery.checkpoints import CHECKPOINTS
from headway.engine.run.current_run import ToolOutput, current_run
from headway.engine.run.progress_pacing import Pacer
from headway.engine.run.stages import Root, current_node, innermost_node, sample_stages
from headway.engine.run.threads import carry_runs, working_runs
from headway.events import Event, Progress


class RecordedOutput:
    """Passes what a tool gives out to `deliver`, from any thread, in order.

    `rate` is how many progress messages a second are passed on, 0 for all of them. There is no
    timer: progress that is held goes out with the next report, or with `finish`.
    """

    def __init__(self, deliver: Callable[[Event], object], rate: float = 0.0) -> None:
        self.stages: Root | None = None
        self._pacer = Pacer(rate)
        self._deliver = deliver
        self._lock = RLock()

    def report(
        self, progress: float, total: float | None, message: str | Callable[[], str] | None
    ) -> None:
        """Take a progress report."""
        if self.stages is None:
            with self._lock:
                paced = self._pacer.offer_report(progress, total, message, time.monotonic())
                self._deliver_progress(paced)
            return
        node = innermost_node(self.stages) or self.stages
        node.report(progress, total, message() if callable(message) else message)
        self.write_sample()

    def open_stages(self) -> Root:
        """Return the root of the stages and tracks; make it if there is none yet."""
        with self._lock:
            if self.stages is None:
                self.stages = Root(*self._pacer.reported)
            return self.stages

    def write_sample(self) -> None:
        """Take what the stages and tracks add up to now."""
        with self._lock:
            self._deliver_progress(self._take_sample())

    def emit_event(self, event: Event) -> None:
        """Pass the event on; checkpoints are dropped, since nothing restarts this run."""
        if type(event) not in CHECKPOINTS:
            self._deliver(event)

    def check_not_stopped(self) -> bool:
        """Return False: nothing stops this run."""
        return False

    async def yield_if_due(self) -> None:
        """Let the loop serve others."""
        await asyncio.sleep(0)

    def finish(self, *, success: bool) -> None:
        """Pass on what is held; with success the total, if one is known."""
        with self._lock:
            self._deliver_progress(self._take_sample())
            self._deliver_progress(self._pacer.write_last(time.monotonic(), success=success))

    def _take_sample(self) -> Progress | None:
        return sample_stages(self.stages, self._pacer, time.monotonic())

    def _deliver_progress(self, progress: Progress | None) -> None:
        if progress is not None:
            self._deliver(progress)


class Recorder:
    """Stands in for a run; satisfies `ToolRun`. Nothing stops it, and it never ends."""

    def __init__(self, output: ToolOutput) -> None:
        self.output = output
        self.checkpoints = self.cancellation = self.stop_event = None
        self.ended = False
        self.attempt = 1

    @contextmanager
    def as_current_run(self) -> Generator[Self]:
        """Make this the current run of the current task or thread while inside."""
        carry_runs()
        working_runs.add(self)
        run = current_run.set(self)
        node = current_node.set(None)
        try:
            yield self
        finally:
            current_node.reset(node)
            current_run.reset(run)
            working_runs.discard(self)

    def mark_function_begun(self) -> None:
        """Do nothing: no request waits for the function."""

    async def wait_until_stored(self) -> None:
        """Return at once: nothing is stored."""

    def stop(self, end: Event) -> None:
        """Do nothing: nothing stops this run."""
