"""What Headway is to reach, as ratios within one run."""

from collections.abc import Iterator
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
    by_cpu: float | None = None
    """Of a rate: the same ratio from the CPU that the servers used, which others on the machine
    disturb less."""


def verdicts(samples: Samples) -> Iterator[Verdict]:
    """Every target in the order of the issue."""
    loads = [(era, n, f"events/s, {era}, {n} streams") for era in ERAS for n in STREAMS]
    for era, n, what in loads:
        yield _rate(samples, what, ("headway", "sdk"), f"events.{era}.{n}", 8)
    for era, n, what in loads:
        yield _rate(samples, what, ("headway", "floor-batch"), f"events.{era}.{n}", 0.4)
    for era in ERAS:
        for n in CONCURRENCIES:
            what, least = f"calls/s, {era}, {n} connections", 4 if era == "2025" else 2
            yield _rate(samples, what, ("headway", "sdk"), f"calls.{era}.{n}", least)
    for era in ERAS:
        for n in CONCURRENCIES:
            what = f"calls/s, {era}, {n} connections"
            yield _rate(samples, what, ("headway-handing", "headway"), f"calls.{era}.{n}", 0.95)
    yield _size(samples, "idle session", "memory.idle_session", 5)
    yield _size(samples, "session with open GET stream", "memory.get_stream", 25)
    for era in ERAS:
        yield _cost(
            samples, f"CPU of paced streams, {era}", "headway", f"paced.{era}.percent", 1 / 3
        )
    for name in ("headway", "headway-cli"):
        yield _cost(samples, "start-up", name, "startup.first", 1.2)
    for era, n, what in loads:
        yield _rate(samples, what, ("headway-sqlite", "headway"), f"events.{era}.{n}", 0.5)


def _rate(samples: Samples, what: str, pair: tuple[str, str], figure: str, least: float) -> Verdict:
    got = samples.ratio(*pair, f"{figure}.rate")
    cpu = samples.ratio(*pair, f"{figure}.cpu")
    return Verdict(
        f"{what}: {pair[0]} / {pair[1]}",
        f"≥ {least:g}x",
        got,
        _text(got, 2, "x"),
        got is not None and got >= least,
        1 / cpu if cpu else None,
    )


def _cost(samples: Samples, what: str, name: str, figure: str, most: float) -> Verdict:
    got = samples.ratio(name, "sdk", figure)
    reached = got is not None and got <= most
    return Verdict(f"{what}: {name} / sdk", f"≤ {most:.3g}x", got, _text(got, 2, "x"), reached)


def _size(samples: Samples, what: str, figure: str, most: float) -> Verdict:
    size = samples.median("headway", figure)
    got = None if size is None else size / 1000
    reached = got is not None and got <= most
    return Verdict(f"{what}: headway", f"≤ {most:g} kB", got, _text(got, 1, " kB"), reached)


def _text(got: float | None, digits: int, unit: str) -> str:
    return "not measured" if got is None else f"{got:.{digits}f}{unit}"
