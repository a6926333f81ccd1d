"""Numbers, rates and times as people write them."""

from typing import Final

SI_FROM: Final = 1_000_000
"""Numbers from here on are written with three digits and a prefix: a count of bytes, mostly."""

_PREFIXES: Final = ("", "k", "M", "G", "T", "P", "E")


def count(value: float) -> str:
    """Return a progress value as people write it: `37`, `37.5`."""
    return f"{value:.1f}".removesuffix(".0")


def si(value: float) -> str:
    """Return a number with three digits and a prefix: `966M`, `1.07G`."""
    step = 0
    while abs(value) >= 999.5 and step < len(_PREFIXES) - 1:
        value, step = value / 1000, step + 1
    digits = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    text = f"{value:.{digits}f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text}{_PREFIXES[step]}"


def amount(value: float, total: float | None) -> str:
    """Return how far something is: `37/120`, `966M/1.07G`, `37`."""
    write = si if max(value, total or 0) >= SI_FROM else count
    return write(value) if total is None else f"{write(value)}/{write(total)}"


def rate(speed: float) -> str:
    """Return a speed: `4.8/s`, `5516/s`, `365M/s`."""
    if speed >= SI_FROM:
        return f"{si(speed)}/s"
    return f"{speed:.0f}/s" if speed >= 100 else f"{speed:.1f}/s"


def seconds(value: float) -> str:
    """Return a time: `3 s`, `2 min 5 s`, `1 h 2 min`."""
    whole = int(value)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def about(value: float) -> str:
    """Return a time that is only known roughly: `6 s`, `2 min`, `3 h`."""
    if value < 60:
        return f"{max(1, round(value))} s"
    return f"{round(value / 60)} min" if value < 5400 else f"{round(value / 3600)} h"


def time_taken(seconds: float | None) -> str:
    """Return how long something took, in few columns: `13 ms`, `2.1 s`, `3m12s`, `2h05m`."""
    if seconds is None:
        return "-"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    for large, small, names in ((86400, 3600, "dh"), (3600, 60, "hm"), (60, 1, "ms")):
        if whole >= large:
            return f"{whole // large}{names[0]}{whole % large // small:02}{names[1]}"
    return f"{whole} s"
