"""The unit costs, as the model uses them: seconds and bytes, from what `bench.costs` wrote down.

An event costs a replica, and Redis, something for itself and something for the round trip that it
shares with others. `calibrate` takes the two apart by the loads with the fewest and the most events
for a round trip; the loads between them are what the simulation has to meet.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "costs.json"
US = 1e-6


@dataclass(frozen=True, slots=True)
class Units:
    """What one of everything costs: seconds of a core, and bytes."""

    event: float
    """A replica: a report becomes an entry, a frame, and its part of a commit."""
    trip: float
    """A replica: a commit, however much is in it."""
    script: float
    """Redis: one stream's part of a commit."""
    read: float
    """Redis: to take a commit from the connection and to answer."""
    run: float
    """A replica: a call, from its request to its end, without its events."""
    run_scripts: float
    """Scripts of a call besides those of its events."""
    ping: float
    name: float
    """A replica: one unfinished run in the list that every process asks for."""
    name_redis: float
    look: float
    """A replica: to see whether another process is alive."""
    look_redis: float
    news_bus: float
    """Every other node of a Cluster: a message that is published at one."""
    run_bytes: float
    """A replica's memory for a call that goes on, its connection with it."""
    stream_bytes: float
    """Redis's memory for a stream with its first entry, in its lists."""
    entry_bytes: float
    """Likewise, for each entry. The first few dozen fit into what the stream has anyway."""
    wire_in: float
    """Bytes to Redis for an event."""
    frame: float
    """Bytes to the client for an event."""


def load(path: Path = FILE) -> dict[str, Any]:
    """What was measured."""
    facts: dict[str, Any] = json.loads(path.read_text())
    return facts


def line(one: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    """Where the line through two points begins, and how steep it is; never below zero."""
    steep = max(0.0, (one[1] - other[1]) / (one[0] - other[0]))
    return max(0.0, other[1] - steep * other[0]), steep


def calibrate(facts: dict[str, Any]) -> Units:
    """The unit costs of what was measured."""
    points = sorted(facts["points"], key=lambda point: point["event"]["redis.reads"])
    dense, sparse = points[0], points[-1]

    def fit(name: str) -> tuple[float, float]:
        places = [(one["event"]["redis.reads"], one["event"][name] * US) for one in (sparse, dense)]
        return line(places[0], places[1])

    (event, trip), (script, read) = fit("cpu"), fit("redis.cpu")
    call, index, standing = facts["units"]["redis"]["call 2026"], facts["index"], facts["standing"]
    return Units(
        event=event,
        trip=trip,
        script=script,
        read=read,
        run=call["cpu"] * US,
        run_scripts=call["redis.scripts"],
        ping=facts["ping"] * US,
        name=index["cpu"] * US,
        name_redis=index["redis.cpu"] * US,
        look=index["look cpu"] * US,
        look_redis=index["look redis.cpu"] * US,
        news_bus=facts["published"]["there"] * US,
        run_bytes=standing["run"],
        stream_bytes=standing["redis stream"],
        entry_bytes=facts["units"]["redis"]["burst event 2026"]["redis.memory"],
        wire_in=dense["event"]["redis.received"],
        frame=standing["frame"],
    )
