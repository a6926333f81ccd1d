"""What Headway is to reach, as ratios within one run."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from bench.contenders import PEERS
from bench.measure import CONCURRENCIES, STREAMS, Samples
from bench.wire import ERAS

_OF_FLOOR: Final = {"2025": 3.5, "2026": 4.0}
_CALLS_OF_SDK: Final = {"2025": 5.0, "2026": 2.5}
_CALLS_OF_PEERS: Final = {"2025": 1.5, "2026": 2.0}
_EVENTS_OF_PEERS: Final = {"2025": 4.0, "2026": 3.0}


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
    """Every target: of an unchanged server first, then of one that was written for Headway."""
    for era in ERAS:
        what, figure = f"CPU of a call, {era}, 32 connections", f"calls.{era}.32.cpu"
        yield _cost(samples, what, ("unchanged", "floor"), figure, _OF_FLOOR[era])
    for era in ERAS:
        what, figure = f"calls/s, {era}, 32 connections", f"calls.{era}.32"
        yield _rate(samples, what, ("unchanged", "sdk"), figure, _CALLS_OF_SDK[era])
        for peer in _peers(samples, figure):
            yield _rate(samples, what, ("unchanged", peer), figure, _CALLS_OF_PEERS[era])
    loads = [(era, n, f"events/s, {era}, {n} streams") for era in ERAS for n in STREAMS]
    for era, n, what in loads:
        figure = f"events.{era}.{n}"
        for peer in _peers(samples, figure):
            yield _rate(samples, what, ("unchanged", peer), figure, _EVENTS_OF_PEERS[era])
            yield _rate(samples, what, ("headway", peer), figure, 2 * _EVENTS_OF_PEERS[era])
    for era, n, what in loads:
        yield _rate(samples, what, ("headway", "sdk"), f"events.{era}.{n}", 8)
    for era, n, what in loads:
        yield _rate(samples, what, ("headway", "floor-batch"), f"events.{era}.{n}", 0.4)
    for era in ERAS:
        for n in CONCURRENCIES:
            what = f"calls/s, {era}, {n} connections"
            yield _rate(samples, what, ("headway-handing", "headway"), f"calls.{era}.{n}", 0.95)
    yield _size(samples, "idle session", "memory.idle_session", 5)
    yield _size(samples, "session with open GET stream", "memory.get_stream", 25)
    for era in ERAS:
        what = f"CPU of paced streams, {era}"
        yield _cost(samples, what, ("headway", "sdk"), f"paced.{era}.percent", 0.4)
    for name in ("headway", "headway-cli"):
        yield _cost(samples, "start-up", (name, "sdk"), "startup.first", 1.2)
    for era in ERAS:
        what = f"calls/s, {era}, 32 connections"
        yield _rate(samples, what, ("headway-sqlite", "headway"), f"calls.{era}.32", 0.85)
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


def _cost(samples: Samples, what: str, pair: tuple[str, str], figure: str, most: float) -> Verdict:
    got = samples.ratio(*pair, figure)
    reached = got is not None and got <= most
    told = f"{what}: {pair[0]} / {pair[1]}"
    return Verdict(told, f"≤ {most:.3g}x", got, _text(got, 2, "x"), reached)


def _peers(samples: Samples, figure: str) -> list[str]:
    """The peers in other languages that were measured."""
    return [name for name in PEERS if samples.median(name, f"{figure}.rate") is not None]


def _size(samples: Samples, what: str, figure: str, most: float) -> Verdict:
    size = samples.median("headway", figure)
    got = None if size is None else size / 1000
    reached = got is not None and got <= most
    return Verdict(f"{what}: headway", f"≤ {most:g} kB", got, _text(got, 1, " kB"), reached)


def _text(got: float | None, digits: int, unit: str) -> str:
    return "not measured" if got is None else f"{got:.{digits}f}{unit}"
