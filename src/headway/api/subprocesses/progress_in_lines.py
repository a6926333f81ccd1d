"""Progress in a line of a program's output: percentages, `3/120`, `1.2/3.4 MB`.

A line is taken at its word only where it can hardly mean anything else: a percentage up to 100, or
a count that is not above its total and stands alone, so that dates, paths, versions and rates are
left alone. A percentage that is no progress (`CPU 40%`) cannot be told from one that is: for such
a program an author gives a function of the line, or none.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

Scan = Callable[[str], float | tuple[float, float] | None]
"""A function from a line to how much of the work is done: a share from 0 to 1, or an amount and
the total; None if the line does not tell."""

LONGEST = 2_000
"""Characters at the end of a line that are searched."""

_PERCENT = re.compile(r"(?<![\w.,+-])(\d{1,3}(?:[.,]\d+)?)\s?%(?![\w%])")
_UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}
_SIZES = re.compile(
    r"(?<![\w.])(\d+(?:\.\d+)?)\s?(?:([kmgt])i?b)?\s?/\s?(\d+(?:\.\d+)?)\s?([kmgt])i?b(?!\w|/)",
    re.IGNORECASE,
)
_COUNT = re.compile(
    r"(?<![\w./:,-])(\d[\d,]*)\s?(?:/|of)\s?(\d[\d,]*)"
    r"(?![\w/-]|:\d|[.,]\d|\s\d{1,2}:\d\d)"  # 11/23 10:15 is a date
)
_WORDS = re.compile(r"[^\W\d_]+")


class Found(NamedTuple):
    """The progress in a line."""

    share: float
    """From 0 to 1."""
    label: str
    """The words before it, which say what it is a share of."""


def scan_fraction(line: str) -> float | None:
    """Return the share that is done, from 0 to 1, or None where the line has none."""
    found = find_progress(line)
    return None if found is None else found.share


def find_progress(line: str, *, is_whole: bool = True) -> Found | None:
    """Return the progress in a line, with its label.

    In a line that may go on only a percentage counts: `1/2` may become `1/200`.
    """
    line = line[-LONGEST:]
    said = _find_percent(line) or (is_whole and (_find_sizes(line) or _find_count(line)))
    share, at = said or (None, 0)
    return None if share is None else Found(share, " ".join(_WORDS.findall(line[:at])))


def _find_percent(line: str) -> tuple[float, int] | None:
    if "%" not in line:
        return None
    for match in reversed(list(_PERCENT.finditer(line))):
        percent = float(match[1].replace(",", "."))
        if percent <= 100:
            return percent / 100, match.start()
    return None


def _find_sizes(line: str) -> tuple[float, int] | None:
    for match in _SIZES.finditer(line):
        done, own_unit, total, unit = match.groups()
        size = float(total) * _UNITS[unit.lower()]
        amount = float(done) * _UNITS[(own_unit or unit).lower()]
        if 0 <= amount <= size and size:
            return amount / size, match.start()
    return None


def _find_count(line: str) -> tuple[float, int] | None:
    for match in _COUNT.finditer(line):
        done, total = (float(text.replace(",", "")) for text in match.groups())
        if 0 <= done <= total and 1 < total < float("inf"):
            return done / total, match.start()
    return None


FULL_SHARE = 0.99
"""A share above this counts as full if it falls again: not all programs print 100%."""

MOST_COUNTS = 32
"""Labels that are remembered; the oldest counts as done when there are more."""


class Parts:
    """The sum of the progress of a program's parts.

    `git clone` counts to 100 four times, `docker pull` for each layer: each label is one unit, and
    one that was full and begins again is another. Both numbers only grow.
    """

    def __init__(self) -> None:
        self._shares: dict[str, float] = {}
        self._gone = 0

    def add_share(self, found: Found) -> tuple[float, int]:
        """Add the share of one label, and return how many units are done, of how many."""
        before = self._shares.get(found.label, 0.0)
        if before >= FULL_SHARE and found.share < before / 2:
            self._gone += 1
            before = 0.0
        self._shares[found.label] = max(before, found.share)
        if len(self._shares) > MOST_COUNTS:
            del self._shares[next(iter(self._shares))]
            self._gone += 1
        return self._gone + sum(self._shares.values()), self._gone + len(self._shares)
