"""The limits of a run's output: the rate of its log messages, and the size of everything.

As in `pacing` there are no threads here: `RunOutput` holds its lock.
"""

from typing import Any

from headway.clock import Clock
from headway.events import Event, Log, Part, decode_json, encode_json
from headway.settings import Settings

BURST = 10
"""Seconds' worth of log messages that may come in a burst."""

SHOWN = 1000
"""Characters left of a log message that is too large."""


class OutputLimits:
    """A token bucket for the log messages of one run, and a size limit for its parts."""

    __slots__ = ("_allowed", "_at", "_largest", "_missed", "_rate", "left_out", "too_large")

    def __init__(self, settings: Settings) -> None:
        self._rate = settings.log_rate
        self._largest = settings.max_part
        self._allowed = self._rate * BURST
        self._at = 0.0
        self._missed = 0
        self.left_out = 0
        """The number of log messages that were dropped."""
        self.too_large = 0
        """The number of parts that were refused and of log messages that were shortened."""

    def limit_event(self, event: Event, clock: Clock) -> tuple[Event, ...]:
        """Return the events to write for an event of a tool: itself, none, or a warning before it.

        Raises:
            ValueError: It is a part that is too large; the text says what to do instead.
        """
        if type(event) is Log:
            return self._limit_log(event, clock.now())
        if type(event) is Part and size_of(event.value) > self._largest:
            self.too_large += 1
            raise ValueError(
                f"a part may have {self._largest} bytes (max_part), this one has "
                f"{size_of(event.value)}; give a resource link, or several parts"
            )
        return (event,)

    def _limit_log(self, message: Log, now: float) -> tuple[Log, ...]:
        """Drop the message if the bucket is empty; else first tell how many were dropped."""
        if self._rate:
            if self._at:
                gained = (now - self._at) * self._rate
                self._allowed = min(self._allowed + gained, self._rate * BURST)
            self._at = now
            if self._allowed < 1:
                self._missed += 1
                self.left_out += 1
                return ()
            self._allowed -= 1
        before = self.count_dropped_logs()
        if size_of(message.data) > self._largest:
            self.too_large += 1
            message = _shorten_log(message)
        return (message,) if before is None else (before, message)

    def count_dropped_logs(self) -> Log | None:
        """Return a message with the number of dropped ones, if there are any, and start over."""
        if not self._missed:
            return None
        text = f"{self._missed} log messages were left out: more than {self._rate:g} a second"
        self._missed = 0
        return Log("warning", encode_json(text), "headway")


def size_of(data: Any) -> int:
    """Return the number of bytes of JSON, a `Raw`."""
    return len(data)


def _shorten_log(message: Log) -> Log:
    value = decode_json(message.data)
    text = value if isinstance(value, str) else bytes(message.data).decode()
    note = f"{text[:SHOWN]}… ({size_of(message.data)} bytes)"
    return Log(message.level, encode_json(note), message.logger)
