"""Broadcast streams: each process on a journal follows them and can publish to all others.

What one process publishes reaches every process, in the same order, through the one cursor that
each has. Entries are kept for a while, so that a reader can come later. The newest entries are held
in memory, so that many readers cost one read.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from headway.clock import Clock
from headway.errors import EntriesTrimmed, JournalError, StreamNotFound
from headway.events import Alive, Entry, Event
from headway.journal import Cursor, Journal
from headway.log_lines import quiet_logger

logger = quiet_logger(__name__)

SIGN_SHARE = 4
"""A stream without news is kept by a sign of life this many times within the retention."""

RETRY_DELAY = 1.0
"""Seconds until a journal that could not be read is asked again."""


class BroadcastStream:
    """The stream `name`. `hear` is called with each entry; the last `kept` are held in memory."""

    def __init__(
        self,
        journal: Journal,
        clock: Clock,
        name: str,
        hear: Callable[[Entry], None],
        *,
        kept: int = 0,
    ) -> None:
        self.name = name
        self.last = 0
        """The number of the newest entry that was read here."""
        self._journal = journal
        self._clock = clock
        self._hear = hear
        self._trouble = ""  # the last error that was logged
        self._held = deque[Entry](maxlen=kept)
        self._cursor: Cursor | None = None
        self._task: asyncio.Task[None] | None = None
        self._signing: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Start to read: `hear` gets what is published from now on.

        Raises:
            JournalError: The journal cannot be written.
        """
        # The position is taken before `open` returns: nothing that is published after it can be
        # missed.
        await self._start_cursor()
        self._task = asyncio.create_task(self._read_entries())
        self._signing = asyncio.create_task(self._renew_stream())

    async def close(self) -> None:
        """Stop reading."""
        tasks = [task for task in (self._task, self._signing) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def publish(self, event: Event) -> int:
        """Publish an event to all processes, this one included; return its `seq`, durable.

        A journal that fails is logged; the `seq` is 0 then.
        """
        try:
            seq = await self._journal.append_shared(self.name, event)
        except JournalError as error:
            logger.warning("other processes were not told: %s", error)
            return 0
        if self._cursor is not None:
            self._cursor.nudge()  # this process reads it at once
        return seq

    async def read_after(self, seq: int) -> list[Entry]:
        """Return some entries after `seq`, of those that were read here; the oldest may be gone.

        Raises:
            JournalError: The journal cannot be read.
        """
        if seq >= self.last:
            return []
        if self._held and self._held[0].seq <= seq + 1:
            return [entry for entry in self._held if entry.seq > seq]
        try:
            return await self._journal.read(self.name, after=seq)
        except EntriesTrimmed as error:
            return await self._journal.read(self.name, after=error.first - 1)

    async def clamp_position(self, seq: int) -> int:
        """Return `seq`, or the newest number where the stream has not come so far anywhere.

        Another process may have read further than this one, and a crash may have lost the newest
        entries.

        Raises:
            JournalError: The journal cannot be read.
        """
        if seq <= self.last:
            return seq
        head = await self._journal.head(self.name)
        return min(seq, self.last if head is None else max(self.last, head.last))

    async def _start_cursor(self) -> None:
        head = await self._journal.head(self.name)
        self.last = (
            await self._journal.append_shared(self.name, Alive()) if head is None else head.last
        )
        self._held.clear()
        self._cursor = self._journal.open_cursor(self.name, after=self.last)

    async def _read_entries(self) -> None:
        while not self._journal.closed:
            assert self._cursor is not None
            try:
                for entry in await self._cursor.next():
                    self._deliver_entry(entry)
            except EntriesTrimmed as error:
                self._cursor.after = error.first - 1
            except StreamNotFound:
                await self._restart_cursor()
            except JournalError as error:
                if not self._journal.closed:
                    if str(error) != self._trouble:
                        self._trouble = str(error)
                        logger.warning("what other processes tell is not heard: %s", error)
                    await self._clock.sleep(RETRY_DELAY)

    async def _restart_cursor(self) -> None:
        """Begin anew: the stream was dropped, or it expired while this process was not looking."""
        try:
            await self._start_cursor()
        except JournalError as error:
            logger.warning("what other processes tell is not heard: %s", error)
            await self._clock.sleep(RETRY_DELAY)

    def _deliver_entry(self, entry: Entry) -> None:
        self.last = entry.seq
        if self._held.maxlen:
            self._held.append(entry)
        try:
            self._hear(entry)
        except Exception:  # a server's own listener may raise anything
            logger.exception("an entry of %s was not handled", self.name)

    async def _renew_stream(self) -> None:
        while True:
            await self._clock.sleep(self._journal.retention.ttl / SIGN_SHARE)
            await self.publish(Alive())
