"""The model of how far it goes: it meets what was measured, and it agrees with itself."""

from dataclasses import replace

import pytest
from bench.capacity import (
    Need,
    cell_of,
    largest,
    node_busy,
    per_replica,
    plan,
    replica_busy,
)
from bench.simulation import Fleet, Meeting, meetings, simulate
from bench.units import Units, calibrate, load

TOLERANCE = 1.5
"""How far off the simulation may be from what was measured on a busy machine. docs/scaling.md says
so too."""

FACTS = load()
UNITS = calibrate(FACTS)
NOTHING = dict.fromkeys(("run", "run_scripts", "look", "look_redis", "name", "name_redis"), 0.0)
ALONE = replace(UNITS, **NOTHING)
"""What a fleet costs that does nothing but write events: what is simulated."""


@pytest.fixture(scope="module")
def met() -> list[Meeting]:
    """Every measured load against the simulation."""
    return meetings(FACTS)


@pytest.mark.parametrize("number", range(2 * len(FACTS["points"])))
def test_the_simulation_meets_what_was_measured(met: list[Meeting], number: int) -> None:
    assert 1 / TOLERANCE < met[number].ratio < TOLERANCE, met[number]


def test_the_same_fleet_does_the_same_every_time() -> None:
    fleet = Fleet(40, 5.0, replicas=2)

    assert simulate(UNITS, fleet) == simulate(UNITS, fleet)
    assert simulate(UNITS, fleet) != simulate(UNITS, replace(fleet, seed=2))


def test_every_report_is_stored_once_whatever_the_fleet() -> None:
    for replicas, nodes in ((1, 1), (3, 1), (2, 4)):
        outcome = simulate(UNITS, Fleet(60, 5.0, replicas, nodes, seconds=2.0))

        assert outcome.events == 60 * 5 * 2


def test_the_more_events_the_more_go_with_one_commit() -> None:
    reads = [simulate(UNITS, Fleet(streams, 4.0)).reads for streams in (5, 50, 500)]

    assert reads == sorted(reads, reverse=True)
    assert reads[-1] < reads[0]


@pytest.mark.parametrize(("streams", "replicas"), [(40, 1), (200, 1), (300, 3), (600, 2)])
def test_the_formulas_agree_with_the_simulation(streams: int, replicas: int) -> None:
    rate = 4.0
    need = Need(streams, rate, duration=1e9)
    outcome = simulate(ALONE, Fleet(streams, rate, replicas, seconds=20.0))

    mine = replica_busy(ALONE, need, streams / replicas, streams, replicas)
    theirs = node_busy(ALONE, need, streams, replicas, 1)

    assert mine == pytest.approx(outcome.busy_replica, rel=0.15)
    assert theirs == pytest.approx(outcome.busy_redis, rel=0.25)


def test_unit_costs_are_found_again_in_what_a_fleet_of_them_does() -> None:
    known = replace(UNITS, event=2e-4, trip=3e-4, script=4e-5, read=9e-5)
    points = [_point(known, Fleet(streams, 10.0)) for streams in (5, 60)]

    found = calibrate(
        {**FACTS, "points": [*points, _point(known, Fleet(200, 10.0, spread="at once"))]}
    )

    for name in ("event", "trip", "script", "read"):
        assert getattr(found, name) == pytest.approx(getattr(known, name), rel=0.1), name


def _point(units: Units, fleet: Fleet) -> dict[str, object]:
    outcome = simulate(units, fleet)
    event = {
        "cpu": outcome.replica * 1e6,
        "redis.cpu": outcome.redis * 1e6,
        "redis.reads": outcome.reads,
        "redis.received": units.wire_in,
    }
    return {"streams": fleet.streams, "event": event}


@pytest.mark.parametrize("rate", [0.1, 1.0, 4.0])
def test_a_replica_has_as_many_streams_as_fit_and_one_more_does_not(rate: float) -> None:
    need = Need(1000, rate, connections=10**9, replica_bytes=1e18)
    most, limit = per_replica(UNITS, need, 1000)

    def busy(streams: int) -> float:
        return replica_busy(UNITS, need, streams, 1000, -(-1000 // streams))

    assert limit == "processor"
    assert busy(most) <= need.busy < busy(most + 1)


def test_what_a_replica_has_the_least_of_is_named() -> None:
    slow = Need(1000, 0.01, duration=1e6)

    assert per_replica(UNITS, replace(slow, connections=100), 1000) == (100, "connections")
    assert per_replica(UNITS, replace(slow, replica_bytes=50 * UNITS.run_bytes), 1000) == (
        50,
        "memory",
    )


@pytest.mark.parametrize("rate", [0.1, 1.0, 4.0])
def test_ten_million_streams_need_cells_that_hold_them_all(rate: float) -> None:
    need = Need(10_000_000, rate)
    cells, cell = plan(UNITS, need)

    assert cells > 1
    assert cells * cell.streams >= need.streams
    assert node_busy(UNITS, need, cell.streams, cell.replicas, cell.nodes) <= need.busy


def test_one_cell_cannot_grow_for_ever() -> None:
    need = Need(1, 0.1)
    most = largest(UNITS, need)

    assert cell_of(UNITS, need, 2 * most) is None


def test_news_that_every_node_hears_bound_a_cell() -> None:
    need = Need(1, 4.0)
    deaf = replace(UNITS, news_bus=0.0)

    assert largest(deaf, need) > largest(UNITS, need)
