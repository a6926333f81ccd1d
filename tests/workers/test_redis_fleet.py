"""Workers where Redis is a Cluster, a primary that Sentinels watch, a Valkey, or has TLS."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from redis.asyncio import Redis
from tests.kit.fixtures import StartRedis, own
from tests.kit.floor import Floor, floor
from tests.kit.peers import Session, Wire, connect, each_era, progress_of, text_of
from tests.kit.program import Programs, programs_in
from tests.kit.redis_servers import Certificates, Server, cluster, watched
from tests.kit.waits import until

from headway.clock import Clock

pytestmark = pytest.mark.anyio

TARGET = f"{Path(__file__).with_name('target.py')}:mcp"


@pytest.fixture(params=["cluster", "sentinel", "valkey", "tls", "tls_cluster"])
async def url(request: pytest.FixtureRequest, start_redis: StartRedis, tmp_path: Path) -> str:
    """A journal that nobody has used, in each kind of Redis."""
    if request.param == "sentinel":
        return own((await asyncio.to_thread(watched, start_redis, tmp_path))[1])
    if request.param == "tls":
        certificates: Certificates = request.getfixturevalue("certificates")
        redis = await asyncio.to_thread(start_redis, tls=certificates.options)
        return own(f"rediss://127.0.0.1:{redis.tls_port}/0{certificates.query}")
    found: str = request.getfixturevalue(f"{request.param}_url")
    if request.param == "cluster":
        found = found.replace("://", "://127.0.0.1:1,")  # the first one is not there
    return own(found)


@pytest.fixture
async def site(url: str) -> AsyncGenerator[Floor]:
    async with floor(url) as site:
        yield site


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    with programs_in(tmp_path) as started:
        yield started


async def test_a_call_of_a_server_is_executed_by_the_worker(programs: Programs, url: str) -> None:
    """By the commands, as operators start them."""
    shared = ("--journal", url)
    worker = programs.start("worker", TARGET, *shared)
    await asyncio.to_thread(worker.wait_for, "working for")
    _, origin = await asyncio.to_thread(programs.serve, "run", TARGET, "--port", "0", *shared)
    wire = Wire(origin.removesuffix("/mcp"), None, Clock())  # pyright: ignore[reportArgumentType]
    session = await Session.open(wire)
    messages = await (await session.call("count", {"upto": 3}, token="t")).rest()
    assert progress_of(messages)[-3:] == [1, 2, 3]
    assert messages[-1]["result"]["structuredContent"] == {"pid": worker.pid, "upto": 3}
    wire.cut_all()


@each_era
async def test_each_kind_of_call_is_executed(site: Floor, era: str, tmp_path: Path) -> None:
    wire = await site.replica()
    await site.worker()
    client = await connect(wire, era)
    slow = await client.call("in_slow", {"value": 3}, token="s")
    assert text_of((await slow.rest())[-1]) == "3"
    failed = await client.call("fail", {"why": "no luck"}, token="f")
    assert (await failed.rest())[-1]["result"]["isError"]
    stopped = await client.send(client.call_message("sleep", {"place": str(tmp_path)}, id="z"))
    await until((tmp_path / "begun").exists)
    if isinstance(client, Session):
        await client.notify("notifications/cancelled", {"requestId": "z"})
    else:
        stopped.cut()
    await until((tmp_path / "stopped").exists)


async def url_of_user(url: str, name: str, *rights: str) -> str:
    """A URL with a user of this name, who may do all to what the rights name."""
    scheme, _, rest = url.partition("://")
    hosts, slash, path = rest.partition("/")
    for host in hosts.split(","):
        async with Redis.from_url(f"redis://{host}") as node:
            command = ["ACL", "SETUSER", name, "reset", "resetchannels", "on", ">pw"]
            command += ["+@all", *rights]
            assert await node.execute_command(*command)
    return f"{scheme}://{name}:pw@{hosts}{slash}{path}?prefix={name}:"


@pytest.mark.parametrize("kind", ["redis_url", "cluster_url"])
async def test_the_rights_that_the_docs_ask_for_are_enough(
    request: pytest.FixtureRequest, kind: str
) -> None:
    name = f"test-{uuid4().hex}"
    rights = [f"~{name}:*", f"&{name}:*"]
    if kind == "cluster_url":
        rights += [f"~{{{name}:*", f"&{{{name}:*"]
    url = await url_of_user(request.getfixturevalue(kind), name, *rights)
    async with floor(url) as site:
        session = await Session.open(await site.replica())
        await site.worker()
        await executed(session)


async def test_a_worker_whose_user_may_not_have_the_queue_ends_with_what_to_allow(
    programs: Programs, cluster_url: str
) -> None:
    name = f"test-{uuid4().hex}"
    url = await url_of_user(cluster_url, name, f"~{name}:*", f"&{name}:*")
    finished = await asyncio.to_thread(programs.run, "worker", TARGET, "--journal", url)
    assert finished.code == 3
    assert f"on the keys and channels {{{name}:queue:" in finished.err


async def test_a_run_goes_on_through_a_failover(start_redis: StartRedis, tmp_path: Path) -> None:
    primary, url = await asyncio.to_thread(watched, start_redis, tmp_path)
    async with floor(url) as site:
        session = await Session.open(await site.replica())
        await site.worker()
        answer = await session.call("items", {"place": str(tmp_path)}, id="i", token="t")
        await until((tmp_path / "stuck").exists)
        # What was not sent to the replica yet would be lost with the primary.
        await asyncio.to_thread(primary.wait_for_replica)
        await asyncio.to_thread(primary.kill)
        (tmp_path / "go").touch()
        result = (await answer.rest())[-1]["result"]["structuredContent"]
        assert (result["attempt"], (tmp_path / "done").read_text()) == (1, "0123456789")
        await executed(session)


async def executed(session: Session) -> None:
    """Call until Redis takes calls again, and see that a worker executes that one."""
    async with asyncio.timeout(100):
        while (said := await outcome_of(session)) is None:
            pass
    assert said["structuredContent"]["upto"] == 2


async def outcome_of(session: Session) -> dict[str, Any] | None:
    """The result of a call; None where Redis was away, at its beginning or later."""
    answer = await session.call("count", {"upto": 2}, token="n")
    if answer.status != 200:
        assert answer.status == 503
        await answer.body()
        return None
    return (await answer.rest())[-1].get("result")


async def test_a_worker_goes_on_when_a_cluster_was_away(
    redis_program: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    def node() -> Server:
        options = ("--cluster-enabled", "yes", "--appendonly", "yes")
        return Server(redis_program, tmp_path_factory.mktemp("node"), *options)

    with cluster(node) as nodes:
        url = f"redis+cluster://{','.join(f'127.0.0.1:{each.port}' for each in nodes)}"
        async with floor(url) as site:
            session = await Session.open(await site.replica(lease=100.0))
            await site.worker(lease=100.0)
            await executed(session)
            for each in nodes:
                await asyncio.to_thread(each.kill)
            assert (await session.call("count", {"upto": 1}, token="a")).status == 503
            for each in nodes:
                await asyncio.to_thread(each.start)
            await executed(session)
