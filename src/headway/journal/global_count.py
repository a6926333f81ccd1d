"""Counting over all processes: how many streams of one kind go on, whoever writes them.

This module must not know what is counted, only that its streams begin with the same words.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from typing import TypeVar

from headway.errors import JournalError
from headway.journal.store import Store

logger = logging.getLogger(__name__)

T = TypeVar("T")

COUNT_TIMEOUT = 1.0
"""Seconds that a count may take. Whoever asks has a client that waits, and can do without."""


class GlobalCount:
    """What all processes have stored; without a storage there are no others."""

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
        """How many streams that start with `prefix` have no end; None where nobody can say.

        Exact from `most` on; fewer than that may be told as too many. `here` gives at least those
        that this process has begun and may not have stored; it is asked last, and nothing is
        waited for behind it. Names with the same `part` are counted once; `here` gives such parts.
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
    """What is asked of the storage, and all that this process had begun before or has behind it.

    What is stored in between may be in neither the answer nor `here` behind it.
    """
    before = {*here()}
    return await asked, before | {*here()}
