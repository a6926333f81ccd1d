"""The wait for entries that a resuming client has seen, and that its new replica does not know yet.

A reader in the process that writes gets an entry before the storage has it. If that reader came to
another process a moment later and nobody waited, it would get the entry again, or not find the
stream at all.
"""

from typing import Final

from headway.engine import Engine
from headway.journal import Head

CATCH_UP_TIMEOUT: Final = 2.0
"""Seconds in which an entry that one process has sent to a client must be stored for the others."""

LOOK_INTERVAL: Final = 0.05
"""Seconds between two looks whether the entry is stored."""


async def wait_until_stored(engine: Engine, stream: str, seq: int) -> Head | None:
    """Return the head of a stream when `seq` is in it, or when `seq` seems to be lost."""
    clock, head = engine.clock, await engine.journal.head(stream)
    limit = clock.now() + CATCH_UP_TIMEOUT
    while await _is_behind(engine, stream, head, seq) and clock.now() < limit:
        await clock.sleep(LOOK_INTERVAL)
        head = await engine.journal.head(stream)
    return head


async def _is_behind(engine: Engine, stream: str, head: Head | None, seq: int) -> bool:
    """Return whether another process may be about to store what its reader has seen."""
    if not engine.journal.is_durable:
        return False
    if head is None:
        return await engine.lease.is_of_another(stream)
    return not head.ended and head.last < seq
