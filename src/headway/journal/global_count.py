"""Counting over all processes: how many streams of one kind have not ended, whoever writes them.

This module must not know what is counted, only that the streams' names begin with the same prefix.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import TypeVar

from headway.errors import JournalError
from headway.journal.store import Store
from headway.log_lines import quiet_logger

logger = quiet_logger(__name__)

T = TypeVar("T")

COUNT_TIMEOUT = 1.0
"""Seconds that a count may take. The caller has a client that waits, and can do without it."""


class GlobalCount:
    """Counts the streams that all processes have stored; without a storage there are no others."""

    def __init__(self, store: Store | None) -> None:
        self._store = store

    async def count_unfinished(
        self,
        prefix: str,
        here: Callable[[], Collection[str]],
        most: int,
        *,
        part: Callable[[str], str] = str,
    ) -> int | None:
        """Return how many streams that start with `prefix` have not ended; None if that is unknown.

        The number is exact from `most` on; below it, streams of this process may be counted twice.

        Args:
            prefix: What the names of the streams begin with.
            here: Returns the streams that this process has begun and may not have stored, at
                least. It is called last, and nothing is awaited after it: so a caller that adds
                its own stream at once cannot be passed by another.
            most: The number that the caller compares with.
            part: Names with the same part are counted once. `here` returns such parts.
        """
        if self._store is None:
            return None
        try:
            async with asyncio.timeout(COUNT_TIMEOUT):
                # A number costs the same whatever it is, names do not: most callers have few.
                many, mine = await _ask_around(here, self._store.count(prefix))
                found = many + len(mine)
                if found >= most:
                    listing = self._store.streams(prefix, unfinished=True)
                    names, mine = await _ask_around(here, listing)
                    found = len({*map(part, names), *mine})
        except (JournalError, TimeoutError) as error:
            why = (
                error
                if isinstance(error, JournalError)
                else f"no answer within {COUNT_TIMEOUT:g} s"
            )
            logger.warning("what goes on in other processes is not counted: %s", why)
            return None
        return found


async def _ask_around(
    here: Callable[[], Collection[str]], asked: Awaitable[T]
) -> tuple[T, set[str]]:
    """Return the storage's answer, and all that `here` returned before the question or after it.

    A stream that is stored while the question is under way may be missing in the answer, and in
    `here` afterwards.
    """
    before = {*here()}
    return await asked, before | {*here()}
