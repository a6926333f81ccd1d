"""Pacing: which progress reports become entries of the run, and when.

This module must not know threads, timers or the journal. Each method gets the time and returns
what is to be written; the caller decides how to wait.

The rules:

- What is written strictly increases and is finite. Repeats, decreases and NaN are absorbed.
- The newest value wins: a report that comes too soon waits, and a later one replaces it.
- The first report is written at once and the last one always.
- News without growth (another message, a grown total, a heartbeat) needs a value that is larger
  than the last one: MCP demands that progress increases. It gets the smallest useful increase, a
  nudge, which is so small that the next real value is larger still.
"""

from collections.abc import Callable
from math import inf
from typing import Final

from headway.events import Progress
from headway.jsonable import exact_text

Message = str | Callable[[], str] | None

NUDGE = 2.0**-32
"""The size of an artificial increase, relative to the value.

It is far smaller than any real step and far larger than the rounding of a double (2**-53).
"""


def smallest_increase(value: float, total: float | None) -> float:
    """Return `value` plus the smallest useful increase; below `total` while `value` is."""
    step = max(1.0, abs(value)) * NUDGE
    if total is not None and value < total:
        step = min(step, (total - value) / 2)
    return value + step


UNKNOWN: Final = object()
"""Passed as the total when there was one and there is none any more."""

DONE = "Done"
"""The message at the end of a run that succeeded without having reported its total, where its tool
gave no message. Where it gave some, the last progress has none: a tool may speak any language."""

LARGEST = 1e300
"""Larger numbers count as infinite: there must be room for a nudge."""


def as_finite(value: object) -> int | float | None:
    """Return `value` if it is a number that JSON can hold, else None."""
    try:
        number = value if type(value) is int else float(value)  # pyright: ignore[reportArgumentType]
        return number if -LARGEST <= number <= LARGEST else None
    except (TypeError, ValueError, OverflowError):
        return None


class Pacer:
    """The pacing of one run's progress: a rate limiter that keeps the newest report.

    `offer_report`, `announce_message`, `flush_held`, `write_heartbeat` and `write_last` return the
    progress to write now, or None. If `held` is set afterwards, call `flush_held` at `due`.

    A message may be a function. It is called only for the reports that are written, which are few.
    """

    __slots__ = (
        "_high", "_longest", "_message", "_sent", "_total",
        "cut", "held", "interval", "merged", "written",
    )  # fmt: skip

    def __init__(self, rate: float, longest: int = 1000) -> None:
        self._longest = longest
        self.interval = 1.0 / rate if rate > 0 else 0.0
        self.held = False
        self.merged = 0  # reports that a newer one replaced before they were written
        self.cut = 0  # messages that were too long
        self.written = -inf
        self._high: int | float = -inf  # the largest value reported
        self._sent: int | float = -inf  # the largest value written
        self._total: int | float | None = None
        self._message: Message = None

    def resume_from(self, value: float) -> None:
        """Continue after the last progress of another process.

        A restarted tool reports from 0 again: its reports are written as nudges until they are
        past `value`.
        """
        self._sent = value

    @property
    def due(self) -> float:
        """The time from which a held report may be written."""
        return self.written + self.interval

    @property
    def reported(self) -> tuple[float, float | None]:
        """The largest value reported so far, and the total; the value is -inf before the first."""
        return self._high, self._total

    def offer_report(
        self, progress: object, total: object, message: Message, now: float
    ) -> Progress | None:
        """Take a report of the tool: any values, in any order.

        A total of None means the last one; `UNKNOWN` means that there is none any more.
        """
        value = as_finite(progress)
        if value is None:
            return None
        limit = self._total
        if total is not None and total is not limit:
            known = as_finite(total)
            if known is not None or total is UNKNOWN:
                limit = known
        if limit is not None and value > limit:
            value = limit
        if value <= self._high and not self._is_news(value, limit, message):
            return None
        self._high = value
        self._total = limit
        self._message = message
        if now - self.written < self.interval:
            if self.held:
                self.merged += 1
            self.held = True
            return None
        return self._write_progress(value, now)

    def announce_message(self, message: str, now: float) -> Progress | None:
        """Take a message without progress, about a run that may not have any yet."""
        return self.offer_report(self._high if self._high > -inf else 0, None, message, now)

    def flush_held(self, now: float) -> Progress | None:
        """Return the held report if it may be written now."""
        if not self.held or now - self.written < self.interval:
            return None
        return self._write_progress(self._high, now)

    def write_heartbeat(self, now: float) -> Progress:
        """Return a sign of life, whatever was written before."""
        return self._write_progress(self._high if self._high > -inf else 0, now)

    def write_last(self, now: float, *, success: bool) -> Progress | None:
        """Return the last progress: what is held, or the total of a run that has succeeded."""
        if success and self._total is not None and self._sent < self._total:
            if self._high < self._total:
                # The tool's last message was about a step; ours is for tools that have none.
                self._message = DONE if self._message is None else None
            return self._write_progress(self._total, now)
        return self._write_progress(self._high, now) if self.held else None

    def _is_news(self, value: float, total: float | None, message: Message) -> bool:
        """Return whether a report that does not grow has another message or total."""
        return value == self._high and (
            (message is not None and message != self._message) or total != self._total
        )

    def _write_progress(self, value: int | float, now: float) -> Progress:
        total = self._total
        if value <= self._sent:
            value = smallest_increase(self._sent, total)
            if total is not None and value > total:
                # It was all done already: the total moves along, so that they stay equal.
                total = value
        self.held = False
        self._sent = value
        self.written = now
        message = self._message
        if callable(message):
            message = self._message = message()
        if message is not None and type(message) is not str:
            message = self._message = exact_text(message)  # type hints do not stop anyone
        if message is not None and len(message) > self._longest:
            message = message[: self._longest - 1] + "…"
            self.cut += 1
        return Progress(value, total, message)
