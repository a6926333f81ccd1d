"""Progress in a line of a program's output: percentages, `3/120`, `1.2/3.4 MB`.

A line is taken at its word only where it can hardly mean anything else: a percentage up to 100, or
a count that is not above its total and stands alone, so that dates, paths, versions and rates are
left alone.
"""

import re
from collections.abc import Callable

Scan = Callable[[str], float | None]
"""How much of the work is done after a line, from 0 to 1; None where it does not say."""

_PERCENT = re.compile(r"(?<![\w.,])(\d{1,3}(?:\.\d+)?)\s?%(?![\w%])")
_UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}
_SIZES = re.compile(
    r"(?<![\w.])(\d+(?:\.\d+)?)\s?(?:([kmgt])i?b)?\s?/\s?(\d+(?:\.\d+)?)\s?([kmgt])i?b(?!\w|/)",
    re.IGNORECASE,
)
_COUNT = re.compile(r"(?<![\w./:,-])(\d[\d,]*)\s?(?:/|of)\s?(\d[\d,]*)(?![\w/:-]|[.,]\d)")


def scan(line: str) -> float | None:
    """How much is done, from 0 to 1, if the line says so; of several the last percentage."""
    percent = [float(found) for found in _PERCENT.findall(line) if float(found) <= 100]
    if percent:
        return percent[-1] / 100
    return _sizes(line) or _count(line)


def _sizes(line: str) -> float | None:
    for done, own_unit, total, unit in _SIZES.findall(line):
        size = float(total) * _UNITS[unit.lower()]
        amount = float(done) * _UNITS[(own_unit or unit).lower()]
        if 0 <= amount <= size and size:
            return amount / size
    return None


def _count(line: str) -> float | None:
    for done, total in _COUNT.findall(line):
        amount, size = (int(text.replace(",", "")) for text in (done, total))
        if 0 <= amount <= size and size > 1:
            return amount / size
    return None
