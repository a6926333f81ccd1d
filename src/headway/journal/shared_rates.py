"""Rates that hold over all processes which share a journal.

This module must not know what is counted, nor for whom.
"""

import asyncio
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Final, cast

from headway.clock import Clock
from headway.errors import JournalError
from headway.journal.store import Store
from headway.log_lines import quiet_logger
from headway.rate_limits import LocalRates, Rate

logger = quiet_logger(__name__)

ANSWER_TIMEOUT: Final = 1.0
"""Seconds that the storage may take. The caller has a client that waits, and can do without it."""

TakeOne = Callable[[str, Rate, Callable[[], float]], Awaitable[float]]
"""`Store.take_one`, of a storage that has it."""


class SharedRates:
    """The rates of callers, wherever they did what is counted.

    Where the storage keeps no rates, or does not answer, each process counts for itself.
    """

    def __init__(self, store: Store | None, clock: Clock) -> None:
        self._clock = clock
        self._local = LocalRates()
        self._take_one = cast("TakeOne | None", getattr(store, "take_one", None))

    async def take(self, name: str, rate: Rate) -> float:
        """Count one of `name` and return 0; or return the seconds until it may come.

        The storage is given a digest of the name.
        """
        now = self._clock.time()
        # Who has had everything here has had it everywhere: most of those who are refused.
        if wait := self._local.wait_of(name, rate, now):
            return wait
        if self._take_one is not None:
            digest = sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:32]
            try:
                async with asyncio.timeout(ANSWER_TIMEOUT):
                    wait = await self._take_one(digest, rate, self._clock.time)
            except (JournalError, TimeoutError) as error:
                why = error if isinstance(error, JournalError) else "no answer in time"
                logger.warning("what other processes let in is not counted: %s", why)
                # Others came here meanwhile.
                return self._local.take(name, rate, self._clock.time())
        if not wait:
            self._local.add(name, rate, now)
        return wait
