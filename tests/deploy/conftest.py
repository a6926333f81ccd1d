"""Replicas and proxies that stand for all tests of a session; a test that kills has its own."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.deploy.proxies import SHIPPED, program, proxy, replica
from tests.deploy.tools import needs
from tests.deploy.witness import Witness, witness
from tests.kit.peers import Wire
from tests.kit.trust import trust_as_usual

from headway.testing.server_process import ServerProcess

NO_APP: Any = None
"""The app is in other processes."""

Start = Callable[..., Awaitable[list[ServerProcess]]]
"""Starts processes, which end with the session."""


@dataclass(frozen=True)
class Deployment:
    """A proxy, and the replicas behind it."""

    name: str
    wire: Wire
    replicas: Sequence[ServerProcess]
    proxy: ServerProcess

    def replica_of(self, pid: int) -> ServerProcess:
        """The replica that is a process."""
        return next(one for one in self.replicas if one.pid == pid)


@pytest.fixture(scope="session", autouse=True)
def _registry() -> None:
    """Let what is installed come from a package registry."""
    trust_as_usual()


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """As for all tests; wider in scope, so that the processes may be too."""
    return "asyncio"


async def started(stack: AsyncExitStack, servers: Sequence[ServerProcess]) -> None:
    """Have all of them running at the end of this, and none at the end of `stack`."""
    for server in servers:
        stack.callback(server.close)
        server.spawn()
    for server in servers:
        await server.wait_ready()


async def deployed(
    stack: AsyncExitStack, name: str, place: Path, replicas: Sequence[ServerProcess]
) -> Deployment:
    """The proxy `name` before `replicas`."""
    front = proxy(name, [one.port for one in replicas], place)
    await started(stack, [front])
    return Deployment(name, Wire(front.origin, NO_APP, NO_APP), replicas, front)


@pytest.fixture(params=SHIPPED)
def name(request: pytest.FixtureRequest) -> str:
    """Each proxy; `make deploy-test` has all of them, another run says which one is not here."""
    needs(program(request.param), request.param)
    return request.param


@pytest.fixture(scope="session")
async def stack(anyio_backend: str) -> AsyncGenerator[AsyncExitStack]:
    """What stands to the end of the session."""
    async with AsyncExitStack() as opened:
        yield opened


@pytest.fixture(scope="session")
async def replicas(
    stack: AsyncExitStack, tmp_path_factory: pytest.TempPathFactory
) -> list[ServerProcess]:
    """Two that share a journal, and say soon that they live."""
    journal = tmp_path_factory.mktemp("replicas") / "journal.db"
    options = ("--set", "ping=300ms", "--set", "commit_after=100ms")
    servers = [replica(journal, *options) for _ in range(2)]
    await started(stack, servers)
    return servers


@pytest.fixture(scope="session")
def deployments() -> dict[str, Deployment]:
    """Those that stand already."""
    return {}


@pytest.fixture
async def shared(
    name: str,
    deployments: dict[str, Deployment],
    stack: AsyncExitStack,
    replicas: list[ServerProcess],
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncGenerator[Deployment]:
    """A proxy that stands for all tests, before the replicas that do."""
    if name not in deployments:
        deployments[name] = await deployed(stack, name, tmp_path_factory.mktemp(name), replicas)
    yield deployments[name]
    deployments[name].wire.cut_all()


@pytest.fixture
async def seen(anyio_backend: str) -> AsyncGenerator[Witness]:
    """Sees what the tools do, who wait for its word."""
    async with witness() as one:
        yield one
