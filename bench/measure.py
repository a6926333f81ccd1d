"""Runs the measures in interleaved rounds (A B C … A B C …) and keeps every sample."""

import statistics
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, get_args

from bench.contenders import Contender
from bench.cpu import Neighbours
from bench.jobs import AnyJob, Calls, Events, Memory, Paced
from bench.processes import LoadProcess, NotServing, ServerProcess
from bench.wire import ERAS, FIRST_ID, Wire

Measure = Literal["startup", "calls", "events", "paced", "memory"]
MEASURES: tuple[Measure, ...] = get_args(Measure)
CONCURRENCIES = (1, 32)
STREAMS = (1, 16)


def _first_request(contender: Contender, port: int) -> bytes:
    """The first request that a server can answer: a call, or the handshake where it needs one."""
    wire = Wire(port, contender.eras[-1])
    needs_session = wire.era == "2025"
    request = wire.initialize() if needs_session else wire.call("echo", {"text": "first"})
    return request.fill(FIRST_ID)


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of everything."""

    measures: tuple[Measure, ...] = MEASURES
    rounds: int = 3
    seconds: float = 0.5
    events: int = 1000
    paced_streams: int = 100
    paced_seconds: float = 4.0
    sessions: int = 2000
    open_streams: int = 500
    starts: int = 3


QUICK = Plan(
    rounds=1,
    seconds=0.1,
    events=500,
    paced_streams=20,
    paced_seconds=0.3,
    sessions=100,
    open_streams=50,
    starts=1,
)


@dataclass(slots=True)
class Samples:
    """Everything measured, by contender and figure, in the order of the rounds."""

    values: dict[str, dict[str, list[float]]] = field(
        default_factory=dict[str, dict[str, list[float]]]
    )
    problems: list[str] = field(default_factory=list[str])
    others: float | None = None
    """The share of the machine that processes of others used while speed was measured."""

    def add(self, contender: str, figure: str, value: float) -> None:
        """Keep a sample."""
        self.values.setdefault(contender, {}).setdefault(figure, []).append(value)

    def median(self, contender: str, figure: str) -> float | None:
        """The middle of the rounds, or None when there was none."""
        values = self.values.get(contender, {}).get(figure)
        return statistics.median(values) if values else None

    def ratio(self, one: str, other: str, figure: str) -> float | None:
        """The middle of the ratios of one round each."""
        ones = self.values.get(one, {}).get(figure, [])
        others = self.values.get(other, {}).get(figure, [])
        ratios = [a / b for a, b in zip(ones, others, strict=False) if b]
        return statistics.median(ratios) if ratios else None


class Bench:
    """One run of the benchmark. The contenders come with the time their import took once."""

    def __init__(
        self, plan: Plan, contenders: dict[Contender, float], say: Callable[[str], None]
    ) -> None:
        self._plan = plan
        self._contenders = list(contenders)
        self._say = say
        self._load = LoadProcess()
        self._failed: set[tuple[str, str]] = set()
        self.samples = Samples()
        if "startup" in plan.measures:
            for contender, seconds in contenders.items():
                if "startup" not in contender.measures:
                    continue
                self.samples.add(contender.name, "startup.import", seconds)

    def run(self) -> Samples:
        """Every measure of the plan."""
        try:
            if "startup" in self._plan.measures:
                self._start_up()
            if {"calls", "events", "paced"} & set(self._plan.measures):
                self._rates()
            if "memory" in self._plan.measures:
                self._memory()
        finally:
            self._load.stop()
        return self.samples

    def _start_up(self) -> None:
        for number in range(self._plan.starts):
            self._say(f"start-up, {number + 1} of {self._plan.starts}")
            for contender in self._contenders:
                if "startup" not in contender.measures:
                    continue
                with self._running(contender, "startup"):
                    pass
                if number:  # the first was made by asking whether it is there
                    self.samples.add(contender.name, "startup.import", contender.try_import()[0])

    def _rates(self) -> None:
        with ExitStack() as stack:
            servers: list[tuple[Contender, ServerProcess]] = []
            for contender in self._contenders:
                if {"calls", "events", "paced"} & set(contender.measures):
                    server = stack.enter_context(self._running(contender, "rates"))
                    servers.extend([] if server is None else [(contender, server)])
            neighbours = Neighbours([*(server.pid for _, server in servers), self._load.pid])
            for number in range(self._plan.rounds):
                for figure, make in self._rate_jobs(number):
                    self._say(f"round {number + 1} of {self._plan.rounds}: {figure}")
                    for contender, server in servers:
                        measure, era, *_ = figure.split(".")
                        if measure in contender.measures and era in contender.eras:
                            self._sample(contender, figure, make(port=server.port, pid=server.pid))
            with suppress(OSError):  # one of ours may have died; that is told elsewhere
                self.samples.others = neighbours.share()

    def _rate_jobs(self, number: int) -> Iterator[tuple[str, Callable[..., AnyJob]]]:
        """What is measured in a round: the name of a figure, and its job but for the server."""
        plan = self._plan
        for era in ERAS:
            if "calls" in plan.measures:
                for n in CONCURRENCIES:
                    make = partial(Calls, era=era, connections=n, seconds=plan.seconds)
                    yield f"calls.{era}.{n}", make
            if "events" in plan.measures:
                size = {"events": plan.events, "seconds": plan.seconds}
                for n in STREAMS:
                    yield f"events.{era}.{n}", partial(Events, era=era, streams=n, **size)
            if "paced" in plan.measures and number == 0:
                size = {"streams": plan.paced_streams, "seconds": plan.paced_seconds}
                yield f"paced.{era}", partial(Paced, era=era, interval=0.1, **size)

    def _memory(self) -> None:
        for contender in self._contenders:
            if "memory" not in contender.measures:
                continue
            self._say(f"memory: {contender.name}")
            with self._running(contender, "memory") as server:
                if server is not None:
                    job = Memory(
                        port=server.port,
                        pid=server.pid,
                        sessions=self._plan.sessions,
                        streams=self._plan.open_streams,
                    )
                    self._sample(contender, "memory", job)

    @contextmanager
    def _running(self, contender: Contender, purpose: str) -> Iterator[ServerProcess | None]:
        """The contender's server, answering; None where it does not come up (a problem)."""
        if (contender.name, purpose) in self._failed:
            yield None
            return
        server = ServerProcess(contender.command)
        try:
            try:
                first = server.first_answer(_first_request(contender, server.port))
            except NotServing as problem:
                self._fail(contender, purpose, str(problem))
                yield None
                return
            if purpose == "startup":
                self.samples.add(contender.name, "startup.first", first)
            yield server
        finally:
            server.stop()

    def _sample(self, contender: Contender, figure: str, job: AnyJob) -> None:
        if (contender.name, figure) in self._failed:
            return
        outcome = self._load.perform(job)
        if outcome.error is not None:
            self._fail(contender, figure, outcome.error)
        for name, value in outcome.figures.items():
            if value is not None:
                self.samples.add(contender.name, f"{figure}.{name}", value)

    def _fail(self, contender: Contender, figure: str, why: str) -> None:
        self._failed.add((contender.name, figure))
        self.samples.problems.append(f"{contender.name} {figure}: {why}")
        self._say(f"PROBLEM {self.samples.problems[-1]}")
