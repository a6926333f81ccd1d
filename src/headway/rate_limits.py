"""Rates: so many of something in so long, for each of those who may do it.

All of a rate may come at once, and then one each time that its share has passed. So one number
says all of somebody: the time at which they will have everything again (GCRA, as in ITU-T I.371).
"""

import re
from dataclasses import dataclass
from typing import Final

from headway.errors import SetupError

SECONDS_IN: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

MOST_KEPT: Final = 10_000
"""Callers of whom a process knows what they have done. Of more, those go that ask least; then the
oldest."""


_TICK: Final = 1e-6
"""Seconds that a clock and sums of fractions may be wrong by."""


@dataclass(frozen=True, slots=True)
class Rate:
    """So many in so many seconds."""

    most: float
    seconds: float

    @property
    def interval(self) -> float:
        """Return the seconds after which one more may come."""
        return self.seconds / self.most

    def wait_of(self, whole_at: float, now: float) -> float:
        """Return the seconds until one more may come, for who has everything again at `whole_at`.

        0: now.
        """
        wait = whole_at - now - (self.seconds - self.interval)
        return wait if wait > _TICK else 0.0

    def after_one(self, whole_at: float, now: float) -> float:
        """Return when everything is there again, after one more has come."""
        return max(whole_at, now) + self.interval


def parse_rate(text: str) -> Rate:
    """Return a rate, from `5/s`, `60/m`, `100/10m` or `1000/d`.

    Raises:
        SetupError: It is none of these.
    """
    match = re.fullmatch(r"\s*(\d{1,9})\s*/\s*(\d{1,9})?\s*([smhd])\s*", text)
    most, seconds = (0, 0.0) if match is None else (int(match[1]), _seconds(match))
    if not most or not seconds:
        raise SetupError(f"{text!r} is no rate; write 5/s, 60/m, 100/10m or 1000/d")
    return Rate(most, seconds)


def _seconds(match: re.Match[str]) -> float:
    return SECONDS_IN[match[3]] * int(match[2] or 1)


class LocalRates:
    """The rates of callers, as far as one process knows what they did."""

    def __init__(self) -> None:
        self._whole_at: dict[str, float] = {}

    def wait_of(self, name: str, rate: Rate, now: float) -> float:
        """Return the seconds until `name` may come once more; 0: now."""
        return rate.wait_of(self._whole_at.get(name, 0.0), now)

    def take(self, name: str, rate: Rate, now: float) -> float:
        """Count one of `name` and return 0; or return the seconds until it may come."""
        wait = self.wait_of(name, rate, now)
        if not wait:
            self.add(name, rate, now)
        return wait

    def add(self, name: str, rate: Rate, now: float) -> None:
        """Count one of `name`, whether it may come or not."""
        before = self._whole_at.get(name)
        if before is None and len(self._whole_at) >= MOST_KEPT:
            # Who has everything is as good as unknown.
            kept = [each for each in self._whole_at.items() if each[1] > now]
            self._whole_at = dict(kept[-MOST_KEPT // 2 :])
        self._whole_at[name] = rate.after_one(before or 0.0, now)

    def most_taken(self, rate: Rate, now: float) -> float:
        """Return how many the one has taken, and not again, who has taken most."""
        last = max(self._whole_at.values(), default=now)
        return max(0.0, last - now) / rate.interval
