"""What every wire test needs: servers that stop at once, and an ear for what they log."""

import asyncio
from typing import Any

import pytest


class _Impatient:
    """`asyncio` as uvicorn's server loop sees it: its ticks of 100 ms are 2 ms here."""

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / 50)


@pytest.fixture(autouse=True)
def _quick_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without this, most of the directory's time would be servers noticing that they may stop."""
    monkeypatch.setattr("uvicorn.server.asyncio", _Impatient())
