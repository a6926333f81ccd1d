"""Prometheus metrics of an app.

Everything is looked up when `/metrics` is read: values of the moment where they are, and what is
over in the counters. There are no arguments, callers, sessions or ids of runs in it. The only names
are those of tools and settings, so the number of lines is bounded whatever clients send.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from itertools import accumulate
from math import inf
from typing import Final

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector, CollectorRegistry

from headway.counters import Histogram
from headway.engine import Engine, FairSemaphore, lost_outputs
from headway.observability.metrics_of_processes import (
    Distribution,
    Labels,
    Snapshot,
    Snapshots,
    Values,
    add_distributions,
    add_values,
    labelled,
    listed,
    take_largest,
)
from headway.rate_limits import parse_rate
from headway.run_state import State
from headway.settings import BOUNDS
from headway.start_and_stop import Life
from headway.stream_names import SESSION_STREAMS
from headway.transport.http.request_rates import RequestRates
from headway.transport.http.unfinished_requests import UnfinishedRequests
from headway.transport.open_responses import OpenResponses
from headway.transport.sessions.registry import Sessions

LIVE: Final = (State.QUEUED, State.WORKING, State.INPUT_REQUIRED)


class Metrics(Collector):
    """The metrics of one app, for its own page or for another registry.

    To be read on the event loop that serves the app.
    """

    def __init__(self, life: Callable[[], Life]) -> None:
        """`life` returns the life to measure: the newest, where there were several."""
        self._life = life
        self.snapshots: Snapshots | None = None
        """The counts of other processes on the same port; None where there are none."""

    @property
    def engine(self) -> Engine:
        """The engine, which has the runs."""
        return self._life().engine

    @property
    def sessions(self) -> Sessions:
        """The 2025 sessions."""
        return self._life().sessions

    @property
    def responses(self) -> OpenResponses:
        """The open answers."""
        return self._life().transport.responses

    @property
    def arrivals(self) -> UnfinishedRequests:
        """The requests that are still arriving."""
        return self._life().transport.arrivals

    @property
    def rates(self) -> RequestRates:
        """How often callers send requests."""
        return self._life().transport.rates

    @cached_property
    def registry(self) -> CollectorRegistry:
        """A registry with nothing but these metrics."""
        registry = CollectorRegistry()
        registry.register(self)
        return registry

    def page(self, accept: str) -> tuple[bytes, str]:
        """Return all metrics as text, and the media type; `accept` is the reader's header."""
        encode, kind = choose_encoder(accept)
        return encode(self.registry), kind

    def collect(self) -> Iterator[Metric]:
        """Yield all families, as they are at the moment, of all processes on this port."""
        others = [] if self.snapshots is None else self.snapshots.read_others()
        for family in GAUGES:
            seen = [family.read(self), *(labelled(each.gauges, family.name) for each in others)]
            yield _fill_family(family, GaugeMetricFamily, family.combine(seen))
        for family in COUNTERS:
            seen = [family.read(self), *(labelled(each.counters, family.name) for each in others)]
            yield _fill_family(family, CounterMetricFamily, family.combine(seen))
        for shape in HISTOGRAMS:
            own = _read_distributions(shape, self)
            rest = (labelled(each.histograms, shape.name) for each in others)
            yield _fill_histogram(shape, add_distributions([own, *rest]))

    def write_snapshot(self) -> None:
        """Write what this process has counted, for the others on its port."""
        if self.snapshots is not None:
            self.snapshots.write(
                Snapshot(
                    {family.name: listed(_as_floats(family.read(self))) for family in GAUGES},
                    {family.name: listed(_as_floats(family.read(self))) for family in COUNTERS},
                    {shape.name: listed(_read_distributions(shape, self)) for shape in HISTOGRAMS},
                )
            )


@dataclass(frozen=True, slots=True)
class Family:
    """A metric: its name, its help, its labels, and the function that reads it."""

    name: str
    says: str
    labels: tuple[str, ...]
    read: Callable[[Metrics], Values]
    combine: Callable[[Iterable[Values]], Values] = add_values
    """Makes one of the values of several processes."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A metric of a distribution, likewise."""

    name: str
    says: str
    labels: tuple[str, ...]
    read: Callable[[Metrics], Mapping[tuple[str, ...], Histogram]]


def _as_floats(values: Values) -> Values:
    return {labels: float(value) for labels, value in values.items()}


def _read_distributions(shape: Shape, metrics: Metrics) -> dict[Labels, Distribution]:
    return {
        labels: Distribution(list(seen.bounds), list(seen.counts), seen.total)
        for labels, seen in shape.read(metrics).items()
    }


