"""What queues leave in Redis: nothing that grows, whether workers take it or not."""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from pathlib import Path

import pytest
from redis.asyncio import Redis
from tests.kit.floor import Floor, floor
from tests.kit.peers import Session
from tests.kit.waits import PATIENCE, until

from headway.queues import docket, open_queues

pytestmark = pytest.mark.anyio

KEPT = re.compile(r"queue:(default|slow):(stream|workers|task-workers:run)")
"""What has no expiry, as docs/server-behaviour.md names it."""


@pytest.fixture
async def site(new_redis_url: Callable[[], str]) -> AsyncGenerator[Floor]:
    async with floor(new_redis_url()) as site:
        yield site


class Looking:
    """A look at the keys of one journal."""

    def __init__(self, redis: Redis, url: str) -> None:
        self.redis = redis
        self.prefix = url.partition("prefix=")[2]

    async def left(self) -> dict[str, int]:
        """The seconds that each key has left, by its name without the prefix; -1 is for ever."""
        found = [key.decode() async for key in self.redis.scan_iter(f"{self.prefix}*")]
        return {key.removeprefix(self.prefix): await self.redis.ttl(key) for key in found}

    async def until_there(self, name: str, *, is_there: bool = True) -> None:
        async with asyncio.timeout(PATIENCE):
            while await self.redis.exists(self.prefix + name) != is_there:  # noqa: ASYNC110
                await asyncio.sleep(0.02)


@pytest.fixture
def looking(redis: Redis, site: Floor) -> Looking:
    return Looking(redis, site.url)


async def in_queue(looking: Looking, queue: str) -> list[str]:
    """The streams of the runs that nobody took out of a queue."""
    name = f"queue:{queue}:runs:"
    async with asyncio.timeout(PATIENCE):
        while not (found := [key for key in await looking.left() if key.startswith(name)]):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return [key.removeprefix(name) for key in found]


async def test_every_key_expires_but_three_of_each_queue(
    site: Floor, looking: Looking, tmp_path: Path
) -> None:
    session = await Session.open(await site.replica())
    waiting = session.call_message("in_slow", {"value": 1}, id="w", token="w")
    answer = await session.post(waiting)
    (waits,) = await in_queue(looking, "slow")
    await session.notify("notifications/cancelled", {"requestId": "w"})
    await answer.rest()

    await site.worker("default")
    calls = [await session.call("count", {"upto": 2}, token=n) for n in range(20)]
    calls += [await session.call("fail", {"why": "no luck"}, token="f")]
    await asyncio.gather(*(call.rest() for call in calls))
    await session.send(session.call_message("sleep", {"place": str(tmp_path)}, id="z"))
    await until((tmp_path / "begun").exists)

    found = await looking.left()
    assert {name for name, ttl in found.items() if ttl == -1 and not KEPT.fullmatch(name)} == set()
    assert 0 < found[f"queue:slow:runs:{waits}"] <= docket.KEPT
    assert [name for name in found if name.startswith("queue:default:runs:")] == []
    assert await looking.redis.xlen(f"{looking.prefix}queue:default:stream") == 0


async def test_a_run_that_its_queue_lost_is_queued_again(site: Floor, looking: Looking) -> None:
    session = await Session.open(await site.replica(lease=1.5))
    answer = await session.call("count", {"upto": 2}, token="t")
    (waits,) = await in_queue(looking, "default")
    # As when its time has come.
    queue = f"{looking.prefix}queue:default"
    await looking.redis.delete(f"{queue}:runs:{waits}", f"{queue}:stream")
    await site.worker(lease=1.5)
    assert (await answer.rest())[-1]["result"]["structuredContent"]["upto"] == 2


async def test_old_entries_of_a_queue_are_dropped(
    site: Floor, looking: Looking, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = f"{looking.prefix}queue:default:stream"
    async with open_queues(site.url, lease=1) as queues:
        # Redis drops what is old by whole blocks of a hundred.
        await asyncio.gather(*(queues.put("default", f"run/{number}") for number in range(250)))
        assert await looking.redis.xlen(stream) == 250
        monkeypatch.setattr(docket, "KEPT", 1.0)
        await queues.put("default", "run/250")
        await looking.until_there("queue:default:runs:run/250", is_there=False)
        await queues.put("default", "run/251")
        assert await looking.redis.xlen(stream) <= 100


async def serve_once(url: str) -> None:
    """Work as a worker, until it has taken a run, and go."""
    taken = asyncio.Event()

    async def take(stream: str, done: Callable[[], None]) -> bool:
        taken.set()
        return False

    async with open_queues(url, lease=1) as queues, asyncio.timeout(PATIENCE):
        await queues.put("default", "run/1")
        serving = asyncio.create_task(queues.serve("default", 1, take))
        await taken.wait()
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving


async def test_workers_that_are_gone_are_forgotten(
    site: Floor, looking: Looking, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = f"{looking.prefix}queue:default:stream"

    async def known(silent: int = 0) -> set[str]:
        found = await looking.redis.xinfo_consumers(stream, "docket-workers")
        return {consumer["name"] for consumer in found if consumer["idle"] >= silent}

    await serve_once(site.url)
    await serve_once(site.url)
    gone = await known()
    assert len(gone) == 2
    monkeypatch.setattr(docket, "KEPT", 1.0)
    async with asyncio.timeout(PATIENCE):
        while await known(silent=1001) != gone:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    await serve_once(site.url)
    assert not gone & await known()
