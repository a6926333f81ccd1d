"""Telling who subscribed to a run as a resource that there is more of it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from headway.clock import Clock
from headway.errors import EntriesTrimmed, JournalError
from headway.journal import Journal
from headway.protocol.run_uris import run_of

logger = logging.getLogger(__name__)

INTERVAL = 0.5
"""Seconds between two notices of one run: each makes its readers read."""


class Watchers:
    """Cursors on runs that somebody subscribed to: a notice for what comes, and one at the end.

    A run has one watcher, however many ask. It ends with the run, not with the subscription:
    whoever delivers the notices knows who still wants them.
    """

    def __init__(
        self, journal: Journal, clock: Clock, publish: Callable[[str], Awaitable[None]]
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._publish = publish
        self._watching: dict[str, asyncio.Task[None]] = {}

    async def watch(self, tag: str, uri: object) -> None:
        """Watch the run that `uri` names, if it names a run of the owner with this tag.

        What comes behind this call is told of.
        """
        run_id = run_of(uri)
        stream = f"run/{tag}/{run_id}"
        if run_id is None or not isinstance(uri, str) or stream in self._watching:
            return
        try:
            head = await self._journal.head(stream)
        except JournalError as error:
            logger.warning("a run is not watched: %s", error)
            return
        if head is not None and stream not in self._watching:
            task = asyncio.create_task(self._follow(stream, uri, head.last))
            self._watching[stream] = task
            task.add_done_callback(lambda _: self._watching.pop(stream, None))

    async def stop(self) -> None:
        """Watch nothing any more."""
        tasks = list(self._watching.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, stream: str, uri: str, after: int) -> None:
        await follow_news(self._journal, self._clock, stream, after, lambda: self._publish(uri))


async def follow_news(
    journal: Journal,
    clock: Clock,
    stream: str,
    after: int,
    tell: Callable[[], Awaitable[None]],
) -> None:
    """Call `tell` for what comes behind entry `after` of a run, until its end has been told.

    What comes within `INTERVAL` is told at once. A journal that fails ends it.
    """
    cursor = journal.cursor(stream, after=after)
    try:
        while not cursor.done:
            try:
                news = await cursor.next()
            except EntriesTrimmed as error:
                cursor.after = error.first - 1
                continue
            if news:
                await tell()
                if not cursor.done:
                    await clock.sleep(INTERVAL)
    except JournalError as error:
        logger.warning("a run is watched no longer: %s", error)