def _fill_family(
    family: Family, kind: type[GaugeMetricFamily | CounterMetricFamily], values: Values
) -> Metric:
    metric = kind(family.name, family.says, labels=family.labels)
    for labels, value in values.items():
        metric.add_metric(labels, value)
    return metric


def _fill_histogram(shape: Shape, values: Mapping[Labels, Distribution]) -> Metric:
    metric = HistogramMetricFamily(shape.name, shape.says, labels=shape.labels)
    for labels, seen in values.items():
        bounds = ["+Inf" if bound == inf else str(bound) for bound in seen.bounds]
        buckets = list(zip(bounds, accumulate(seen.counts), strict=True))
        metric.add_metric(labels, buckets, seen.total)
    return metric


def _one_value(value: float) -> Values:
    return {(): value}


def _by_name(read_values: Mapping[str, float]) -> Values:
    return {(name,): value for name, value in read_values.items()}


# What goes on


def _read_in_use(metrics: Metrics) -> Values:
    """Return how much of each limit is in use at the moment."""
    engine, places = metrics.engine, metrics.engine.admission
    taken = {
        "max_runs": places.all.taken,
        "threads": places.threads.taken,
        "max_queue": places.waiting,
        "requests_each": metrics.rates.most_of_one,
        "max_runs_each": max(map(len, places.of_callers.values()), default=0),
        "max_open": len(engine.runs),
        "max_arriving": metrics.arrivals.held,
        "max_open_each": max(places.open_of.values(), default=0),
        "max_sessions": len(metrics.sessions),
        "max_sessions_each": metrics.sessions.known.most_of_one,
        "max_session_bytes": metrics.sessions.room.held,
        "max_session_streams": metrics.responses.most_of_one,
        "max_keys": engine.services.names.number,
        "max_keys_each": engine.services.names.most_of_one,
        "keep.max_bytes": engine.journal.usage.held,
    }
    if engine.counters.connections is not None:
        taken["max_connections"] = engine.counters.connections
    return _by_name(taken)


def _read_limits(metrics: Metrics) -> Values:
    engine, limits = metrics.engine, dict[str, float]()
    for name in BOUNDS:
        where = engine.journal.retention if name.startswith("keep.") else engine.settings
        limits[name] = _number_of(getattr(where, name.removeprefix("keep.")))
    if engine.counters.most_connections:
        limits["max_connections"] = engine.counters.most_connections
    return _by_name(limits)


def _number_of(limit: float | str) -> float:
    """Return a limit as a number; of a rate how many may come at once."""
    if isinstance(limit, str):
        return parse_rate(limit).most if limit else 0
    return limit


def _count_runs(metrics: Metrics) -> Values:
    streams = (run.events for run in metrics.engine.runs.values())
    states = Counter(events.state for events in streams if events.recorded)
    return {(state.value,): states[state] for state in LIVE}


def _of_tools(read: Callable[[FairSemaphore], float]) -> Callable[[Metrics], Values]:
    def values(metrics: Metrics) -> Values:
        gates = metrics.engine.admission.of_tools
        return {(tool,): read(gate) for tool, gate in gates.items()}

    return values


def _count_stuck(metrics: Metrics) -> Values:
    """Count stuck calls by tool, with 0 where there are none any more: a gauge that vanishes seems
    to keep its value.
    """
    return _by_name(metrics.engine.counters.by_tool(metrics.engine.admission.stuck))


def _count_streams(metrics: Metrics) -> Values:
    of_sessions = metrics.responses.count_readers(SESSION_STREAMS)
    return {("session",): of_sessions, ("request",): len(metrics.responses) - of_sessions}


_VERSION: Final = version("headway")

