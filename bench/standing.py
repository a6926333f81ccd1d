"""What stands still and costs memory: runs, sessions and streams, in a server and in Redis."""

import asyncio
import os
import signal
from itertools import pairwise

import psutil

from bench.clients import Client
from bench.connection import Connection
from bench.growth import memory
from bench.jobs import Memory
from bench.redis_process import RedisProcess
from bench.spending import Site, serving
from bench.wire import FIRST_ID, Wire
from headway.events import Completed, Progress, encode_json
from headway.journal import open_journal

RUNS = 400
KEPT = 1000
EVENTS = 20


async def standing(redis: RedisProcess) -> dict[str, float | None]:
    """Bytes, and descriptors, for one of each."""
    with serving(redis.url, redis) as site:
        figures = await memory(
            Memory(port=site.server.port, pid=site.server.pid, sessions=500, streams=200)
        )
    with serving(redis.url, redis) as site:
        running = await _running(site)
        running["frame"] = await _frame(site)
    kept = await _kept(redis)
    return {
        name: value and round(value, 1) for name, value in {**figures, **running, **kept}.items()
    }


async def _running(site: Site) -> dict[str, float | None]:
    """What a call that goes on takes of its server, with its connection and its open answer."""
    held: list[Connection] = []

    async def hold(number: int) -> None:
        wire = Wire(site.server.port, "2026")
        call = wire.call("paced", {"n": 1, "interval": 600}, progress=True)
        connection = await Connection.connect(site.server.port)
        held.append(connection)
        await connection.hold(call.fill(FIRST_ID + number), after_head=True)

    async def grow(start: int, count: int) -> tuple[int, int]:
        await asyncio.gather(*(hold(start + number) for number in range(count)))
        os.kill(site.server.pid, signal.SIGUSR1)
        await asyncio.sleep(0.5)
        server = psutil.Process(site.server.pid)
        return server.memory_info().rss, server.num_fds()

    before = await grow(0, 50)
    after = await grow(50, RUNS)
    for connection in held:
        connection.close()
    return {
        "run": (after[0] - before[0]) / RUNS,
        "descriptors": (after[1] - before[1]) / RUNS,
    }


async def _frame(site: Site) -> float:
    """Bytes of an event on its way to a client of 2026, in a chunk of its own."""
    async with Client(site.server.port, "2026") as client:
        sizes = [
            len((await client.call(client.wire.call("emit", {"n": n}, progress=True)))[0].body)
            for n in (1, 1 + EVENTS)
        ]
    return (sizes[1] - sizes[0]) / EVENTS + len("80\r\n\r\n")


async def _kept(redis: RedisProcess) -> dict[str, float | None]:
    """What a run takes of Redis: with one entry, with some more, and when it has ended."""
    async with open_journal(f"{redis.url}?prefix=standing:") as journal:
        names = [f"run/{number:040}" for number in range(KEPT)]
        sizes = [redis.work().memory]
        await asyncio.gather(*(journal.append(name, [Progress(0)], after=0) for name in names))
        sizes.append(redis.work().memory)
        for after in range(1, EVENTS + 1):
            writes = (journal.append(name, [Progress(after)], after=after) for name in names)
            await asyncio.gather(*writes)
        sizes.append(redis.work().memory)
        end = Completed(encode_json({"content": [{"type": "text", "text": "done"}]}))
        writes = (journal.append(name, [end], after=EVENTS + 1) for name in names)
        await asyncio.gather(*writes)
        sizes.append(redis.work().memory)
    first, more, ended = (b - a for a, b in pairwise(sizes))
    return {
        "redis stream": first / KEPT,
        "redis entry": more / KEPT / EVENTS,
        "redis end": ended / KEPT,
    }
