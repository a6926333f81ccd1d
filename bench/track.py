"""What `track` costs for each item, against a bare loop and tqdm: `python -m bench.track`."""

import asyncio
import statistics
import time
from collections.abc import Callable, Iterable

from tqdm import tqdm

from headway import Headway, track
from headway.settings import Settings
from headway.testing import run_tool

ITEMS = 1_000_000
ROUNDS = 5


def seconds(items: Iterable[int]) -> float:
    """How long it takes to go through the items and do nothing."""
    begin = time.perf_counter()
    for _ in items:
        pass
    return time.perf_counter() - begin


def quiet(items: Iterable[int]) -> Iterable[int]:
    """tqdm with a bar that draws nowhere, as on a server."""
    return tqdm(items, file=Nowhere())


class Nowhere:
    """A file that forgets."""

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        pass


CONTENDERS: dict[str, Callable[[Iterable[int]], Iterable[int]]] = {
    "bare loop": lambda items: items,
    "track": track,
    "track, with a message": lambda items: track(items, message="Item {item}"),
    "tqdm": quiet,
}


def measured(name: str) -> float:
    """Nanoseconds for each item, inside a run whose progress is paced as it is by default."""
    mcp = Headway("bench")

    @mcp.tool()
    def work() -> float:
        return seconds(CONTENDERS[name](range(ITEMS)))

    outcome = asyncio.run(run_tool(mcp, "work", settings=Settings()))
    return float(outcome.result) / ITEMS * 1e9


def main() -> None:
    """Measure in turns, and print what each costs on top of the bare loop."""
    costs: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for _ in range(ROUNDS):
        for name in CONTENDERS:
            costs[name].append(measured(name))
    median = {name: statistics.median(values) for name, values in costs.items()}
    bare, bar = median["bare loop"], median["tqdm"] - median["bare loop"]
    for name, value in median.items():
        extra = value - bare
        print(f"{name:24}{value:8.0f} ns/item   {extra:+6.0f} ns   {extra / bar:5.2f} x tqdm")


if __name__ == "__main__":
    main()
