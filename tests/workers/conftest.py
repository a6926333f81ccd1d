"""Redis, and the patience that processes of a busy machine need."""

import pytest
from tests.journal.conftest import (
    certificates,
    cluster_url,
    new_redis_url,
    redis,
    redis_program,
    redis_url,
    start_redis,
    tls_cluster_url,
    valkey_url,
)
from tests.wire.conftest import _quick_ticks

__all__ = [
    "_quick_ticks",
    "certificates",
    "cluster_url",
    "new_redis_url",
    "redis",
    "redis_program",
    "redis_url",
    "start_redis",
    "tls_cluster_url",
    "valkey_url",
]


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.wire.client.PATIENCE", 100.0)
    monkeypatch.setattr("tests.cli.program.LIMIT", 100.0)
