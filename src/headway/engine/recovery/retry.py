"""Going on when a storage comes back."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from headway.clock import Clock
from headway.errors import JournalUnavailable

RETRY_DELAY = 1.0
"""Seconds until what failed is tried again."""

T = TypeVar("T")


async def retry_until_available(clock: Clock, attempt: Callable[[], Awaitable[T]]) -> T:
    """What `attempt` returns, as soon as the journal can be used; for what may be done again."""
    while True:
        try:
            return await attempt()
        except JournalUnavailable:
            await clock.sleep(RETRY_DELAY)
