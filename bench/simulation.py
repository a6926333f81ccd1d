"""A fleet in small: `python -m bench.simulation` meets what was measured.

Replicas and Redis nodes are cores that do one thing after the other. A stream's reports come at its
interval; a replica makes each an entry and a frame, and has one commit under way at a time, which
takes along all that came since the one before, and begins some time after it. That is where the
cost of Redis comes from, and why it falls as the rate grows: how much a commit takes along is not
put in, it comes out.
"""

import heapq
import itertools
import math
import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from bench.units import Units, calibrate, load
from headway.journal.group_commit import COMMIT_INTERVAL

READ = 16_384
"""Bytes that Redis takes from a connection at a time."""

RATE, SECONDS = 10.0, 2.2
"""Of the measured loads: how often a tool reports if it is never late, and for how long."""

SEEDS = 10
"""Simulations of a measured load: who waits when is chance."""

NETWORK = 0.0002
"""Seconds to Redis and back; within one data centre. On one machine less, but there every process
waits for its turn."""


Spread = Literal["by chance", "evenly", "at once"]


@dataclass(frozen=True, slots=True)
class Fleet:
    """What is simulated."""

    streams: int
    rate: float
    """Events a second of each stream."""
    replicas: int = 1
    nodes: int = 1
    seconds: float = 5.0
    network: float = NETWORK
    window: float = COMMIT_INTERVAL
    """Seconds between the beginnings of two commits of a replica, at least."""
    turn: float = 0.0
    """Seconds that a replica waits for a core when it has something to do, in the mean; where
    cores are idle next to nothing."""
    redis_turn: float = 0.0
    spread: Spread = "by chance"
    """When in their interval the streams report."""
    seed: int = 1


