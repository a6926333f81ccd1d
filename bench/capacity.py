"""How many replicas and Redis nodes a number of streams needs: `python -m bench.capacity`.

The simulation in formulas, for what is too large to simulate. A **cell** is one journal with its
replicas: nothing is shared between cells. A cell cannot grow without end, because some costs grow
with its square: every process looks at every other process, one of them at the unfinished runs of
all, and in a Cluster every node hears all news.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from bench.simulation import NETWORK
from bench.units import Units, calibrate, load
from headway.engine.recovery.lost_runs import LISTING_SHARE
from headway.journal.group_commit import COMMIT_INTERVAL

SIGNS = 0.3
"""Times a second that a process looks for dead ones: three in a lease of 10 s."""

PING = 10.0
GB = 1e9
MOST_NODES = 500
"""Primaries of one Cluster: Redis's own advice is 1,000 nodes at most, with their replicas."""


@dataclass(frozen=True, slots=True)
class Need:
    """What is wanted, and of what machines."""

    streams: int
    rate: float
    """Entries a second of each stream: what its tool reports, and at most `progress_rate`."""
    duration: float = 60.0
    """Seconds of a call."""
    ttl: float = 3600.0
    busy: float = 0.6
    """The share of a core that may be planned with, of replicas as of Redis."""
    connections: int = 10_000
    """A replica's `max_connections`."""
    replica_bytes: float = 2 * GB
    node_bytes: float = 16 * GB
    network: float = NETWORK
    window: float = COMMIT_INTERVAL
    """Seconds between the beginnings of two commits of a replica, at least."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One journal that is large enough for its streams."""

    streams: int
    replicas: int
    nodes: int
    limit: str
    """What a replica has the least of."""
    node_limit: str
    """What made for so many nodes."""
    scripts: float
    """Scripts a second of all nodes."""
    bytes: float
    """What all nodes keep."""
    bandwidth: float
    """Bits a second to Redis."""


def trips(rate: float, cycle: float) -> float:
    """Commits a second of a replica with so many events a second: the next one begins a cycle
    after the one before, or with the next event where nothing came meanwhile."""
    return 1 / (cycle + math.exp(-rate * cycle) / rate)


def cycle_of(units: Units, need: Need) -> float:
    """Seconds from one commit to when the next one can begin."""
    return max(need.window, need.network + units.trip + units.read + units.script)


def lists(units: Units, cell: int) -> float:
    """Lists of all unfinished runs that are asked for in a second: by one process each time, by the
    others in turn, and by each as seldom as its time allows."""
    return 2 * min(SIGNS, LISTING_SHARE / (cell * units.name)) if units.name else 2 * SIGNS


def touched(streams: float, nodes: int) -> float:
    """Nodes that a commit of so many streams goes to."""
    return nodes * (1 - (1 - 1 / nodes) ** streams)


def replica_busy(units: Units, need: Need, mine: float, cell: int, replicas: int) -> float:
    """The share of a core that a replica with `mine` of a cell's streams needs."""
    events = mine * need.rate
    paced = events * units.event + trips(events, cycle_of(units, need)) * units.trip
    calls = mine / need.duration * units.run
    pings = mine * max(0.0, 1 / PING - need.rate) * units.ping
    names = lists(units, cell) * cell * units.name / replicas
    return paced + calls + pings + names + SIGNS * replicas * units.look


def node_busy(units: Units, need: Need, cell: int, replicas: int, nodes: int) -> float:
    """The share of a core that each of a cell's nodes needs."""
    scripts = scripts_of(units, need, cell)
    events = cell * need.rate / replicas
    commits = trips(events, cycle_of(units, need))
    reads = replicas * commits * touched(events / commits, nodes)
    names = lists(units, cell) * cell * units.name_redis
    asked = names + SIGNS * replicas**2 * units.look_redis
    heard = scripts * units.news_bus * (1 - 1 / nodes)
    return (scripts * units.script + reads * units.read + asked) / nodes + heard


def scripts_of(units: Units, need: Need, cell: int) -> float:
    """Scripts a second of a cell."""
    return cell * (need.rate + units.run_scripts / need.duration)


def bytes_of(units: Units, need: Need, cell: int) -> float:
    """What a cell's nodes keep: the runs that go on, half done, and those that ended within the
    time to live."""
    entries = need.rate * need.duration
    live = units.stream_bytes + entries / 2 * units.entry_bytes
    ended = units.stream_bytes + entries * units.entry_bytes
    return cell * (live + need.ttl / need.duration * ended)


