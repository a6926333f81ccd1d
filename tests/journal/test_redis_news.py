"""News in Redis: who waits for a stream hears of it, and nobody else does anything."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest
from redis.asyncio import Redis
from tests.kit.waits import PATIENCE

from headway.events import Completed, Entry, Progress, Started, encode_json
from headway.journal import Journal, open_journal
from headway.journal.redis.store import RedisStore
from headway.journal.redis.url import parse_redis_url
from headway.settings import Retention
from headway.testing import FakeClock

END = Completed(encode_json(None))

pytestmark = pytest.mark.anyio


@pytest.fixture
def url(new_redis_url: Callable[[], str]) -> str:
    return new_redis_url()


class Counting(RedisStore):
    """Knows how often each stream was read."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.reads: list[str] = []

    async def read(self, stream: str, after: int, limit: int) -> list[Entry]:
        self.reads.append(stream)
        return await super().read(stream, after, limit)


async def test_only_readers_of_the_stream_are_woken(url: str, redis: Redis) -> None:
    store = Counting(parse_redis_url(url), retention=Retention())
    async with asyncio.timeout(PATIENCE), open_journal(url) as writer, Journal(store) as reader:
        names = [f"run:{number}" for number in range(50)]
        for name in names:
            await writer.append(name, [Started()], after=0)
        cursors = [reader.open_cursor(name, after=1) for name in names]
        waiting = [asyncio.create_task(cursor.next()) for cursor in cursors]
        await until(redis, url, 50)
        assert await clients_that_listen(redis, url) == 1
        for number in range(20):
            seen = len(store.reads)
            await writer.append("run:7", [Progress(number + 1.0)], after=number + 1)
            assert [entry.seq for entry in await waiting[7]] == [number + 2]
            waiting[7] = asyncio.create_task(cursors[7].next())
            if number:  # by then nobody looks because the subscription began
                assert set(store.reads[seen:]) <= {"run:7"}
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_stream_that_nobody_reads_is_not_subscribed_to(url: str, redis: Redis) -> None:
    clock = FakeClock()
    async with (
        asyncio.timeout(PATIENCE),
        open_journal(url, clock=clock) as reader,
        open_journal(url) as writer,
    ):
        await writer.append("run:1", [Started()], after=0)
        cursor = reader.open_cursor("run:1", after=1)
        waiting = asyncio.create_task(cursor.next())
        await until(redis, url, 1)
        cursor.nudge()
        assert await waiting == []
        while await subscribed(redis, url):
            await clock.advance(1, step=1)
        waiting = asyncio.create_task(cursor.next())
        await until(redis, url, 1)
        await writer.append("run:1", [END], after=1)
        assert [entry.seq for entry in await waiting] == [2]


async def test_a_lost_notification_is_made_up_for(url: str, redis: Redis) -> None:
    clock = FakeClock()
    async with (
        asyncio.timeout(PATIENCE),
        open_journal(url, clock=clock) as reader,
        open_journal(url) as other,
    ):
        await other.append("run:1", [Started()], after=0)
        cursor = reader.open_cursor("run:1", after=1)
        waiting = asyncio.create_task(cursor.next())
        await until(redis, url, 1)
        # Out of the writer's reach: it tells another channel.
        store = reader._store
        assert isinstance(store, RedisStore)
        assert store._pubsub is not None
        while not store._pubsub._last_news:  # noqa: ASYNC110 - that it is subscribed
            await asyncio.sleep(0.01)
        deaf = store._pubsub._notify_stream
        store._pubsub._notify_stream = lambda channel: None
        await other.append("run:1", [END], after=1)
        store._pubsub._notify_stream = deaf
        while not waiting.done():
            await clock.advance(1, step=1)
        assert [entry.seq for entry in await waiting] == [2]


async def subscribed(redis: Redis, url: str) -> list[str]:
    """The streams that somebody listens for."""
    prefix = parse_redis_url(url).prefix
    found = await redis.pubsub_channels(f"{prefix}*:n:?*")
    return [channel.decode() for channel in cast("list[bytes]", found)]


async def until(redis: Redis, url: str, count: int) -> None:
    while len(await subscribed(redis, url)) < count:  # noqa: ASYNC110 - Redis does not say
        await asyncio.sleep(0.01)


async def clients_that_listen(redis: Redis, url: str) -> int:
    channels = await subscribed(redis, url)
    counts = await redis.pubsub_numsub(*channels)
    assert {count for _, count in counts} == {1}
    listening = [client for client in await redis.client_list() if int(client["sub"]) >= 50]
    return len(listening)
