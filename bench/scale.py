"""One, two and three replicas on one Redis, and one on each journal: `python -m bench.scale`.

All rows take turns in every round of one run; ratios are to be compared, not rates. On a machine
with fewer cores than there are busy processes (replicas, Redis, the clients) the rate cannot grow
with the replicas; what a replica and Redis spend on an event can be read all the same: where that
stays as it is, another core is another replica's worth of events, until Redis has a core's worth.
"""

import argparse
import asyncio
import os
import signal
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass

from bench.cpu import cpu_of
from bench.processes import NotServing
from bench.redis_process import NoRedis, RedisProcess, redis_process
from bench.spending import Job, Site, bursts, calls, serving, trickle

ROUNDS = 5
STREAMS = 24
"""Of all replicas together: each row does the same work."""


@dataclass(frozen=True, slots=True)
class Row:
    """What was spent on a unit of work, in µs, and how many there were in a second."""

    rate: float
    replica: float
    redis: float


def jobs(among: int, *, quick: bool) -> dict[str, Job]:
    """The work of one of `among` replicas."""
    mine = STREAMS // among
    each = 10 if quick else 40
    return {
        "events back to back": bursts("2026", mine, 20 * each),
        "events at 10/s": trickle("2026", mine, each, 0.1),
        "calls 2025": calls("2025", mine, each),
        "calls 2026": calls("2026", mine, each),
    }


async def together(sites: Sequence[Site], redis: RedisProcess, name: str, *, quick: bool) -> Row:
    """One kind of work, shared among replicas."""
    async with AsyncExitStack() as stack:
        job = jobs(len(sites), quick=quick)[name]
        ready = [await job(stack, site.server.port) for site in sites]
        own = sum(cpu_of(site.server.pid) for site in sites)
        theirs, begin = redis.work().cpu, time.perf_counter()
        count = sum(await asyncio.gather(*(work() for work in ready)))
        seconds = time.perf_counter() - begin
        own = sum(cpu_of(site.server.pid) for site in sites) - own
        theirs = redis.work().cpu - theirs
    return Row(count / seconds, own / count * 1e6, theirs / count * 1e6)


def measure(redis: RedisProcess, rounds: int, *, quick: bool) -> dict[str, dict[str, list[Row]]]:
    """Every row of every kind of work, round by round."""
    with ExitStack() as stack:
        three = [stack.enter_context(serving(redis.url, redis)) for _ in range(3)]
        groups: dict[str, list[Site]] = {
            "memory, 1 replica": [stack.enter_context(serving("memory:"))],
            "sqlite, 1 replica": [stack.enter_context(serving("sqlite:///{directory}/j.db"))],
            "redis, 1 replica": three[:1],
            "redis, 2 replicas": three[:2],
            "redis, 3 replicas": three,
        }
        names = list(jobs(1, quick=quick))
        rows: dict[str, dict[str, list[Row]]] = {
            name: {one: [] for one in groups} for name in names
        }
        for number in range(rounds):
            for name in names:
                print(f"round {number + 1}: {name}", file=sys.stderr, flush=True)
                for group, sites in groups.items():
                    row = asyncio.run(together(sites, redis, name, quick=quick))
                    rows[name][group].append(row)
    return rows


def table(rows: dict[str, list[Row]]) -> list[str]:
    """Medians; the ratio is that to one replica on Redis, of each round."""
    lines: list[str] = []
    base = rows["redis, 1 replica"]
    for group, some in rows.items():
        rate, own, theirs = (
            statistics.median(getattr(row, name) for row in some)
            for name in ("rate", "replica", "redis")
        )
        ratio = statistics.median(a.rate / b.rate for a, b in zip(some, base, strict=True))
        redis = f"{theirs:12.1f}" if group.startswith("redis") else f"{'·':>12}"
        lines.append(f"  {group:20}{rate:10,.0f}/s{ratio:7.2f}x{own:12.1f}{redis}")
    return lines


def main() -> int:
    """Print a table for each kind of work."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one small round: under a minute")
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds, 5; quick: 1")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda _signal, _frame: sys.exit("ended by SIGTERM"))
    rounds = options.rounds or (1 if options.quick else ROUNDS)
    print(f"{os.cpu_count()} cores for the replicas, Redis and the clients together")
    try:
        with redis_process() as redis:
            rows = measure(redis, rounds, quick=options.quick)
    except (NoRedis, NotServing) as problem:
        print(f"PROBLEM {problem}")
        return 1
    print(f"{'':22}{'rate':>12}{'ratio':>8}{'µs replica':>12}{'µs Redis':>12}")
    for name, groups in rows.items():
        print(name, *table(groups), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