def per_replica(units: Units, need: Need, cell: int) -> tuple[int, str]:
    """How many streams a replica of a cell can have, and what it has the least of."""
    found = {
        "connections": need.connections,
        "memory": int(need.replica_bytes / units.run_bytes),
    }
    most = min(found.values())
    low, high = 0, most
    while low < high:  # the most streams with which the core is not too busy
        middle = (low + high + 1) // 2
        fits = replica_busy(units, need, middle, cell, math.ceil(cell / middle)) <= need.busy
        low, high = (middle, high) if fits else (low, middle - 1)
    limit = "processor" if low < most else min(found, key=lambda name: found[name])
    return low, limit


def cell_of(units: Units, need: Need, streams: int) -> Cell | None:
    """A cell for so many streams; None where one cannot hold them."""
    mine, limit = per_replica(units, need, streams)
    if not mine:
        return None
    replicas = math.ceil(streams / mine)
    kept = bytes_of(units, need, streams)
    by_bytes = math.ceil(kept / need.node_bytes)
    nodes = 1
    while node_busy(units, need, streams, replicas, nodes) > need.busy:
        nodes += 1
        if nodes > MOST_NODES:
            return None
    if max(nodes, by_bytes) > MOST_NODES:
        return None
    if by_bytes > nodes and node_busy(units, need, streams, replicas, by_bytes) > need.busy:
        return None
    node_limit = "memory" if by_bytes > nodes else "processor"
    scripts = scripts_of(units, need, streams)
    bits = 8 * scripts * units.wire_in
    nodes = max(nodes, by_bytes)
    return Cell(streams, replicas, nodes, limit, node_limit, scripts, kept, bits)


def largest(units: Units, need: Need) -> int:
    """The most streams that one cell can hold, within a twentieth."""
    low, high = 0, 1000
    while cell_of(units, need, high) is not None:
        low, high = high, high * 2
    while high - low > high / 20:
        middle = (low + high) // 2
        low, high = (middle, high) if cell_of(units, need, middle) else (low, middle)
    return low


def plan(units: Units, need: Need) -> tuple[int, Cell]:
    """How many cells, and what each is: as few as hold all streams, of equal size.

    Raises:
        ValueError: Not even one stream fits.
    """
    cells = 1
    if cell_of(units, need, need.streams) is None:
        most = largest(units, need)
        if not most:
            raise ValueError("a replica of these machines cannot have a single stream")
        cells = math.ceil(need.streams / most)
    cell = cell_of(units, need, math.ceil(need.streams / cells))
    if cell is None:
        raise ValueError("the cells do not hold what was found to fit")
    return cells, cell


def cheapest(units: Units, need: Need) -> tuple[int, Cell]:
    """Likewise, with the fewest processes of both kinds together."""
    cells, cell = plan(units, need)
    best = cells, cell
    while cell.replicas > 1:
        cells = math.ceil(cells * 1.25 + 0.5)
        smaller = cell_of(units, need, math.ceil(need.streams / cells))
        if smaller is None:
            break
        cell = smaller
        if _processes(cells, cell) < _processes(*best):
            best = cells, cell
    return best


def _processes(cells: int, cell: Cell) -> int:
    return cells * (cell.replicas + cell.nodes)


SIZES = (1_000, 100_000, 10_000_000)
RATES = (4.0, 1.0, 0.1)

HEAD = """\
| streams | entries/s each | cells · replicas · Redis nodes, fewest cells | fewest processes | \
streams of a replica, limit | scripts/s | GB kept | Gbit/s to Redis |
|--:|--:|--:|--:|--:|--:|--:|--:|"""


def rows(units: Units, base: Need) -> Iterator[str]:
    """The table's rows: every size at every rate. From the limit on they are of the last plan."""
    for size in SIZES:
        for rate in RATES:
            need = replace(base, streams=size, rate=rate)
            shapes = [
                f"{cells:,} · {cells * cell.replicas:,} · {cells * cell.nodes:,}"
                for cells, cell in (plan(units, need), cheapest(units, need))
            ]
            cells, cell = cheapest(units, need)
            mine = math.ceil(cell.streams / cell.replicas)
            yield (
                f"| {size:,} | {rate:g} | {shapes[0]} | {shapes[1]} | {mine:,}, {cell.limit} | "
                f"{cells * cell.scripts:,.0f} | {cells * cell.bytes / GB:,.1f} | "
                f"{cells * cell.bandwidth / 1e9:,.2f} |"
            )


def main() -> None:
    """Print the table, and where one cell ends."""
    units, base = calibrate(load()), Need(1, 1)
    print(HEAD, *rows(units, base), sep="\n")
    print("\nThe most streams of one cell:")
    for rate in RATES:
        most = largest(units, replace(base, rate=rate))
        print(f"{rate:g} events/s each: {most:,}")


if __name__ == "__main__":
    main()
