"""What Headway is to reach (issue 2, "Speed and memory"), as ratios within one run."""

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bench.measure import CONCURRENCIES, STREAMS, Samples
from bench.wire import ERAS


@dataclass(frozen=True, slots=True)
class Verdict:
    """One target and what was got; `got` is None where it was not measured."""

    what: str
    target: str
    got: float | None
    text: str
    reached: bool


def verdicts(samples: Samples) -> Iterator[Verdict]:
    """Every target in the order of the issue."""
    for era in ERAS:
        for streams in STREAMS:
            what, figure = f"events/s, {era}, {streams} streams", f"events.{era}.{streams}.rate"
            yield _ratio(samples, what, ("headway", "sdk"), figure, at_least=8)
            yield _ratio(samples, what, ("headway", "floor-batch"), figure, at_least=0.4)
    for era in ERAS:
        for count in CONCURRENCIES:
            what, figure = f"calls/s, {era}, {count} connections", f"calls.{era}.{count}.rate"
            least = 4 if era == "2025" else 2
            yield _ratio(samples, what, ("headway", "sdk"), figure, at_least=least)
    yield _size(samples, "idle session", "memory.idle_session", 5)
    yield _size(samples, "session with open GET stream", "memory.get_stream", 25)
    for era in ERAS:
        what, figure = f"CPU of paced streams, {era}", f"paced.{era}.percent"
        yield _ratio(samples, what, ("headway", "sdk"), figure, at_most=1 / 3)
    for name in ("headway", "headway-cli"):
        what = f"start-up, {name}"
        yield _ratio(samples, what, (name, "sdk"), "startup.first", at_most=1.2)
    for era in ERAS:
        for streams in STREAMS:
            what, figure = f"events/s, {era}, {streams} streams", f"events.{era}.{streams}.rate"
            yield _ratio(samples, what, ("headway-sqlite", "headway"), figure, at_least=0.5)


def _ratio(
    samples: Samples,
    what: str,
    pair: tuple[str, str],
    figure: str,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
) -> Verdict:
    got = samples.ratio(*pair, figure)
    what = f"{what}: {pair[0]} / {pair[1]}"
    if at_least is not None:
        return _verdict(what, got, operator.ge, at_least, "x", ("≥", 2))
    return _verdict(what, got, operator.le, at_most or 0, "x", ("≤", 2))


def _size(samples: Samples, what: str, figure: str, most: float) -> Verdict:
    got = samples.median("headway", figure)
    got = None if got is None else got / 1000
    return _verdict(f"{what}: headway", got, operator.le, most, " kB", ("≤", 1))


def _verdict(
    what: str,
    got: float | None,
    compare: Callable[[float, float], bool],
    bound: float,
    unit: str,
    style: tuple[str, int],
) -> Verdict:
    sign, digits = style
    target = f"{sign} {bound:.2f}".rstrip("0").rstrip(".") + unit
    text = "not measured" if got is None else f"{got:.{digits}f}{unit}"
    return Verdict(what, target, got, text, got is not None and compare(got, bound))
