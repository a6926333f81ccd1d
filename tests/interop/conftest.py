"""Four kinds of served objects, four ways to be their client."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from uuid import uuid4

import pytest
from tests.interop.houses import KINDS, House, Street
from tests.interop.peers import PEERS, Ears, PeerKind


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """As for all tests; wider in scope so that the servers of a module stay on one loop.

    Starting and stopping uvicorn costs 0.2 s of waiting, a cell of the matrix 0.02.
    """
    return "asyncio"


@pytest.fixture(scope="module")
async def street(anyio_backend: str) -> AsyncGenerator[Street]:
    async with AsyncExitStack() as stack:
        yield Street(stack)


@pytest.fixture(params=KINDS)
async def house(street: Street, request: pytest.FixtureRequest) -> House:
    return await street.house(request.param)


@pytest.fixture(params=PEERS, ids=str)
def peer(request: pytest.FixtureRequest) -> PeerKind:
    return request.param


@pytest.fixture
def ears() -> Ears:
    return Ears()


@pytest.fixture
def key() -> str:
    """Tells the calls of one test from those of others at the same server."""
    return uuid4().hex
