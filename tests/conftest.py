"""What all tests have: one kind of event loop, and the fixtures of the kit."""

import pytest

pytest_plugins = ["tests.kit.fixtures"]


@pytest.fixture
def anyio_backend() -> str:
    """The only event loop Headway runs on."""
    return "asyncio"
