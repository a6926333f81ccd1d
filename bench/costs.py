"""What one of everything costs: `python -m bench.costs [--quick] [--out FILE]`.

Times are processor time in µs, which others on the machine disturb less than the clock on the wall;
each is the median of several rounds. What is printed is what `bench.capacity` and
`bench.simulation` read.
"""

import argparse
import asyncio
import json
import os
import platform
import signal
import statistics
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench import spending
from bench.journal_costs import index, journals, published
from bench.redis_process import RedisProcess, redis_process
from bench.spending import Job, Site, serving, spend
from bench.standing import standing
from bench.wire import ERAS

FILE = Path(__file__).parent / "costs.json"
ROUNDS = 3
SHORT, LONG = 2, 22
"""Events of a run, twice: the difference is what events cost, the rest is what the run does."""

POINTS: tuple[tuple[int, bool], ...] = (
    (5, True), (20, True), (60, True), (150, True), (200, False),
)  # fmt: skip
"""Streams, and whether they are spread over the interval or all at the same moment."""

INTERVAL = 0.1
PINGS = 0.5

PARTS = (
    *("cpu", "redis.cpu", "redis.scripts", "redis.reads"),
    *("redis.received", "redis.sent", "redis.memory"),
)  # fmt: skip
"""What is told apart into events and runs."""

Row = dict[str, float]


def middle(rows: Sequence[Row]) -> Row:
    """The median of each figure, as exact as it is."""
    return {name: _round(statistics.median(row[name] for row in rows)) for name in rows[0]}


def _round(value: float) -> float:
    return float(f"{value:.4g}")


async def rounds(count: int, sites: dict[str, Site], jobs: dict[str, Job]) -> dict[str, Any]:
    """Every job on every site in turn: `figures[site][job]`."""
    rows: dict[str, dict[str, list[Row]]] = {name: {job: [] for job in jobs} for name in sites}
    for number in range(count):
        for job_name, job in jobs.items():
            say(f"round {number + 1} of {count}: {job_name}")
            for name, site in sites.items():
                rows[name][job_name].append(await spend(site, job))
    return {name: {job: middle(some) for job, some in row.items()} for name, row in rows.items()}


def event_and_run(short: Row, long: Row, streams: int) -> tuple[Row, Row]:
    """What one event costs, and what one run does without its events."""
    names = [name for name in short if name in PARTS]
    event: Row = {}
    run: Row = {}
    for name in names:
        few, many = short[name] * short["count"], long[name] * long["count"]
        event[name] = _round((many - few) / (long["count"] - short["count"]))
        run[name] = _round((few - event[name] * short["count"]) / streams)
    return event, run


def paced_jobs(points: Iterable[tuple[int, bool]]) -> dict[str, Job]:
    """Each point with few events and with more."""
    return {
        f"{streams} {'spread' if spread else 'at once'} {events}": spending.trickle(
            "2026", streams, events, INTERVAL, spread=spread
        )
        for streams, spread in points
        for events in (SHORT, LONG)
    }


def point(found: dict[str, Row], streams: int, spread: bool) -> dict[str, Any]:
    """What a load of paced streams took; `rate` is events a second as they came, `turn` the
    seconds that a process waited for a core whenever it had something to do."""
    name = f"{streams} {'spread' if spread else 'at once'}"
    short, long = found[f"{name} {SHORT}"], found[f"{name} {LONG}"]
    event, run = event_and_run(short, long, streams)
    rate = _round(long["rate"])
    turns = (
        {
            "replica": _round(long["waited"] / max(1e-9, long["turns"])),
            "redis": _round(long["redis.waited"] / max(1e-9, long["redis.turns"])),
        }
        if "redis.cpu" in long
        else {}
    )
    return {
        "streams": streams,
        "spread": spread,
        "rate": rate,
        "event": event,
        "run": run,
        "turn": turns,
    }


def points_of(redis: RedisProcess, count: int) -> list[dict[str, Any]]:
    """The paced loads of a replica on Redis: what the simulation is held against."""
    with serving(redis.url, redis) as site:
        found = asyncio.run(rounds(count, {"redis": site}, paced_jobs(POINTS)))["redis"]
    return [point(found, *place) for place in POINTS]


async def served(redis: RedisProcess, count: int) -> dict[str, Any]:
    """What servers and their Redis spend on calls, events, sessions and silence."""
    urls = {"memory": "memory:", "sqlite": "sqlite:///{directory}/journal.db", "redis": redis.url}
    jobs: dict[str, Job] = {}
    for era in ERAS:
        jobs |= {f"call {era}": spending.calls(era), f"burst event {era}": spending.bursts(era)}
    jobs["session"] = spending.sessions()
    with ExitStack() as stack:
        sites = {
            name: stack.enter_context(serving(url, redis if name == "redis" else None))
            for name, url in urls.items()
        }
        units = await rounds(count, sites, jobs)
        others = {name: site for name, site in sites.items() if name != "redis"}
        paced = await rounds(count, others, paced_jobs(POINTS[2:3]))
    for name, rows in paced.items():
        units[name]["paced event"] = point(rows, *POINTS[2])["event"]
    with serving("memory:", None, f"ping={PINGS}") as pinging, serving("memory:") as silent:
        quiet = await rounds(
            count, {"ping": pinging, "none": silent}, {"second": spending.silence(400, 3.0)}
        )
    extra = quiet["ping"]["second"]["cpu"] - quiet["none"]["second"]["cpu"]
    return {"units": units, "ping": _round(extra * PINGS)}


def machine(redis: RedisProcess) -> dict[str, Any]:
    """What the figures hold for."""
    return {
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "redis": redis.version,
    }


def say(line: str) -> None:
    """Tell how far it is, beside the report."""
    print(line, file=sys.stderr, flush=True)


def measure(count: int) -> dict[str, Any]:
    """All costs."""
    with redis_process() as redis:
        facts = {"machine": machine(redis), **asyncio.run(served(redis, count))}
        facts["points"] = points_of(redis, count)
        say("journals without servers")
        facts["journals"] = [asyncio.run(journals(redis)) for _ in range(count)]
        facts["journals"] = {
            name: middle([one[name] for one in facts["journals"]]) for name in facts["journals"][0]
        }
        say("the lists of unfinished runs")
        facts["index"] = middle([asyncio.run(index(redis)) for _ in range(count)])
        say("memory")
        facts["standing"] = asyncio.run(standing(redis))
    say("news in a Cluster")
    facts["published"] = middle([published() for _ in range(count)])
    return facts


def main() -> None:
    """Measure, and write it down."""
    parser = argparse.ArgumentParser(prog="python -m bench.costs", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round: it works")
    parser.add_argument("--out", type=Path, default=None, help=f"a file, such as {FILE.name}")
    parser.add_argument("--points", action="store_true", help="only the paced loads, anew")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda _signal, _frame: sys.exit("ended by SIGTERM"))
    count = 1 if options.quick else ROUNDS
    if options.points:
        with redis_process() as redis:
            facts = {**json.loads(FILE.read_text()), "points": points_of(redis, count)}
    else:
        facts = measure(count)
    text = json.dumps(facts, indent=1) + "\n"
    if options.out is None:
        print(text, end="")
    else:
        options.out.write_text(text)


if __name__ == "__main__":
    main()
