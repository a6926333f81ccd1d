"""A Redis that dies, is full, paused, read-only, locked, too old: what is told, what is kept."""

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import AsyncIterator

import pytest
from tests.kit.fixtures import StartRedis
from tests.kit.redis_servers import free_port
from tests.kit.waits import PATIENCE

import headway.journal.redis
from headway.errors import JournalUnavailable, SetupError
from headway.events import Completed, Entry, Event, Part, Progress, Started, encode_json
from headway.journal import Write, open_journal
from headway.journal.redis.refusals import check_server, explain_error
from headway.journal.redis.store import RedisStore
from headway.journal.redis.url import parse_redis_url, without_secrets
from headway.settings import Retention

END = Completed(encode_json(None))

pytestmark = pytest.mark.anyio


def one(after: int, *, event: Event | None = None) -> Write:
    return Write("a", after, [Entry(after + 1, 1.0, event or Progress(after))], ended=False)


@contextlib.asynccontextmanager
async def opened(url: str, *, patience: float = 5) -> AsyncIterator[RedisStore]:
    store = RedisStore(parse_redis_url(url), retention=Retention(), round_trip_timeout=patience)
    async with asyncio.timeout(PATIENCE):
        await store.open()
        try:
            yield store
        finally:
            await store.close()


async def test_nothing_is_lost_or_doubled_when_redis_is_killed_and_comes_back(
    start_redis: StartRedis,
) -> None:
    redis = start_redis("--appendonly", "yes")
    async with (
        asyncio.timeout(140),
        open_journal(redis.url) as writer,
        open_journal(redis.url) as reader,
    ):
        await writer.append("run", [Started()], after=0)
        seen: list[Entry] = []

        async def follow() -> None:
            cursor = reader.open_cursor("run")
            while not cursor.done:
                try:
                    seen.extend(await cursor.next())
                except JournalUnavailable:
                    await asyncio.sleep(0.05)

        following = asyncio.create_task(follow())
        last = 1
        for _ in range(3):
            for number in range(200):
                last = writer.append_nowait("run", Progress(last), after=last)
                if number == 100:
                    await asyncio.to_thread(redis.kill)
                await asyncio.sleep(0)
            await asyncio.to_thread(redis.start)
        writer.append_nowait("run", END, after=last)
        await following
        assert [entry.seq for entry in seen] == list(range(1, last + 2))
        assert [entry.event for entry in seen[1:-1]] == [Progress(n) for n in range(1, last)]
        async with open_journal(redis.url) as later:
            assert await later.read_all_kept("run") == seen


async def test_a_paused_redis_is_told_in_time_and_its_late_answer_harms_nothing(
    start_redis: StartRedis,
) -> None:
    redis = start_redis()
    async with opened(redis.url, patience=0.3) as store:
        await store.write([one(0)])
        redis.signal(signal.SIGSTOP)
        try:
            with pytest.raises(JournalUnavailable, match=r"did not answer within 0\.3 s"):
                await store.write([one(1)])
            with pytest.raises(JournalUnavailable):
                await store.read("a", 0, 10)
        finally:
            redis.signal(signal.SIGCONT)
        more = Write("a", 1, [Entry(2, 1.0, Progress(1)), Entry(3, 1.0, Progress(2))], ended=False)
        while True:
            with contextlib.suppress(JournalUnavailable):
                assert await store.write([more]) == {}
                break
        assert [entry.seq for entry in await store.read("a", 0, 10)] == [1, 2, 3]


async def test_many_who_wait_for_a_paused_redis_are_all_told_in_time(
    start_redis: StartRedis,
) -> None:
    redis = start_redis()
    async with opened(redis.url, patience=0.3) as store:
        redis.signal(signal.SIGSTOP)
        try:
            # 2,000 are eight round trips; one after the other they would take longer than we wait.
            async with asyncio.timeout(PATIENCE):
                outcomes = await asyncio.gather(
                    *(store.head(f"run:{n}") for n in range(2000)), return_exceptions=True
                )
        finally:
            redis.signal(signal.SIGCONT)
        assert {type(outcome) for outcome in outcomes} == {JournalUnavailable}