@dataclass(slots=True)
class Core:
    """One process: when its core is free, and what of a replica waits for its next commit."""

    chance: random.Random
    turn: float = 0.0
    free: float = 0.0
    busy: float = 0.0
    waiting: list[tuple[int, float]] = field(default_factory=list[tuple[int, float]])
    """Streams, and since when."""
    is_writing: bool = False
    """Whether a commit is under way, or has its time."""
    begun: float = -math.inf
    """When the last one began."""

    def work(self, now: float, seconds: float) -> float:
        """Do something as soon as the core is free; when it is done."""
        begin = self.free
        if begin <= now:
            begin = now + (self.chance.expovariate(1 / self.turn) if self.turn else 0.0)
        self.free = begin + seconds
        self.busy += seconds
        return self.free

    def go_on(self, seconds: float) -> float:
        """Do something more without letting go of the core; when it is done."""
        self.free += seconds
        self.busy += seconds
        return self.free


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came out, for each event; the shares are of a core."""

    events: int
    replica: float
    redis: float
    reads: float
    delay: float
    """Seconds from a report to the answer of its commit: the middle."""
    delay_99: float
    busy_replica: float
    busy_redis: float


class Simulation:
    """One fleet, from the first report to the last answer."""

    def __init__(self, units: Units, fleet: Fleet) -> None:
        self._units = units
        self._fleet = fleet
        self._order = itertools.count()
        self._agenda: list[tuple[float, int, Callable[[float], None]]] = []
        self._chance = random.Random(fleet.seed)
        self._replicas = [Core(self._chance, fleet.turn) for _ in range(fleet.replicas)]
        self._nodes = [Core(self._chance, fleet.redis_turn) for _ in range(fleet.nodes)]
        self._delays: list[float] = []
        self._reads = 0

    def run(self) -> Outcome:
        """Let the time go by."""
        fleet = self._fleet
        for stream in range(fleet.streams):
            self._at(self._share(stream) / fleet.rate, self._report(stream))
        while self._agenda:
            now, _, step = heapq.heappop(self._agenda)
            step(now)
        count = len(self._delays)
        delays = sorted(self._delays)
        ends = max(core.free for core in self._replicas)
        replica, redis = (sum(c.busy for c in cores) for cores in (self._replicas, self._nodes))
        return Outcome(
            count,
            replica / count,
            redis / count,
            self._reads / count,
            statistics.median(delays),
            delays[int(count * 0.99)],
            max(core.busy for core in self._replicas) / ends,
            max(core.busy for core in self._nodes) / ends,
        )

    def _share(self, stream: int) -> float:
        """How much of the interval goes by until a stream's first report."""
        match self._fleet.spread:
            case "at once":
                return 0.0
            case "evenly":
                return stream / self._fleet.streams
            case "by chance":
                return self._chance.random()

    def _at(self, when: float, step: Callable[[float], None]) -> None:
        heapq.heappush(self._agenda, (when, next(self._order), step))

    def _report(self, stream: int) -> Callable[[float], None]:
        replica = self._replicas[stream % len(self._replicas)]

        def step(now: float) -> None:
            done = replica.work(now, self._units.event)
            replica.waiting.append((stream, now))
            if not replica.is_writing:
                self._plan(replica, done)
            # As a tool that sleeps between two reports: what was late together stays together.
            following = done + 1 / self._fleet.rate
            if following < self._fleet.seconds:
                self._at(following, step)

        return step

    def _plan(self, replica: Core, now: float) -> None:
        replica.is_writing = True
        due = max(now, replica.begun + self._fleet.window)
        self._at(due, lambda then: self._commit(replica, then))

    def _commit(self, replica: Core, now: float) -> None:
        if now < replica.free:  # what came meanwhile is done first, and goes along
            self._at(replica.free, lambda then: self._commit(replica, then))
            return
        taken, replica.waiting = replica.waiting, []
        replica.free = replica.begun = max(replica.free, now)
        sent = replica.go_on(self._units.trip) + self._fleet.network / 2
        self._at(sent, lambda then: self._store(replica, taken, then))

    def _store(self, replica: Core, taken: list[tuple[int, float]], now: float) -> None:
        nodes, units = self._nodes, self._units
        parts = [0] * len(nodes)
        for stream, _ in taken:
            parts[stream // len(self._replicas) % len(nodes)] += 1
        ends = now
        for node, part in zip(nodes, parts, strict=True):
            news = (len(taken) - part) * units.news_bus
            if not part:
                node.work(now, news)
                continue
            reads = 1 + int(part * units.wire_in) // READ
            self._reads += reads
            ends = max(ends, node.work(now, reads * units.read + part * units.script + news))
        self._at(ends + self._fleet.network / 2, lambda then: self._answer(replica, taken, then))

    def _answer(self, replica: Core, taken: list[tuple[int, float]], now: float) -> None:
        heard = replica.work(now, 0.0)
        self._delays.extend(heard - since for _, since in taken)
        self._at(heard, lambda then: self._go_on(replica, then))

    def _go_on(self, replica: Core, now: float) -> None:
        replica.is_writing = False
        if replica.waiting:
            self._plan(replica, now)


def simulate(units: Units, fleet: Fleet) -> Outcome:
    """What a fleet does. The same fleet does the same every time."""
    return Simulation(units, fleet).run()


@dataclass(frozen=True, slots=True)
class Meeting:
    """A load that was measured, and what the simulation says of it."""

    streams: int
    rate: float
    figure: str
    measured: float
    simulated: float

    @property
    def ratio(self) -> float:
        """How far off it is."""
        return self.simulated / self.measured


def meetings(facts: dict[str, Any]) -> list[Meeting]:
    """Every measured load against the simulation, in µs for an event."""
    units = calibrate(facts)
    found: list[Meeting] = []
    for point in facts["points"]:
        streams, rate, event = point["streams"], point["rate"], point["event"]
        turn = point["turn"]
        fleet = Fleet(
            streams,
            RATE,
            seconds=SECONDS,
            spread="evenly" if point["spread"] else "at once",
            turn=turn["replica"],
            redis_turn=turn["redis"],
        )
        outcomes = [simulate(units, replace(fleet, seed=seed)) for seed in range(SEEDS)]
        replica = statistics.mean(one.replica for one in outcomes) * 1e6
        redis = statistics.mean(one.redis for one in outcomes) * 1e6
        found += [
            Meeting(streams, rate, "replica", event["cpu"], replica),
            Meeting(streams, rate, "redis", event["redis.cpu"], redis),
        ]
    return found


def main() -> None:
    """Print what was measured beside what is simulated."""
    print(
        f"{'streams':>8}{'events/s':>10}  {'µs for an event of':20}{'measured':>9}{'simulated':>11}"
    )
    for one in meetings(load()):
        print(
            f"{one.streams:8}{one.rate:10.0f}  {one.figure:20}{one.measured:9.0f}"
            f"{one.simulated:11.0f}{one.ratio:7.2f}x"
        )


if __name__ == "__main__":
    main()
