"""Signs of life in the place of an event loop that is held: the lease is not lost to it.

A tool that computes on the loop, or a request that takes long to read, keeps the loop from giving
the process's signs of life. Its runs are as alive as before, and when others took them for dead,
everybody's would end. So a thread gives the sign, with a connection of its own, in a stream beside
the process's: what the loop writes is the loop's alone, and each stream has one writer.

Not for ever: a loop that is held for `hold_timeout` does not come back. Nor can a thread do
anything where native code keeps the interpreter to itself (the GIL).
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable

from headway.engine.processes import pulse_stream
from headway.errors import JournalError, JournalUnavailable
from headway.events import Alive
from headway.journal import Journal, open_journal

logger = logging.getLogger(__name__)

NAME = "headway-pulse"

LOOK = 0.1
"""Seconds between two looks at whether the loop goes on again."""


class Pulse:
    """Gives the signs of life of a process while its event loop is held.

    Args:
        url: The journal, for a connection of its own.
        tag: The process.
        every: Seconds between two signs.
        goes_on: Whether the loop is held and may come back; asked from the thread.
    """

    def __init__(self, url: str, tag: str, every: float, goes_on: Callable[[], bool]) -> None:
        self._url = url
        self._stream = pulse_stream(tag)
        self._every = every
        self._goes_on = goes_on
        self._thread = threading.Thread(target=self._run, name=NAME, daemon=True)
        self.signs = 0
        """How many were given."""

    @property
    def is_beating(self) -> bool:
        """Whether its thread goes on."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin to give signs, in a thread, until `goes_on` says no."""
        self._thread.start()

    def _run(self) -> None:
        try:
            asyncio.run(self._beat())
        except JournalUnavailable as error:
            logger.warning("no sign of life was given while the loop is held: %s", error)
        except JournalError as error:
            logger.warning("this process was found gone while its loop was held: %s", error)
        except Exception:
            logger.exception("no sign of life was given while the loop is held")

    async def _beat(self) -> None:
        # What is to be said of the storage was said at the start.
        heard = logging.getLogger("headway.journal.redis_trouble")
        heard.addFilter(_not_of_pulse)
        try:
            async with open_journal(self._url) as journal:
                await self._give_signs(journal)
        finally:
            heard.removeFilter(_not_of_pulse)

    async def _give_signs(self, journal: Journal) -> None:
        head = await journal.head(self._stream)
        last = 0 if head is None else head.last
        while self._goes_on():
            last = await journal.append(self._stream, [Alive()], after=last)
            self.signs += 1
            limit = time.monotonic() + self._every
            while self._goes_on() and time.monotonic() < limit:  # noqa: ASYNC110 - of another loop
                await asyncio.sleep(LOOK)


def _not_of_pulse(record: logging.LogRecord) -> bool:
    return record.threadName != NAME
