"""What only the Redis store does: its keys, its round trips, and writes that are sent twice."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError
from tests.journal.writes import END, SMALL, write
from tests.kit.waits import PATIENCE

from headway.errors import (
    Conflict,
    EntriesUnreadable,
    JournalUnavailable,
    SetupError,
    StreamEnded,
    StreamNotFound,
)
from headway.events import Event, Progress, Released, Started
from headway.journal import Head, open_journal
from headway.journal.redis import store as redis_store
from headway.journal.redis.connections import Command
from headway.journal.redis.store import RedisStore
from headway.journal.redis.url import parse_redis_url
from headway.settings import Retention
from headway.testing import FakeClock

HOUR = 3_600_000
GIVING_UP = RedisError("MISCONF")
"""What is not tried again: the call fails, though all was done."""

pytestmark = pytest.mark.anyio


@pytest.fixture
def url(new_redis_url: Callable[[], str]) -> str:
    return new_redis_url()


@contextlib.asynccontextmanager
async def opened(url: str, retention: Retention = SMALL, **more: Any) -> AsyncIterator[RedisStore]:
    store = RedisStore(parse_redis_url(url), retention=retention, **more)
    await store.open()
    try:
        async with asyncio.timeout(PATIENCE):
            yield store
    finally:
        await store.close()


@pytest.fixture
async def store(url: str) -> AsyncIterator[RedisStore]:
    async with opened(url, Retention()) as store:
        yield store


@pytest.fixture
async def small(url: str) -> AsyncIterator[RedisStore]:
    async with opened(url) as store:
        yield store


async def keys(redis: Redis, url: str) -> dict[str, int]:
    """All keys of a journal, with the milliseconds that each has left; -1 is for ever."""
    pattern = f"{parse_redis_url(url).prefix}*"
    return {key.decode(): await redis.pttl(key) async for key in redis.scan_iter(pattern)}


class Losing:
    """A link that loses the answers to what it is told to lose, though all is done."""

    def __init__(self, store: RedisStore) -> None:
        self._link = store._writes._connection
        store._writes._connection = self
        self.times = 0
        self.error = RedisError("the answer was lost")

    async def execute(self, commands: Sequence[Command]) -> list[Any]:
        replies = await self._link.execute(commands)
        # Of a Redis that does not know the script yet nothing is done.
        if self.times and not any(isinstance(reply, NoScriptError) for reply in replies):
            self.times -= 1
            raise self.error
        return replies

    async def reset(self) -> None:
        await self._link.reset()


# Keys


async def test_no_key_is_left_without_an_expiry(url: str, redis: Redis) -> None:
    clock = FakeClock()
    async with (
        open_journal(url, retention=SMALL, clock=clock) as journal,
        asyncio.timeout(PATIENCE),
    ):
        for number in range(30):
            ended = number % 3 == 0
            events: list[Event] = [Started(), *([END] if ended else [])]
            await journal.append(f"run/{number % 4}/{number}", events, after=0)
        for number in range(200):
            await journal.append_shared("key/somebody/1", Progress(number))
        await journal.append_shared("key/somebody/1", Released())
        await journal.drop("run/0/0")
        await journal.drop("run/0/4")
        await journal.streams("run/", unfinished=True)
        await clock.advance(200, step=10)
        await journal.append("run/0/4", [Started()], after=0)
        found = await keys(redis, url)
        kinds = {key.split("}")[1].split(":")[1] for key in found}
        assert {"s", "e", "names", "live", "sizes", "format", "counted"} <= kinds
        assert [key for key, left in found.items() if left < 0] == []


async def test_whoever_keeps_less_shortens_no_life(url: str, redis: Redis) -> None:
    day = 24 * HOUR
    long = Retention(failed=30 * 86400, unfinished=30 * 86400)
    async with open_journal(url, retention=long) as server, asyncio.timeout(PATIENCE):
        await server.append("run/o/1", [Started()], after=0)
        await server.append_shared("inbox/o/1", Progress(1))
        async with open_journal(url) as reader:  # `headway cancel`, which knows no settings
            await reader.append_shared("inbox/o/1", Progress(2))
            await reader.prune()
        left = await keys(redis, url)
        assert {
            key: ms for key, ms in left.items() if 0 <= ms < 29 * day and "counted" not in key
        } == {}
        await server.append("run/o/1", [END], after=1)  # at its end a life is another
        short = [ms for key, ms in (await keys(redis, url)).items() if key.endswith(":s:run/o/1")]
        assert 0 < short[0] <= HOUR + 1


async def test_the_oldest_of_an_owner_are_found_among_many_of_others(
    url: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_store, "STREAMS_PER_STEP", 3)
    async with opened(url, Retention()) as store:
        for number in range(60):
            owner = "wanted" if number % 10 == 9 else "other"
            await store.write([write(f"run/{owner}/{number}", 0, 1, time=1e9 + number, end=True)])
        for key in await keys(redis, url):  # some are gone in Redis, and not in the lists
            if key.endswith(("run/other/0", "run/wanted/9", "run/other/30")):
                await redis.delete(key)
        found = await store._oldest_of(["wanted"], 2**40)
        names = [name.decode() for name, *_ in found]
        assert names == [f"run/wanted/{number}" for number in range(19, 60, 10)]


async def test_redis_itself_forgets_a_stream_its_ttl_after_the_end(
    store: RedisStore, url: str, redis: Redis
) -> None:
    await store.write([write("ended", 0, 2, end=True), write("alive", 0, 2)])
    left = {
        key.split(":")[-1]: ttl for key, ttl in (await keys(redis, url)).items() if ":s:" in key
    }
    assert 0 < left["ended"] <= HOUR + 1
    assert 7 * 24 * HOUR - HOUR < left["alive"] <= 7 * 24 * HOUR + 1
    # As when its time has come.
    await redis.delete(
        *(key for key in await keys(redis, url) if ":ended" in key.split("}")[1][2:])
    )
    assert await store.head("ended") is None
    with pytest.raises(StreamNotFound):
        await store.read("ended", 0, 10)
    assert await store.streams("") == ["alive"]
    assert await store.write([write("ended", 0, 1)]) == {}
    assert await store.streams("", unfinished=True) == ["alive", "ended"]


async def test_streams_that_redis_dropped_are_removed_from_the_lists(
    small: RedisStore, url: str, redis: Redis
) -> None:
    await small.write([write(f"run:{n}", 0, 1, end=n % 2 == 0) for n in range(40)])
    await redis.delete(
        *(k for k in await keys(redis, url) if k.split("}")[1][:3] in (":s:", ":e:"))
    )
    await small.expire(1000)
    for _ in range(20):  # the unfinished ones are found by and by
        await small.expire(1000)
    left = {key.split("}")[1] for key in await keys(redis, url)}
    assert left <= {":format", ":counted"}


async def test_journals_with_other_prefixes_share_nothing(new_redis_url: Callable[[], str]) -> None:
    async with opened(new_redis_url()) as one, opened(new_redis_url()) as two:
        await one.write([write("a", 0, 1)])
        assert await two.streams("") == []
        assert await two.write([write("a", 0, 2)]) == {}
        assert await one.head("a") == Head(1, 1, ended=False)


async def test_a_name_that_is_no_unicode_is_a_name_too(store: RedisStore) -> None:
    assert await store.write([write("\ud800", 0, 1)]) == {}
    assert await store.head("\ud800") == Head(1, 1, ended=False)
    assert await store.streams("\ud800") == ["\ud800"]


@pytest.mark.parametrize(
    ("there", "words"),
    [("?buckets=4&prefix=", r"has 4 buckets; write \?buckets=4"), (None, "has format 9, this")],
)
async def test_other_keys_under_the_prefix_are_refused(
    url: str, redis: Redis, there: str | None, words: str
) -> None:
    if there:
        async with opened(url.replace("?prefix=", there)) as store:
            await store.write([write("a", 0, 1)])
    else:
        await redis.set(f"{parse_redis_url(url).prefix}{{0}}:format", "9 16", ex=60)
    with pytest.raises(SetupError, match=words):
        await open_journal(url).open()


# Writing and reading


async def test_a_long_list_is_asked_for_in_steps(url: str, redis: Redis) -> None:
    async with opened(f"{url}&buckets=1", Retention()) as store:
        names = [f"run:{number}" for number in range(700)]
        await store.write([write(name, 0, 1) for name in names])
        gone = sorted(names)[150:450]  # all of one step, and the name that it ends with
        prefix = parse_redis_url(url).prefix
        await redis.delete(*(f"{prefix}{{0}}:s:{name}" for name in gone))
        kept = [name for name in names if name not in gone]
        assert await store.streams("run:") == kept
        assert await store.streams("run:", unfinished=True) == kept
        assert await store.streams("run:7") == [name for name in kept if name.startswith("run:7")]


async def test_an_entry_of_the_future_is_told_and_passed_over(
    store: RedisStore, url: str, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    await store.write([write("a", 0, 1)])
    (key,) = [key for key in await keys(redis, url) if ":e:" in key]
    await redis.delete(key)
    with pytest.raises(EntriesUnreadable, match="before 2 cannot be read"):
        await store.read("a", 0, 10)
    assert "has lost entries of a; see its maxmemory-policy" in caplog.text
    await redis.xadd(key, {"d": '[1,1.0,{"type":"dreamt"}]'}, id="1-0")
    await redis.expire(key, 60)
    with pytest.raises(EntriesUnreadable, match="before 2 cannot be read"):
        await store.read("a", 0, 10)
    assert await store.read("a", 1, 10) == []
    assert await store.write([write("a", 1, 1)]) == {}
    assert [entry.seq for entry in await store.read("a", 1, 10)] == [2]


async def test_scripts_that_redis_forgot_are_sent_again(store: RedisStore, redis: Redis) -> None:
    for after in range(5):
        await redis.script_flush()
        assert await store.write([write(f"run:{n}", after, 1) for n in range(3)]) == {}
        assert len(await store.read("run:1", 0, 10)) == after + 1


# What is told twice


async def test_a_write_whose_answer_was_lost_is_not_done_twice(store: RedisStore) -> None:
    losing = Losing(store)
    losing.times = 3
    assert await store.write([write("a", 0, 3), write("b", 0, 2, end=True)]) == {}
    assert await store.head("a") == Head(1, 3, ended=False)
    assert await store.head("b") == Head(1, 2, ended=True)
    assert "a" in await store.write([write("a", 2, 1)])


async def test_a_write_that_failed_goes_on_behind_what_was_done_of_it(url: str) -> None:
    async with opened(url, Retention()) as store:
        losing = Losing(store)
        losing.times, losing.error = 1, GIVING_UP
        with pytest.raises(JournalUnavailable, match="MISCONF"):
            await store.write([write("a", 0, 3)])
        more = write("a", 0, 5, end=True)
        assert await store.write([more, write("b", 0, 1)]) == {}
        assert await store.read("a", 0, 10) == more.entries
        assert await store.head("a") == Head(1, 5, ended=True)
        assert isinstance((await store.write([more]))["a"], StreamEnded)


async def test_an_unconfirmed_write_is_not_taken_for_another_one(url: str) -> None:
    async with opened(url, Retention()) as store:
        losing = Losing(store)
        losing.times, losing.error = 1, GIVING_UP
        lost = write("key", 0, 1, time=1.0)
        with pytest.raises(JournalUnavailable):
            await store.write([lost])
        other = write("key", 0, 1, time=2.0)
        assert isinstance((await store.write([other]))["key"], Conflict)
        assert await store.read("key", 0, 10) == lost.entries


async def test_a_write_in_doubt_that_another_process_overtook_is_a_conflict(url: str) -> None:
    async with opened(url, Retention()) as store, opened(url) as other:
        losing = Losing(store)
        losing.times, losing.error = 1, GIVING_UP
        with pytest.raises(JournalUnavailable):
            await store.write([write("a", 0, 3)])
        assert await other.write([write("a", 3, 1)]) == {}
        assert isinstance((await store.write([write("a", 0, 3)]))["a"], Conflict)
        assert await store.head("a") == Head(1, 4, ended=False)
