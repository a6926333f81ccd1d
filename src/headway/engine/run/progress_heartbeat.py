"""The sign of life of a run that is silent."""

from collections.abc import Callable

from headway.clock import Clock, Timer
from headway.engine.run.progress_pacing import Pacer


class Heartbeat:
    """A timer that asks for a progress message when a run has written none for `interval` seconds.

    `write` gets the time, and returns False when there is nothing to wait for any more.
    """

    __slots__ = ("_born", "_clock", "_interval", "_pacer", "_timer", "_write")

    def __init__(
        self,
        clock: Clock,
        interval: float | None,
        pacer: Pacer,
        write: Callable[[float], bool],
        born: float,
    ) -> None:
        self._clock = clock
        self._interval = interval
        self._pacer = pacer
        self._write: Callable[[float], bool] | None = write
        self._born = born
        self._timer: Timer | None = None

    def start(self) -> None:
        """Begin to watch the run, unless that was done, it is over, or has no heartbeat."""
        if self._interval is not None and self._timer is None and self._write is not None:
            wait = self._last_sign + self._interval - self._clock.now()
            self._timer = self._clock.call_later(max(wait, 0.0), self._check_silence)

    def stop(self) -> None:
        """End for good."""
        self._write = None  # it holds the run's output, which holds this
        if self._timer is not None:
            self._timer.cancel()

    @property
    def _last_sign(self) -> float:
        return max(self._pacer.written, self._born)

    def _check_silence(self) -> None:
        self._timer = None
        now = self._clock.now()
        if self._interval is None or self._write is None:
            return
        is_silent = now - self._last_sign >= self._interval
        if not is_silent or self._write(now):
            self.start()
