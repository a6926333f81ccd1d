"""Fixtures for all tests."""

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """The only event loop Headway runs on."""
    return "asyncio"
