"""Notifications for clients that subscribed to a run as a resource: there is more of it."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from functools import partial

from headway.clock import Clock
from headway.errors import EntriesTrimmed, JournalError
from headway.journal import Journal
from headway.log_lines import quiet_logger
from headway.protocol.run_uris import run_of
from headway.stream_names import run_stream

logger = quiet_logger(__name__)

UPDATE_INTERVAL = 0.5
"""Seconds between two notices of one run: each makes its readers read."""


class RunSubscriptions:
    """Cursors on runs that clients subscribed to: one notification for news, and one at the end.

    A run has one watcher, however many clients subscribed. The watcher ends with the run and not
    with the subscription: the delivery of a notification knows the clients that still want it.
    """

    def __init__(
        self, journal: Journal, clock: Clock, publish: Callable[[str], Awaitable[None]]
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._publish = publish
        self._watching: dict[str, asyncio.Task[None]] = {}

    async def watch_runs(self, tag: str, uris: Iterable[object]) -> None:
        """Watch the runs that these URIs name, as far as they belong to the owner with this tag.

        Subscribers are notified of what comes after this call. The runs are looked up in one step.
        """
        runs = {run_id: str(uri) for uri in uris if (run_id := run_of(uri)) is not None}
        named = {run_stream(tag, run_id): uri for run_id, uri in runs.items()}
        wanted = {name: uri for name, uri in named.items() if name not in self._watching}
        if not wanted:
            return
        try:
            heads = await self._journal.head_of_each(wanted)
        except JournalError as error:
            logger.warning("runs are not watched: %s", error)
            return
        for stream, head in heads.items():
            if stream not in self._watching:
                task = asyncio.create_task(self._watch_run(stream, wanted[stream], head.last))
                self._watching[stream] = task
                task.add_done_callback(partial(self._forget_run, stream))

    def _forget_run(self, stream: str, _task: "asyncio.Task[None]") -> None:
        self._watching.pop(stream, None)

    async def stop(self) -> None:
        """Watch nothing any more."""
        tasks = list(self._watching.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch_run(self, stream: str, uri: str, after: int) -> None:
        await report_news(self._journal, self._clock, stream, after, lambda: self._publish(uri))


async def report_news(
    journal: Journal,
    clock: Clock,
    stream: str,
    after: int,
    tell: Callable[[], Awaitable[None]],
) -> None:
    """Call `tell` for what comes after entry `after` of a run, up to and including its end.

    It is called once in `UPDATE_INTERVAL` at most. A journal that fails ends the watch.
    """
    cursor = journal.open_cursor(stream, after=after)
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
                    await clock.sleep(UPDATE_INTERVAL)
    except JournalError as error:
        logger.warning("a run is watched no longer: %s", error)
