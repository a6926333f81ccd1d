"""What one run may say: log messages at a bounded rate, and nothing that is too large.

No threads, as in `pacing`: the run sees to that.
"""

from typing import cast

from msgspec import Raw

from headway.clock import Clock
from headway.events import Event, Log, Part, decode_json, encode_json
from headway.settings import Settings

BURST = 10
"""Seconds' worth of log messages that may come at once."""

SHOWN = 1000
"""Characters left of a log message that is too large."""


class OutputLimits:
    """What one run says, and how much of it is left out."""

    __slots__ = ("_allowed", "_at", "_largest", "_missed", "_rate", "left_out", "too_large")

    def __init__(self, settings: Settings) -> None:
        self._rate = settings.log_rate
        self._largest = settings.max_part
        self._allowed = self._rate * BURST
        self._at = 0.0
        self._missed = 0
        self.left_out = 0
        """Log messages left out so far."""
        self.too_large = 0
        """Parts refused and log messages cut so far."""

    def limit_event(self, event: Event, clock: Clock) -> tuple[Event, ...]:
        """What becomes of an event of a tool.

        Raises:
            ValueError: It is a part that is too large; the text says what to do.
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
        """Itself, nothing, or first how many are missing."""
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
        """How many were left out since this was said last."""
        if not self._missed:
            return None
        text = f"{self._missed} log messages were left out: more than {self._rate:g} a second"
        self._missed = 0
        return Log("warning", encode_json(text), "headway")


def size_of(data: Raw) -> int:
    """Bytes of JSON."""
    return len(cast("bytes", data))


def _shorten_log(message: Log) -> Log:
    value = decode_json(message.data)
    text = value if isinstance(value, str) else bytes(message.data).decode()
    note = f"{text[:SHOWN]}… ({size_of(message.data)} bytes)"
    return Log(message.level, encode_json(note), message.logger)
