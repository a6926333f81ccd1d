"""A run without a journal: everything a tool says is handed to a function.

What `report`, `track`, `stage`, `log` and `part` find where there is no server: in a test, or in
a process that works for a run of another one.
"""

import asyncio
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from threading import RLock
from typing import TYPE_CHECKING, Self, cast

from headway.engine.run.current import current_run
from headway.engine.run.pacing import Pacer
from headway.engine.run.stages import Root, current_node, innermost, sample_stages
from headway.engine.run.threads import carry_runs, working_runs
from headway.events import Event, Log, Part, Progress, encode_json

if TYPE_CHECKING:
    from headway.engine.run.run import Run


class Recorder:
    """Takes what a tool says, from any thread, and hands it on in order.

    `rate` is how many progress messages a second are handed on, 0 for all of them. Nothing comes
    by itself: what is held goes out with the next word, or with `finish`.
    """

    def __init__(self, deliver: Callable[[Event], object], rate: float = 0.0) -> None:
        self.stop_event = self.cancellation = None
        self.ended = False
        self.checkpoints = None
        self.attempt = 1
        self.stages: Root | None = None
        self._pacer = Pacer(rate)
        self._deliver = deliver
        self._lock = RLock()

    @contextmanager
    def active(self) -> Generator[Self]:
        """While inside, calls into Headway come here."""
        # It answers to all that tools call of a run, and to nothing else.
        myself = cast("Run", self)
        carry_runs()
        working_runs.add(myself)
        run = current_run.set(myself)
        node = current_node.set(None)
        try:
            yield self
        finally:
            current_node.reset(node)
            current_run.reset(run)
            working_runs.discard(myself)

    def report(
        self, progress: float, total: float | None, message: str | Callable[[], str] | None
    ) -> None:
        """Take a progress report."""
        if self.stages is None:
            with self._lock:
                self._hand_on(self._pacer.offer_report(progress, total, message, time.monotonic()))
            return
        node = innermost(self.stages) or self.stages
        node.report(progress, total, message() if callable(message) else message)
        self.write_sample()

    def open_stages(self) -> Root:
        """The root of the stages and tracks."""
        with self._lock:
            if self.stages is None:
                self.stages = Root(*self._pacer.reported)
            return self.stages

    def write_sample(self) -> None:
        """Take what the tree of stages says."""
        with self._lock:
            self._hand_on(self._sample())

    def check_not_stopped(self) -> bool:
        """Nobody stops it."""
        return False

    async def yield_if_due(self) -> None:
        """Let the loop serve others."""
        await asyncio.sleep(0)

    def log(self, level: str, data: object, logger: str | None = None) -> None:
        """Take a log message."""
        self._deliver(Log(level, encode_json(data), logger))

    def part(self, value: object) -> None:
        """Take a partial result."""
        self._deliver(Part(encode_json(value)))

    def emit_event(self, event: Event) -> None:
        """Nobody will begin it anew: checkpoints are not kept."""

    async def wait_until_stored(self) -> None:
        """There is nothing to wait for."""

    def finish(self, *, success: bool) -> None:
        """Hand on what is held; with success the total, if one is known."""
        with self._lock:
            self._hand_on(self._sample())
            self._hand_on(self._pacer.write_last(time.monotonic(), success=success))

    def _sample(self) -> Progress | None:
        return sample_stages(self.stages, self._pacer, time.monotonic())

    def _hand_on(self, progress: Progress | None) -> None:
        if progress is not None:
            self._deliver(progress)
