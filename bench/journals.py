"""What the journals cost against each other: `python -m bench.journals [redis://host:6379]`.

Each is measured in turn, several times, in one process; the ratios are what is of use elsewhere.

| row | what is counted |
|---|---|
| `busy` | events a second of one run that writes without a pause: what a group commit saves |
| `many` | events a second of 200 runs that take turns, 10 events each time |
| `settled` | appends a second that wait for the storage, one behind the other |
| `followed` | entries a second that the reader of another journal gets; not of memory |
"""

import asyncio
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from redis.asyncio import Redis

from headway.encryption import Encryption
from headway.events import Completed, Progress, encode_json
from headway.journal import Journal, open_journal
from headway.settings import Retention

ROUNDS = 3
EVENTS = 20_000
RUNS = 200
SETTLED = 400
KEPT = Retention(stream_entries=10 * EVENTS)

Work = Callable[..., Coroutine[Any, Any, float]]
"""Does one kind of work on the journal at a URL, with the keys that encrypt it, if any."""


async def _busy(url: str, keys: Encryption | None = None) -> float:
    async with open_journal(url, retention=KEPT, encryption=keys) as journal:
        begin = time.perf_counter()
        await _write(journal, "run", EVENTS)
        return EVENTS / (time.perf_counter() - begin)


async def _write(journal: Journal, stream: str, count: int, *, pause: int = 100) -> None:
    for after in range(count):
        journal.append_nowait(stream, Progress(after), after=after)
        if after % pause == 0:
            await asyncio.sleep(0)
    journal.append_nowait(stream, Completed(encode_json(None)), after=count)
    await journal.wait_until_stored(stream)


async def _many(url: str, keys: Encryption | None = None) -> float:
    async with open_journal(url, retention=KEPT, encryption=keys) as journal:
        begin = time.perf_counter()
        each = EVENTS // RUNS
        await asyncio.gather(*(_write(journal, f"run/{n}", each, pause=10) for n in range(RUNS)))
        return EVENTS / (time.perf_counter() - begin)


async def _settled(url: str, keys: Encryption | None = None) -> float:
    async with open_journal(url, retention=KEPT, encryption=keys) as journal:
        begin = time.perf_counter()
        for after in range(SETTLED):
            await journal.append("run", [Progress(after)], after=after)
        return SETTLED / (time.perf_counter() - begin)


async def _followed(url: str, keys: Encryption | None = None) -> float:
    async with (
        open_journal(url, retention=KEPT, encryption=keys) as writer,
        open_journal(url, encryption=keys) as reader,
    ):
        await writer.append("run", [Progress(0)], after=0)
        begin = time.perf_counter()
        following = asyncio.create_task(_count(reader))
        for after in range(1, EVENTS):
            writer.append_nowait("run", Progress(after), after=after)
            if after % 100 == 0:
                await asyncio.sleep(0)
        writer.append_nowait("run", Completed(encode_json(None)), after=EVENTS)
        return await following / (time.perf_counter() - begin)


async def _count(reader: Journal) -> int:
    count = 0
    async for _ in reader.follow("run"):
        count += 1
    return count


async def _units(url: str) -> None:
    """Print what Redis itself does and keeps for a write, a look and a count, of one event each."""
    async with Redis.from_url(url.partition("?")[0]) as redis, open_journal(url) as journal:

        async def facts() -> dict[str, float]:
            info: dict[str, Any] = await redis.info("all")
            scripts = info.get("cmdstat_evalsha", {"calls": 0})
            return {
                "calls": scripts["calls"],
                "usec": 1e6
                * (info["used_cpu_user_main_thread"] + info["used_cpu_sys_main_thread"]),
                "here": 1e6 * time.process_time(),
                "in": info["total_net_input_bytes"],
                "memory": info["used_memory"],
            }

        async def spent(what: str, one: Callable[[int, int], Awaitable[object]]) -> None:
            before = await facts()
            for stream in range(RUNS):
                for number in range(10):
                    await one(stream, number)
            used = {name: value - before[name] for name, value in (await facts()).items()}
            calls = used["calls"]
            print(
                f"{what}: {used['usec'] / calls:.0f} us of Redis's processor, "
                f"{used['here'] / calls:.0f} of this one's, "
                f"{used['in'] / calls:.0f} bytes to it; "
                f"{used['memory'] / RUNS:,.0f} bytes more kept for each of {RUNS} streams"
            )

        await journal.append("run/first", [Progress(0)], after=0)
        await spent(
            "a commit of one event", lambda n, k: journal.append(f"run/{n}", [Progress(k)], after=k)
        )
        async with open_journal(url) as other:
            await spent(
                "a look at one event", lambda n, k: other.read(f"run/{n}", after=k, limit=1)
            )
            await spent(
                "a count of what goes on, in each bucket",
                lambda n, _: other.global_count.count_unfinished(f"run/{n}", tuple, 10 * RUNS),
            )


WORK: dict[str, Work] = {
    "busy": _busy,
    "many": _many,
    "settled": _settled,
    "followed": _followed,
}


def main(redis: str) -> None:
    """Print a row for each kind of work: events a second, and against SQLite."""
    directory = Path(tempfile.mkdtemp())
    sign = "&" if "?" in redis else "?"
    urls: dict[str, Callable[[], str]] = {
        "memory": lambda: "memory:",
        "sqlite": lambda: f"sqlite:///{directory}/{uuid4().hex}.db",
        "redis": lambda: f"{redis}{sign}prefix=bench-{uuid4().hex}:",
    }
    print(f"{'':10}" + "".join(f"{name:>12}{'':>7}" for name in urls))
    for name, work in WORK.items():
        rates: dict[str, list[float]] = {backend: [] for backend in urls}
        for _ in range(ROUNDS):
            for backend, url in urls.items():
                if (backend, name) != ("memory", "followed"):
                    rates[backend].append(asyncio.run(work(url())))
        middle = {backend: statistics.median(some or [0]) for backend, some in rates.items()}
        cells = (f"{rate:12,.0f}{rate / middle['sqlite']:6.2f}x" for rate in middle.values())
        print(f"{name:10}" + "".join(cells))
    asyncio.run(_units(urls["redis"]()))
    shutil.rmtree(directory)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main(*sys.argv[1:2] or ["redis://127.0.0.1:6379"])