async def test_a_full_redis_is_told_and_costs_nothing(start_redis: StartRedis) -> None:
    redis = start_redis()
    async with opened(redis.url) as store:
        await store.write([one(0)])
        redis.say("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(JournalUnavailable, match=r"is full \(maxmemory\).*\(OOM\)"):
            await store.write([one(1, event=Part(encode_json("x" * 1000)))])
        assert len(await store.read("a", 0, 10)) == 1
        await store.drop(["b"])
        await store.expire(1.0)
        redis.say("CONFIG", "SET", "maxmemory", "0")
        assert await store.write([one(1)]) == {}
        redis.say("CONFIG", "SET", "maxmemory", "1")
        await store.drop(["a"])
        assert await store.head("a") is None


async def test_what_could_not_be_stored_is_when_there_is_room_again(
    start_redis: StartRedis,
) -> None:
    redis = start_redis()
    async with asyncio.timeout(PATIENCE), open_journal(redis.url) as journal:
        await journal.append("run", [Started()], after=0)
        redis.say("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(JournalUnavailable, match="is full"):
            await journal.append("run", [Progress(1)], after=1)
        assert [entry.seq for entry in await journal.read("run")] == [1, 2]
        redis.say("CONFIG", "SET", "maxmemory", "0")
        await journal.append("run", [END], after=2)
        async with open_journal(redis.url) as other:
            assert [entry.seq for entry in await other.read_all_kept("run")] == [1, 2, 3]


async def test_a_primary_that_becomes_a_replica_is_told_and_taken_back(
    start_redis: StartRedis,
) -> None:
    redis = start_redis()
    async with opened(redis.url, patience=0.3) as store:
        await store.write([one(0)])
        redis.say("REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(JournalUnavailable, match="read-only replica; name the primary"):
            await store.write([one(1)])
        redis.say("REPLICAOF", "NO", "ONE")
        assert await store.write([one(1)]) == {}


async def test_a_replica_is_no_journal(start_redis: StartRedis) -> None:
    primary, replica = start_redis(), start_redis()
    replica.say("REPLICAOF", "127.0.0.1", str(primary.port))
    with pytest.raises(SetupError, match="is a read-only replica; name the primary"):
        await open_journal(replica.url).open()


async def test_passwords_are_asked_for_and_never_repeated(start_redis: StartRedis) -> None:
    redis = start_redis("--requirepass", "correct-horse")
    host = f"127.0.0.1:{redis.port}"
    with pytest.raises(SetupError, match="wants a password; write redis://user"):
        await open_journal(f"redis://{host}").open()
    for url in (f"redis://:battery@{host}/0", f"redis://{host}/0?password=battery"):
        with pytest.raises(SetupError, match="takes no such user or password") as refused:
            await open_journal(url).open()
        assert "battery" not in str(refused.value)
    async with open_journal(f"redis://:correct-horse@{host}") as journal:
        assert await journal.append("a", [Started()], after=0) == 1


async def test_a_user_without_the_rights_is_told(start_redis: StartRedis) -> None:
    redis = start_redis()
    redis.say("ACL", "SETUSER", "reader", "on", ">pw", "~headway:*", "+@all", "resetchannels")
    with pytest.raises(SetupError, match="keys and channels that begin with the prefix"):
        await open_journal(f"redis://reader:pw@127.0.0.1:{redis.port}").open()
    redis.say("ACL", "SETUSER", "reader", "&headway:*")
    async with open_journal(f"redis://reader:pw@127.0.0.1:{redis.port}") as journal:
        assert await journal.append("a", [Started()], after=0) == 1
    with pytest.raises(SetupError, match=r"does not let this user do that.*NOPERM"):
        await open_journal(f"redis://reader:pw@127.0.0.1:{redis.port}?prefix=other:").open()


async def test_an_address_without_a_server_is_reported_in_time() -> None:
    url = f"redis://127.0.0.1:{free_port()}/0"
    store = RedisStore(parse_redis_url(url), retention=Retention(), round_trip_timeout=0.2)
    with pytest.raises(JournalUnavailable, match=r"cannot be used: .*Connect call failed"):
        await store.open()


async def test_a_redis_that_may_evict_or_lose_entries_is_warned_of(
    start_redis: StartRedis, caplog: pytest.LogCaptureFixture
) -> None:
    redis = start_redis("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
    with caplog.at_level(logging.WARNING):
        async with open_journal(redis.url):
            pass
    assert "may throw entries away when its memory is full" in caplog.text
    assert "set appendonly yes" in caplog.text
    caplog.clear()
    redis = start_redis("--maxmemory", "100mb", "--appendonly", "yes")
    async with open_journal(redis.url):
        pass
    assert caplog.text == ""


@pytest.mark.parametrize("version", ["5.0.14", "6.0.16"])
def test_a_redis_that_is_too_old_is_refused(version: str) -> None:
    with pytest.raises(SetupError, match=rf"is Redis {version}; 6\.2 or newer"):
        check_server("redis://x", {"redis_version": version, "aof_enabled": "1"})


def test_an_unknown_error_is_reported_in_its_own_words() -> None:
    told = explain_error("redis://x", ConnectionResetError("by the moon"))
    assert isinstance(told, JournalUnavailable)
    assert "cannot be used: by the moon" in str(told)


def test_without_redis_py_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "redis"]:
        monkeypatch.delitem(sys.modules, name)
    # The package above keeps what is imported here, and is to have its own again afterwards.
    monkeypatch.setattr(headway.journal, "redis", headway.journal.redis)
    for name in [name for name in sys.modules if name.startswith("headway.journal.redis")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(SetupError, match=r"pip install 'headway\[redis\]'"):
        open_journal("redis://localhost")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis://", "names no Redis; write redis://host"),
        ("redis://:secret@", "'' is no host and port"),
        ("redis://:secret@host:port", "'host:port' is no host and port"),
        ("redis+clustr://:secret@host", "no backend 'redis\\+clustr'"),
        ("redis+cluster://:secret@host/3", "a Cluster has no database but 0"),
        ("redis+sentinel://:secret@host", "names no service"),
        ("redis://:secret@host?prefix={x}", "must be a word without braces"),
        ("redis://:secret@host?prefix=", "must be a word without braces"),
        ("redis://:secret@host?buckets=0", "is no number up to 4096"),
        ("redis://:secret@host?sokcet_timeout=1", "has an unknown option: .*sokcet_timeout"),
        ("redis://:secret@host?socket_timeout=x", "Invalid value for .*socket_timeout"),
    ],
)
async def test_a_url_that_is_none_is_told_without_its_password(url: str, words: str) -> None:
    with pytest.raises(SetupError, match=words) as refused:
        await open_journal(url).open()
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "kind", "base", "hosts"),
    [
        ("redis://host", "single", "redis://host:6379/", (("host", 6379),)),
        ("rediss://u:p@host:1/2?x=1", "single", "rediss://u:p@host:1/2?x=1", (("host", 1),)),
        ("redis://[::1]:1/2", "single", "redis://[::1]:1/2", (("[::1]", 1),)),
        (
            "rediss+cluster://u:p@a:1,b",
            "cluster",
            "rediss://u:p@a:1/",
            (("a", 1), ("b", 6379)),
        ),
        (
            "redis+sentinel://:p@a,b:2/main/3?prefix=x:",
            "sentinel",
            "redis://:p@a:26379/3",
            (("a", 26379), ("b", 2)),
        ),
        ("unix:///run/redis.sock?db=1", "single", "unix:///run/redis.sock?db=1", ()),
    ],
)
def test_a_url_is_parsed_into_hosts_and_options(
    url: str, kind: str, base: str, hosts: tuple[object, ...]
) -> None:
    place = parse_redis_url(url)
    assert (place.kind, place.base, place.hosts) == (kind, base, hosts)
    assert "p@" not in place.shown
    assert place.service == ("main" if kind == "sentinel" else "")
    assert without_secrets(url).startswith(url.partition("://")[0])
