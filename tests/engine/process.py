"""Engines on one file, as several processes would have them."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from headway.engine import Engine
from headway.journal import open_journal
from headway.settings import Settings
from headway.testing import FakeClock


@asynccontextmanager
async def process(path: Path, clock: FakeClock) -> AsyncGenerator[Engine]:
    """An engine on the file, as one of several processes would have it."""
    async with open_journal(f"sqlite:///{path}", clock=clock) as journal:
        engine = Engine(journal, Settings(progress_rate=0), clock=clock)
        await engine.start()
        try:
            yield engine
        finally:
            await engine.stop()
