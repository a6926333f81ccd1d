"""The journals that a server may have, to run one test over each."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.kit.fleet import JOURNALS


@pytest.fixture(params=["memory", *JOURNALS])
def any_journal(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a journal of each kind that nobody has used."""
    if request.param == "redis":
        new_redis_url: Callable[[], str] = request.getfixturevalue("new_redis_url")
        return new_redis_url()
    return "memory:" if request.param == "memory" else f"sqlite:///{tmp_path / 'journal.db'}"
