"""Programs, and one running server that tests may share because they change nothing of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.program import Programs, programs_in

EXAMPLE = Path(__file__).parent / "example.py"


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    with programs_in(tmp_path) as programs:
        yield programs


@pytest.fixture(scope="session")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where `example.py` is served."""
    with programs_in(tmp_path_factory.mktemp("shared")) as programs:
        _, url = programs.serve("run", f"{EXAMPLE}:mcp", "--port", "0", "--journal", "memory:")
        yield url
