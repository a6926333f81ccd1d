"""Retries until a storage that is away comes back."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from headway.clock import Clock
from headway.errors import JournalUnavailable

RETRY_DELAY = 1.0
"""Seconds between two attempts."""

T = TypeVar("T")


async def retry_until_available(clock: Clock, attempt: Callable[[], Awaitable[T]]) -> T:
    """Call `attempt` until the journal can be used, and return its result.

    `attempt` may be called any number of times, so it has to be idempotent.
    """
    while True:
        try:
            return await attempt()
        except JournalUnavailable:
            await clock.sleep(RETRY_DELAY)