GAUGES: Final = (
    Family(
        "headway_build_info",
        "Always 1; its label is the version that runs.",
        ("version",),
        lambda _: {(_VERSION,): 1},
        take_largest,
    ),
    Family(
        "headway_limit",
        "What the operator set, or the default: a number, bytes or seconds.",
        ("setting",),
        _read_limits,
        take_largest,
    ),
    Family(
        "headway_in_use",
        "How much of a limit is taken now, in the process that takes most of it; "
        "of one for each caller or session, by the largest.",
        ("setting",),
        _read_in_use,
        take_largest,
    ),
    Family(
        "headway_runs",
        "Tool calls that have not ended, repetitions included.",
        ("state",),
        _count_runs,
    ),
    Family(
        "headway_tool_limit",
        "Calls of a tool that may run at once, where its author said so.",
        ("tool",),
        _of_tools(lambda gate: gate.limit),
        take_largest,
    ),
    Family(
        "headway_tool_in_use",
        "Calls of such a tool that run now; one that was stopped and does not stop counts "
        "until it does.",
        ("tool",),
        _of_tools(lambda gate: gate.taken),
        take_largest,
    ),
    Family(
        "headway_tool_stuck",
        "Calls of a tool that were stopped and answered and whose function goes on, "
        "in its thread and its place.",
        ("tool",),
        _count_stuck,
    ),
    Family(
        "headway_tool_queued",
        "Calls of such a tool that wait for the others.",
        ("tool",),
        _of_tools(lambda gate: gate.queued),
    ),
    Family(
        "headway_open_streams",
        "Answers being read: to a request, or a session's own stream (GET).",
        ("of",),
        _count_streams,
    ),
    Family(
        "headway_journal_memory_bytes",
        "Bytes that the journal holds in memory.",
        (),
        lambda metrics: _one_value(metrics.engine.journal.usage.in_memory),
    ),
    Family(
        "headway_journal_memory_streams",
        "Streams that the journal holds in memory.",
        (),
        lambda metrics: _one_value(metrics.engine.journal.usage.streams),
    ),
    Family(
        "headway_journal_pending_bytes",
        "Bytes that wait for the journal's storage.",
        (),
        lambda metrics: _one_value(metrics.engine.journal.usage.pending),
    ),
    Family(
        "headway_journal_behind",
        "1 while so much waits for the storage that new calls are refused.",
        (),
        lambda metrics: _one_value(metrics.engine.journal.is_behind),
        take_largest,
    ),
    Family(
        "headway_draining",
        "1 from when the server was told to stop.",
        (),
        lambda metrics: _one_value(metrics.engine.services.lifecycle.is_draining),
        take_largest,
    ),
)


# What is over


def _count_limits_reached(metrics: Metrics) -> Values:
    """Return how often each limit was reached, also by runs that go on."""
    engine = metrics.engine
    of_tools = ("concurrency", "concurrency_each")
    times = Counter[str](dict.fromkeys((*BOUNDS, *of_tools), 0))
    times.update(engine.counters.reached)
    times.update(engine.journal.usage.dropped)
    times["session_ttl"] += metrics.sessions.sweep.expired
    times.update(metrics.sessions.made_room)
    for run in engine.runs.values():
        times.update(lost_outputs(run))
    return _by_name(times)


COUNTERS: Final = (
    Family(
        "headway_limit_reached",
        "What was refused, cut, left out, dropped or kept waiting for a limit.",
        ("setting",),
        _count_limits_reached,
    ),
    Family(
        "headway_refusals",
        "Requests and connections refused, for a limit or for another reason.",
        ("status",),
        lambda metrics: _by_name({str(k): v for k, v in metrics.engine.counters.refused.items()}),
    ),
    Family(
        "headway_calls",
        "Tool calls executed here that have ended.",
        ("tool", "end"),
        lambda metrics: metrics.engine.counters.ends,
    ),
    Family(
        "headway_repeated_calls",
        "Calls that followed an earlier one with the same idempotency key.",
        (),
        lambda metrics: _one_value(metrics.engine.counters.repeated),
    ),
    Family(
        "headway_handed_over_calls",
        "Calls answered with a handle while they went on.",
        (),
        lambda metrics: _one_value(metrics.engine.counters.handed_over),
    ),
    Family(
        "headway_restarted_runs",
        "Runs of other processes begun anew here.",
        (),
        lambda metrics: _one_value(metrics.engine.counters.restarted),
    ),
    Family(
        "headway_resumed_streams",
        "Streams read on from an event id.",
        (),
        lambda metrics: _one_value(metrics.engine.counters.resumed),
    ),
    Family(
        "headway_audit_lost_records",
        "Calls, cancels and refusals that the audit log does not have, for want of room.",
        (),
        lambda metrics: _one_value(metrics.engine.counters.audit_lost),
    ),
    Family(
        "headway_merged_reports",
        "Progress reports that a newer one replaced before they were sent, of runs that ended.",
        (),
        lambda metrics: _one_value(metrics.engine.counters.merged),
    ),
)

HISTOGRAMS: Final = (
    Shape(
        "headway_call_seconds",
        "From when a tool call was accepted to its end, its time in the queue included.",
        ("tool",),
        lambda metrics: {(k,): v for k, v in metrics.engine.counters.call_seconds.items()},
    ),
    Shape(
        "headway_first_byte_seconds",
        "From when a request was understood to the first byte of its answer.",
        (),
        lambda metrics: {(): metrics.engine.counters.answer_seconds},
    ),
)
