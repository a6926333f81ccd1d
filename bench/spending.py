"""What a piece of work takes of a server, and of the Redis behind it."""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import asdict, dataclass

from bench.checks import check_call
from bench.clients import Client, connect, open_session
from bench.connection import Connection
from bench.cpu import cpu_of, turns_of
from bench.processes import CORES, ServerProcess, pin
from bench.redis_process import RedisProcess
from bench.wire import FIRST_ID, Era, Wire

START = 90.0
"""Seconds that a server may take to start, on a machine that others use."""


@dataclass(frozen=True, slots=True)
class Site:
    """A server on one journal."""

    server: ServerProcess
    redis: RedisProcess | None

    def spent(self) -> dict[str, float]:
        """What it and its Redis took so far; of times, seconds."""
        waited, turns = turns_of(self.server.pid)
        own = {"cpu": cpu_of(self.server.pid), "seconds": time.perf_counter()}
        own |= {"waited": waited, "turns": turns}
        if self.redis is None:
            return own
        return {
            **own,
            **{f"redis.{name}": value for name, value in asdict(self.redis.work()).items()},
        }


Ready = Callable[[], Awaitable[int]]
"""Work whose clients are connected; returns how much it was."""

Job = Callable[[AsyncExitStack, int], Awaitable[Ready]]
"""Connects clients to a port."""


@contextmanager
def serving(journal: str, redis: RedisProcess | None = None, *settings: str) -> Iterator[Site]:
    """A server on a journal; `{directory}` in its URL is one of its own."""
    command = (sys.executable, "-m", "bench.servers.product", "{port}", journal, "authored")
    server = ServerProcess((*command, *settings))
    try:
        pin(server.pid, *CORES)  # there are several: they may not all have the same one
        request = Wire(server.port, "2026").call("echo", {"text": "first"}).fill(FIRST_ID)
        server.first_answer(request, START)
        yield Site(server, redis)
    finally:
        server.stop()


async def spend(site: Site, job: Job) -> dict[str, float]:
    """What each unit of a job took, of times in µs; `rate` is units a second."""
    async with AsyncExitStack() as stack:
        ready = await job(stack, site.server.port)
        before = site.spent()
        count = await ready()
        after = site.spent()
    each = {name: (value - before[name]) / count for name, value in after.items()}
    times = {name: each[name] * 1e6 for name in each if name.endswith("cpu")}
    return {**each, **times, "rate": 1 / each["seconds"], "count": count}


def calls(era: Era, connections: int = 16, each: int = 20) -> Job:
    """Calls that are answered at once."""

    async def job(stack: AsyncExitStack, port: int) -> Ready:
        clients = await connect(stack, port, era, connections)

        async def some(client: Client) -> None:
            for _ in range(each):
                check_call(*await client.call(client.wire.call("echo", {"text": "a"})), "a")

        async def ready() -> int:
            await asyncio.gather(*map(some, clients))
            return connections * each

        return ready

    return job


def bursts(era: Era, streams: int = 8, events: int = 1000) -> Job:
    """Events back to back: many with each commit."""

    async def job(stack: AsyncExitStack, port: int) -> Ready:
        clients = await connect(stack, port, era, streams)

        async def one(client: Client) -> None:
            call = client.wire.call("emit", {"n": events}, progress=True)
            check_call(*await client.call(call), "done", events)

        async def ready() -> int:
            await asyncio.gather(*map(one, clients))
            return streams * events

        return ready

    return job


def trickle(era: Era, streams: int, events: int, interval: float, *, spread: bool = True) -> Job:
    """Events now and then, the streams evenly over the interval, or all at the same moment."""

    async def job(stack: AsyncExitStack, port: int) -> Ready:
        clients = await connect(stack, port, era, streams)

        async def one(number: int, client: Client) -> None:
            if spread:
                await asyncio.sleep(interval * number / streams)
            arguments = {"n": events, "interval": interval}
            call = client.wire.call("paced", arguments, progress=True)
            check_call(*await client.call(call), "done", events)

        async def ready() -> int:
            await asyncio.gather(*(one(*pair) for pair in enumerate(clients)))
            return streams * events

        return ready

    return job


def sessions(count: int = 100) -> Job:
    """2025 handshakes, each on a connection of its own."""

    async def job(stack: AsyncExitStack, port: int) -> Ready:
        held = [await Connection.connect(port) for _ in range(count)]
        for connection in held:
            stack.callback(connection.close)

        async def ready() -> int:
            for connection in held:
                await open_session(connection, port)
            return count

        return ready

    return job


def silence(count: int, seconds: float) -> Job:
    """Open `subscriptions/listen` streams on which only pings go out; a unit is a stream second."""

    async def job(stack: AsyncExitStack, port: int) -> Ready:
        for number in range(count):
            connection = await Connection.connect(port)
            stack.callback(connection.close)
            request = Wire(port, "2026").listen().fill(FIRST_ID + number)
            await connection.hold(request, after_head=False)

        async def ready() -> int:
            await asyncio.sleep(seconds)
            return int(count * seconds)

        return ready

    return job
