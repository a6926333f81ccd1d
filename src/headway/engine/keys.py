"""Keys: what a run can be found by besides the stream it is in.

A key is a stream of its own, `key/<principal>/<name>`, whose first `Claimed` that is still kept
names the run. Many may claim a key at the same moment, in any process: the journal has numbered
them, so all see the same one as the first.
"""

import asyncio
import logging

from headway.engine.run import Run
from headway.errors import JournalError, StreamEnded, StreamNotFound
from headway.events import Cancelled, Claimed, Released
from headway.journal import Journal
from headway.protocol.cursors import tag_of

logger = logging.getLogger(__name__)

NOT_BEGUN = Cancelled("server", "it was not begun")
"""The end of a run that was accepted and is not executed: another one has its key."""


def key_stream(principal: str, name: str) -> str:
    """The stream of a key of a principal."""
    return f"key/{principal}/{name}"


class Keys:
    """The keys of one journal."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._tasks: set[asyncio.Task[None]] = set()

    async def find(self, key: str) -> Claimed | None:
        """What a key names; None where there is nothing, or where it is no longer kept.

        Raises:
            JournalError: The journal cannot be read.
        """
        try:
            entries = await self._journal.kept(key)
        except StreamNotFound:
            return None
        for entry in entries:
            claimed = entry.event
            if isinstance(claimed, Claimed) and await self._was_begun(claimed.stream):
                return claimed
        return None

    async def _was_begun(self, stream: str) -> bool:
        """Whether there is such a run, and not only the place that was made for one."""
        head = await self._journal.head(stream)
        if head is None or not head.ended:
            return head is not None
        last = await self._journal.read(stream, after=head.last - 1)
        return bool(last) and last[-1].event != NOT_BEGUN

    async def claim(self, key: str, mine: Claimed) -> Claimed:
        """Have the key name a run that is durable, unless it names one; returns what it names.

        Raises:
            JournalError: The journal cannot be written.
        """
        try:
            await self._journal.post(key, mine)
        except StreamEnded:
            # A run that was quick has begun and ended since the key was looked for.
            named = await self.find(key)
            if named is not None:
                return named
            # What it named is gone, and it will be in a moment.
            await self._journal.drop(key)
            await self._journal.post(key, mine)
        return await self.find(key) or mine

    def release_with(self, run: Run, key: str) -> None:
        """Let go of the key when the run it names has ended."""
        run.on_end(lambda: None if run.is_left else self._release_soon(key))

    async def ids(self, principal: str) -> dict[str, str]:
        """The runs of a principal that have a handle, oldest first: their ids and streams."""
        found: dict[str, str] = {}
        for key in await self._journal.streams(key_stream(principal, "")):
            claimed = await self.find(key)
            if claimed is not None:
                found.setdefault(claimed.stream.rpartition("/")[2], claimed.stream)
        return found

    async def place_of(self, asking: Run, run_id: str) -> str:
        """The stream of the run with this id, where it is the caller's who is asking.

        Raises:
            StreamNotFound: It is unknown, expired or somebody else's.
        """
        beside = f"{asking.stream.rpartition('/')[0]}/{run_id}"
        if "/" not in run_id and await self._journal.head(beside) is not None:
            return beside
        claimed = await self.find(id_key(asking.principal, run_id))
        if claimed is None:
            raise StreamNotFound(run_id)
        return claimed.stream

    async def sweep(self) -> None:
        """Let go of the keys of runs that have ended without their process.

        Raises:
            JournalError: The journal cannot be read.
        """
        for key in await self._journal.streams("key/", unfinished=True):
            claimed = await self.find(key)
            head = None if claimed is None else await self._journal.head(claimed.stream)
            if head is None or head.ended:
                await self.release(key)

    async def stop(self) -> None:
        """Return when the keys of all runs that have ended are let go of."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)

    def _release_soon(self, key: str) -> None:
        task = asyncio.create_task(self.release(key))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def release(self, key: str) -> None:
        """Let go of a key whose run has ended: both are kept for the same time from now on."""
        try:
            await self._journal.post(key, Released())
        except JournalError as error:
            logger.debug("%s is not let go of: %s", key, error)


def id_key(principal: str, run_id: str) -> str:
    """The key that a run's own id is, once its client was given it to come back with."""
    return key_stream(principal, tag_of(f"run {run_id}"))
