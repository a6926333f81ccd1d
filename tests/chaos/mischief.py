"""What happens to the server and to its connections, at random times from one seed."""

import asyncio
import random
import signal
import time
from contextlib import suppress

from tests.chaos.tally import Death, Tally

from headway.testing import Cut, Proxy, ServerProcess
from headway.testing.cuts import CutManner, Side

HOWS: list[CutManner] = ["close", "reset", "half"]
SIDES: list[Side] = ["both", "both", "client", "server"]


async def cutting(proxy: Proxy, chance: random.Random, tally: Tally, every: float) -> None:
    """Cut connections, each in some way, until cancelled."""
    while True:
        await asyncio.sleep(chance.expovariate(1 / every))
        how, side = chance.choice(HOWS), chance.choice(SIDES)
        notice = chance.uniform(0.05, 1.0)
        if chance.random() < 0.3:
            if proxy.planned is None:
                proxy.plan(_somewhere(chance, how, side, notice))
        elif proxy.connections:
            chance.choice(proxy.connections).cut(how, side, notice)
            tally.count("cuts at any time")


def _somewhere(chance: random.Random, how: CutManner, side: Side, notice: float) -> Cut:
    """A place in an answer, the most delicate ones often."""
    places = [
        Cut(how=how, side=side, notice=notice),
        Cut(text=b'"result":', how=how, side=side, notice=notice),
        Cut(text=b"data: ", plus=chance.randrange(200), how=how, side=side, notice=notice),
        Cut(messages=chance.randint(1, 8), how=how, side=side, notice=notice),
        Cut(text=b"retry: ", messages=1, how=how, side=side, notice=notice),
    ]
    return chance.choice(places)


async def dying(
    server: ServerProcess, chance: random.Random, tally: Tally, every: float, over: asyncio.Event
) -> None:
    """Kill the server, or tell it to stop, and start it again; it runs when it is `over`."""
    while not await _came(over, chance.uniform(0.3, 1.7) * every):
        await end(server, tally, kill=chance.random() < 0.6)
        await asyncio.sleep(chance.uniform(0, 0.3))
        server.spawn()
        await server.wait_ready()


async def _came(event: asyncio.Event, within: float) -> bool:
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), within)
    return event.is_set()


async def end(server: ServerProcess, tally: Tally, *, kill: bool) -> int:
    """End the server's process, and note when; returns its exit code."""
    pid = server.pid
    at = time.time()
    server.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
    death = Death(pid, "KILL" if kill else "TERM", at)
    tally.deaths.append(death)
    return await server.ended()
