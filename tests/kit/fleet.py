"""Replicas of one server on one journal, and clients whose requests go to one after the other."""

import itertools
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.kit.http import Answer, Connection
from tests.kit.peers import Extra, Wire, served

from headway import Settings
from headway.clock import Clock

JOURNALS = ("sqlite", "redis")
"""Each journal that processes can share."""

SETTINGS = Settings(progress_rate=0)


@pytest.fixture(params=JOURNALS)
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a journal that nobody has used."""
    if request.param == "redis":
        new_redis_url: Callable[[], str] = request.getfixturevalue("new_redis_url")
        return new_redis_url()
    return f"sqlite:///{tmp_path / 'journal.db'}"


class RoundRobin(Wire):
    """A load balancer that knows nothing of sessions: each request goes to the next replica."""

    def __init__(self, replicas: list[Wire]) -> None:
        self.replicas = replicas
        self._next = itertools.cycle(replicas)
        self.path = "/mcp"

    async def send(
        self,
        method: str,
        headers: Extra,
        body: bytes = b"",
        *,
        path: str | None = None,
        receive_buffer: int | None = None,
    ) -> Connection:
        replica = next(self._next)
        return await replica.send(method, headers, body, path=path, receive_buffer=receive_buffer)

    async def ask(
        self, method: str, headers: Extra, body: bytes = b"", *, path: str | None = None
    ) -> Answer:
        return await next(self._next).ask(method, headers, body, path=path)


@dataclass
class Fleet:
    """Some replicas; `wire` is what a client sees of them."""

    replicas: list[Wire]
    wire: RoundRobin

    def __getitem__(self, number: int) -> Wire:
        return self.replicas[number]


@asynccontextmanager
async def fleet_of(
    servers: list[Any], journal: str, settings: Settings = SETTINGS
) -> AsyncGenerator[Fleet]:
    """A replica for each of these servers, which are the same as far as clients can tell."""
    async with AsyncExitStack() as stack:
        replicas = [
            await stack.enter_async_context(
                served(server, journal=journal, clock=Clock(), settings=settings)
            )
            for server in servers
        ]
        yield Fleet(replicas, RoundRobin(replicas))
