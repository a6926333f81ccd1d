"""Waiting for what has no event of its own: one bound for all tests, and what was waited for.

A bound is never a measure. It is as long as a machine may take that has other work to do, and a
wait that succeeds ends at once.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 90.0
"""Seconds after which a wait is a failure."""

_PAUSE = 0.01


async def within(work: Awaitable[T], seconds: float = PATIENCE) -> T:
    """Return the outcome of `work`, or raise `TimeoutError`."""
    async with asyncio.timeout(seconds):
        return await work


async def until(is_so: Callable[[], object], what: str = "") -> None:
    """Return when `is_so`: a state of this loop, of a file or of another process."""
    limit = time.monotonic() + PATIENCE
    turns = 0
    while not is_so():
        if time.monotonic() > limit:
            raise TimeoutError(what or f"not so after {PATIENCE:g} s: {_source_of(is_so)}")
        # What this loop does itself is done within a few turns; all else is looked at again.
        await asyncio.sleep(0 if turns < 100 else _PAUSE)
        turns += 1


async def until_seen(
    look: Callable[[], Awaitable[T]], is_so: Callable[[T], object], what: str = ""
) -> T:
    """Return what `look` gives once it is so: what somebody has to be asked for."""
    limit = time.monotonic() + PATIENCE
    turns = 0
    while not is_so(seen := await look()):
        if time.monotonic() > limit:
            raise TimeoutError(
                what or f"not so after {PATIENCE:g} s: {_source_of(is_so)}: {seen!r}"
            )
        await asyncio.sleep(0 if turns < 100 else _PAUSE)
        turns += 1
    return seen


async def until_told(is_so: Callable[[], Awaitable[object]], what: str = "") -> None:
    """Return when `is_so` says so, where it has to be asked for: of a journal, of a server."""
    limit = time.monotonic() + PATIENCE
    while not await is_so():
        if time.monotonic() > limit:
            raise TimeoutError(what or f"not so after {PATIENCE:g} s: {is_so!r}")
        await asyncio.sleep(_PAUSE)


def wait_until(is_so: Callable[[], object], what: str = "") -> None:
    """Return when `is_so`, outside of an event loop."""
    limit = time.monotonic() + PATIENCE
    while not is_so():
        if time.monotonic() > limit:
            raise TimeoutError(what or f"not so after {PATIENCE:g} s: {_source_of(is_so)}")
        time.sleep(_PAUSE)


def is_alive(pid: int) -> bool:
    """Return whether a process is there; one that nobody has reaped is not. Linux only."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except OSError:
        return False
    return state not in "ZX"


async def gone(pid: int) -> None:
    """Return when a process is not there any more."""
    await until(lambda: not is_alive(pid), f"process {pid} is still there")


def _source_of(is_so: Callable[..., object]) -> str:
    code = is_so.__code__
    return f"{Path(code.co_filename).name}:{code.co_firstlineno}"
