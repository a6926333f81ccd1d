"""A Redis of the benchmark's own, and what it says of the work it did."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis import Redis
from tests.kit.redis_servers import Server, binary, running

from bench.cpu import cpu_of, turns_of


class NoRedis(Exception):
    """There is no `redis-server` to be had."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a Redis did since its start."""

    cpu: float
    scripts: int
    reads: int
    """Times it took something from a connection: the round trips, and more for large ones."""
    received: int
    sent: int
    memory: int
    waited: float
    turns: int


class RedisProcess:
    """A running Redis."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = Redis.from_url(url)
        first: Any = self.client.info("server")
        self.pid: int = first["process_id"]
        self.version: str = first["redis_version"]

    def work(self) -> Work:
        """What it did so far; to ask costs it a read and no script."""
        info: Any = self.client.info("all")
        scripts = info.get("cmdstat_evalsha", {"calls": 0})["calls"]
        return Work(
            cpu_of(self.pid),
            scripts,
            info["total_reads_processed"],
            info["total_net_input_bytes"],
            info["total_net_output_bytes"],
            info["used_memory"],
            *turns_of(self.pid),
        )


@contextmanager
def redis_process() -> Iterator[RedisProcess]:
    """A Redis that writes its log to disk every second, as one with a journal should.

    Raises:
        NoRedis: This machine has none.
    """
    program = binary()
    if program is None:
        raise NoRedis("install redis-server, or name one in REDIS_SERVER")
    directory = Path(tempfile.mkdtemp(prefix="headway-bench-redis-"))
    try:
        with running(lambda: Server(program, directory, "--appendonly", "yes")) as server:
            yield RedisProcess(server.url)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def cluster_pair() -> Iterator[tuple[RedisProcess, RedisProcess]]:
    """Two nodes of a Cluster that know each other; the first has all slots.

    Raises:
        NoRedis: This machine has none.
    """
    program = binary()
    if program is None:
        raise NoRedis("install redis-server, or name one in REDIS_SERVER")
    directory = Path(tempfile.mkdtemp(prefix="headway-bench-cluster-"))

    def node(name: str) -> Server:
        (directory / name).mkdir(exist_ok=True)
        return Server(program, directory / name, "--cluster-enabled", "yes")

    try:
        with running(lambda: node("one")) as one, running(lambda: node("two")) as two:
            for start in range(0, 16_384, 1024):
                one.say("CLUSTER", "ADDSLOTS", *map(str, range(start, start + 1024)))
            one.say("CLUSTER", "MEET", "127.0.0.1", str(two.port))
            for server in (one, two):
                server.until(lambda s=server: b"cluster_state:ok" in s.say("CLUSTER", "INFO"))
            yield RedisProcess(one.url), RedisProcess(two.url)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
