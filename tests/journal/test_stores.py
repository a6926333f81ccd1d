"""What every store does by itself, over all of them: SQLite, Redis and Valkey.

What a journal promises on top of a store is in `test_contract`; what only one store does is in
`test_sqlite_store` and `test_redis_store`.
"""

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from tests.journal.conftest import ENCRYPTION
from tests.journal.writes import SMALL, write
from tests.kit.fixtures import own

from headway.errors import (
    Conflict,
    EntriesTrimmed,
    JournalError,
    JournalUnavailable,
    StreamEnded,
    StreamNotFound,
)
from headway.events import Entry, Progress
from headway.journal import Head, Write
from headway.journal.redis.store import RedisStore
from headway.journal.redis.url import parse_redis_url
from headway.journal.sqlite.store import SqliteStore
from headway.settings import Retention

Store = SqliteStore | RedisStore
NewStore = Callable[[Retention], Store]
"""Makes a store that is empty and not yet open."""

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["sqlite", "redis", "valkey", "encrypted sqlite", "encrypted redis"])
def new_store(request: pytest.FixtureRequest, tmp_path: Path) -> NewStore:
    kind = request.param.removeprefix("encrypted ")
    encryption = ENCRYPTION if kind != request.param else None
    if kind == "sqlite":
        path = tmp_path / "journal.db"
        return lambda retention: SqliteStore(path, retention=retention, encryption=encryption)
    url = parse_redis_url(own(request.getfixturevalue(f"{kind}_url")))
    return lambda retention: RedisStore(url, retention=retention, encryption=encryption)


@contextlib.asynccontextmanager
async def opened(store: Store) -> AsyncIterator[Store]:
    await store.open()
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
async def store(new_store: NewStore) -> AsyncIterator[Store]:
    async with opened(new_store(Retention())) as store:
        yield store


@pytest.fixture
async def small(new_store: NewStore) -> AsyncIterator[Store]:
    """A store that keeps little, and not for long."""
    async with opened(new_store(SMALL)) as store:
        yield store


# Writing and reading


async def test_a_refused_stream_does_not_hold_up_the_others(store: Store) -> None:
    assert await store.write([write("a", 0, 3), write("b", 0, 3, end=True)]) == {}
    refused = await store.write(
        [write("a", 2, 1), write("b", 3, 1), write("c", 0, 2), write("d", 7, 1)]
    )
    assert {stream: type(error) for stream, error in refused.items()} == {
        "a": Conflict,
        "b": StreamEnded,
        "d": Conflict,
    }
    assert await store.head("a") == Head(1, 3, ended=False)
    assert await store.head("b") == Head(1, 3, ended=True)
    assert await store.head("c") == Head(1, 2, ended=False)
    assert await store.head("d") is None
    assert await store.streams("") == ["a", "b", "c"]


@pytest.mark.parametrize("streams", [1, 2, 5, 17, 65, 256, 257, 700])
async def test_a_commit_takes_any_number_of_streams(store: Store, streams: int) -> None:
    names = [f"run:{number}" for number in range(streams)]
    assert await store.write([write(name, 0, 2) for name in names]) == {}
    assert sorted(await store.streams("run:")) == sorted(names)
    refused = await store.write([write(name, 2 - (name == names[-1]), 1) for name in names])
    assert list(refused) == [names[-1]]
    assert await store.head(names[0]) == Head(1, 3 if streams > 1 else 2, ended=False)


async def test_a_long_write_is_refused_whole_though_its_second_half_would_fit(
    store: Store,
) -> None:
    await store.write([write("a", 0, 256)])
    refused = await store.write([write("a", 0, 512)])
    assert isinstance(refused["a"], Conflict)
    assert await store.head("a") == Head(1, 256, ended=False)


