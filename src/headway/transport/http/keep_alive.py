"""The ping that keeps a silent stream open, so that no proxy takes it for dead, and its timer."""

from collections.abc import Callable
from typing import Final

from headway.clock import Clock, Timer

PING: Final = b": ping\n\n"
"""A comment, which clients pass over (HTML Living Standard, 9.2.5)."""


class PingTimer:
    """Notices when a stream was silent for so long that a ping is due."""

    __slots__ = ("_clock", "_every", "_on_due", "_timer", "_written", "is_due")

    def __init__(self, clock: Clock, every: float, on_due: Callable[[], object]) -> None:
        self._clock = clock
        self._every = every
        self._on_due = on_due
        self._timer: Timer | None = None
        self._written = 0.0
        self.is_due = False

    def start(self) -> None:
        """Count silence from now on."""
        self._written = self._clock.now()
        self._timer = self._clock.call_later(self._every, self._check_silence)

    def mark_written(self) -> None:
        """Note that something was just sent."""
        self._written = self._clock.now()

    def stop(self) -> None:
        """Count no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _check_silence(self) -> None:
        silent = self._clock.now() - self._written
        if silent >= self._every:
            self.is_due = True
            self._on_due()
            silent = 0.0
        self._timer = self._clock.call_later(self._every - silent, self._check_silence)
