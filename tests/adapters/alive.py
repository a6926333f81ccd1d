"""Whether a process is there; one that nobody has reaped is not."""

import asyncio
from collections.abc import Callable
from pathlib import Path


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except OSError:
        return False


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for what another process does."""
    async with asyncio.timeout(20):
        while not is_so():  # noqa: ASYNC110 - it has no event to set here
            await asyncio.sleep(0.01)


async def gone(pid: int) -> None:
    """Wait until it is not there any more."""
    await until(lambda: not is_alive(pid))