@pytest.mark.parametrize("counts", [(1, 700, 3, 40), (1, 700, 3, *[1] * 40)])
async def test_a_page_is_cut_from_chunks_of_any_size(store: Store, counts: tuple[int, ...]) -> None:
    after = 0
    for count in counts:
        await store.write([write("a", after, count)])
        after += count
    for start, limit in ((0, 1), (0, 744), (255, 2), (500, 256), (700, 9), (743, 5), (744, 5)):
        found = [entry.seq for entry in await store.read("a", start, limit)]
        assert found == list(range(start + 1, min(start + limit, 744) + 1))


async def test_an_entry_that_cannot_be_stored_spoils_only_its_stream(store: Store) -> None:
    odd = Write("odd", 0, [Entry(1, 1.0, Progress(object()))], ended=False)  # type: ignore[arg-type]
    refused = await store.write([odd, write("a", 0, 1)])
    assert {name: type(error) for name, error in refused.items()} == {"odd": JournalError}
    assert await store.streams("") == ["a"]


async def test_names_may_have_anything_in_them(store: Store) -> None:
    names = ["", "{}", "}{", "a b\n", "key/\u00e4/\u2028", "run/{x}/y", "*", "%"]
    assert await store.write([write(name, 0, 1, end=name == "*") for name in names]) == {}
    assert await store.streams("") == names
    for name in names:
        assert await store.head(name) == Head(1, 1, ended=name == "*")
        assert (await store.streams(name))[0 if name else -1] in names
    assert await store.streams("a") == ["a b\n"]
    await store.drop(names)
    assert await store.streams("") == []


async def test_a_closed_store_says_so(store: Store) -> None:
    await store.close()
    await store.close()
    with pytest.raises(JournalUnavailable, match="is closed"):
        await store.head("a")


# Retention


async def test_a_burst_is_trimmed_with_its_own_write(small: Store) -> None:
    await small.write([write("a", 0, 500)])
    head = await small.head("a")
    assert head is not None
    assert 20 <= head.last - head.first + 1 <= 40
    with pytest.raises(EntriesTrimmed) as trimmed:
        await small.read("a", head.first - 2, 10)
    assert trimmed.value.first == head.first
    assert (await small.read("a", head.first - 1, 1))[0].seq == head.first
    assert small.dropped == {"keep.stream_entries": head.first - 1}


async def test_the_newest_entry_is_kept_however_large_it_is(small: Store) -> None:
    await small.write([write("a", 0, 1, size=100), write("b", 0, 1)])
    await small.write([write("a", 1, 1, size=50_000)])
    assert await small.head("a") == Head(2, 2, ended=False)
    assert len(await small.read("a", 1, 10)) == 1


async def test_a_stream_expires_its_ttl_after_its_terminal_entry(small: Store) -> None:
    await small.write([write("ended", 0, 2, time=10, end=True), write("alive", 0, 2, time=10)])
    await small.expire(109.9)
    assert await small.streams("") == ["ended", "alive"]
    await small.expire(110)
    assert await small.streams("") == ["alive"]
    assert small.dropped["keep.ttl"] == 1
    with pytest.raises(StreamNotFound):
        await small.read("ended", 0, 10)


async def test_a_stream_begun_anew_is_not_dropped_with_its_old_end(small: Store) -> None:
    await small.write([write("a", 0, 2, time=10, end=True)])
    await small.drop(["a"])
    await small.write([write("a", 0, 2, time=10)])
    await small.expire(1000)
    assert await small.head("a") == Head(1, 2, ended=False)


async def test_over_its_size_a_store_drops_first_what_ended_first(small: Store) -> None:
    for number in range(25):
        # The later a stream begins, the sooner it ends.
        await small.write([write(f"run:{number}", 0, 5, time=50 - number, end=True, size=1000)])
    await small.write([write("alive", 0, 5, time=0, size=1000)])
    await small.expire(50)
    kept = await small.streams("run:")
    assert kept == [f"run:{number}" for number in range(len(kept))]
    assert 15 <= len(kept) < 25
    assert small.dropped["keep.max_bytes"] == 25 - len(kept)
    assert 0 < small.held <= SMALL.max_bytes
    assert await small.head("alive") == Head(1, 5, ended=False)
