"""What journals cost without a server: an event written and read, a name listed, news published."""

import asyncio
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

from bench.journals import EVENTS, WORK
from bench.redis_process import RedisProcess, cluster_pair
from headway.events import Progress
from headway.journal import open_journal

NAMES = 4000
"""Unfinished runs that are listed."""

LISTINGS = 5
NEWS = 20_000


async def journals(redis: RedisProcess) -> dict[str, dict[str, float]]:
    """Microseconds of processor time for an event, by journal and kind of work."""
    found: dict[str, dict[str, float]] = {}
    with TemporaryDirectory() as directory:
        path = Path(directory)
        urls = {
            "memory": lambda: "memory:",
            "sqlite": lambda: f"sqlite:///{path}/{uuid4().hex}.db",
            "redis": lambda: f"{redis.url}?prefix=costs-{uuid4().hex}:",
        }
        for name, url in urls.items():
            row: dict[str, float] = {}
            for kind in ("busy", "many", "followed"):
                if (name, kind) == ("memory", "followed"):
                    continue
                own, theirs, begin = time.process_time(), redis.work().cpu, time.perf_counter()
                await WORK[kind](url())
                row[kind] = (time.process_time() - own) / EVENTS * 1e6
                row[f"{kind} seconds"] = (time.perf_counter() - begin) / EVENTS * 1e6
                if name == "redis":
                    row[f"{kind} redis"] = (redis.work().cpu - theirs) / EVENTS * 1e6
            found[name] = row
    return found


async def index(redis: RedisProcess) -> dict[str, float]:
    """What it costs to list the unfinished runs, for each of them, and to ask for one's end."""
    async with open_journal(f"{redis.url}?prefix=costs-{uuid4().hex}:") as journal:
        writes = (journal.append(f"run/{n:040}", [Progress(0)], after=0) for n in range(NAMES))
        await asyncio.gather(*writes)
        before, own = redis.work(), time.process_time()
        for _ in range(LISTINGS):
            await journal.streams("run/", unfinished=True)
        listed = time.process_time() - own
        after = redis.work()
        async with open_journal(journal_url := f"{redis.url}?prefix=costs-{uuid4().hex}:") as one:
            await one.append("process/a", [Progress(0)], after=0)
            async with open_journal(journal_url) as other:
                begin, mine = redis.work(), time.process_time()
                for _ in range(200):
                    await other.head("process/a")
                    await other.read("process/a", after=0)
                looked, ended = time.process_time() - mine, redis.work()
    names = NAMES * LISTINGS
    return {
        "cpu": listed / names * 1e6,
        "redis.cpu": (after.cpu - before.cpu) / names * 1e6,
        "sent": (after.sent - before.sent) / names,
        "look cpu": looked / 200 * 1e6,
        "look redis.cpu": (ended.cpu - begin.cpu) / 200 * 1e6,
    }


def published() -> dict[str, float]:
    """Microseconds of two nodes of a Cluster for a message that is published at the first."""
    with cluster_pair() as (one, two):
        name = f"headway:{{1}}:n:run/{'r' * 40}"
        before = one.work(), two.work()
        for _ in range(NEWS // 500):
            pipeline = one.client.pipeline(transaction=False)
            for _ in range(500):
                pipeline.publish(name, "")
            pipeline.execute()
        time.sleep(0.2)  # what is under way between the nodes
        here, there = one.work(), two.work()
    return {
        "here": (here.cpu - before[0].cpu) / NEWS * 1e6,
        "there": (there.cpu - before[1].cpu) / NEWS * 1e6,
    }
