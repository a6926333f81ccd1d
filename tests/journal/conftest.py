"""The journal's backends, to run one test over each."""

import itertools
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from tests.kit.fixtures import own

from headway.clock import Clock
from headway.encryption import Encryption, new_key
from headway.journal import Journal, open_journal
from headway.settings import Retention

BACKENDS = ["memory", "sqlite", "redis", "valkey", "encrypted sqlite", "encrypted redis"]

ENCRYPTION = Encryption((new_key(), new_key()))

Make = Callable[..., Journal]
"""Makes a journal that is not yet open, each time with a storage of its own."""


@pytest.fixture(params=BACKENDS)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    numbers = itertools.count()
    kind = request.param.removeprefix("encrypted ")
    encryption = ENCRYPTION if kind != request.param else None
    if kind in ("redis", "valkey"):
        request.getfixturevalue(f"{kind}_url")  # or skip
    urls: dict[str, Callable[[], str]] = {
        "memory": lambda: "memory:",
        "sqlite": lambda: f"sqlite:///{tmp_path}/{next(numbers)}.db",
        "redis": lambda: own(request.getfixturevalue("redis_url")),
        "valkey": lambda: own(request.getfixturevalue("valkey_url")),
    }

    def make(retention: Retention | None = None, clock: Clock | None = None) -> Journal:
        url = urls[kind]()
        return open_journal(url, retention=retention, clock=clock, encryption=encryption)

    return make


@pytest.fixture
async def journal(make: Make) -> AsyncIterator[Journal]:
    async with make() as journal:
        yield journal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a journal file may be."""
    return tmp_path / "journal.db"
