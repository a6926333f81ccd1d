"""Leases: which process may write which runs, and what becomes of the runs of one that died.

A process shows in a stream of its own that it is there. The ids of its runs begin with its tag,
so whoever finds a run without an end can ask whether its process is still alive; if it is not,
the run ends as interrupted, and its readers stop waiting. The journal's fence does the rest: a
process that was only paused finds that its runs have ended and cannot write to them.
"""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable

from headway.clock import Clock, Timer
from headway.engine.inbox import inbox_of
from headway.errors import JournalError
from headway.events import Alive, Event, InboxClosed, Interrupted, ProcessLeft
from headway.journal import Journal

logger = logging.getLogger(__name__)

TAG_LENGTH = 8
SIGNS = 3
"""Signs of life within a lease: one or two may be late without harm."""


class Lease:
    """This process's lease on a journal that others may share.

    `lost` is called when another process has found this one gone; `revive` with the stream of a
    run that a dead process left: True when the run goes on, False when it has to end; `recovered`
    when that was done for all of them.
    """

    def __init__(
        self,
        journal: Journal,
        clock: Clock,
        seconds: float,
        *,
        lost: Callable[[], None],
        revive: Callable[[str], Awaitable[bool]],
        recovered: Callable[[], Awaitable[None]],
    ) -> None:
        self.tag = secrets.token_urlsafe(TAG_LENGTH)[:TAG_LENGTH]
        self._journal = journal
        self._clock = clock
        self._seconds = seconds
        self._lost = lost
        self._revive = revive
        self._recovered = recovered
        self._seq = 0
        self._timer: Timer | None = None
        self._looking: asyncio.Task[None] | None = None

    async def take(self) -> None:
        """Begin the lease, then end what processes left behind that are gone.

        A journal that dies with the process needs no lease.
        """
        if not self._journal.is_durable:
            return
        self._seq = await self._journal.append(_stream(self.tag), [Alive()], after=0)
        await self._recover()
        self._arm()

    async def release(self) -> None:
        """Give the lease back; to be called when all runs have ended."""
        if self._timer is not None:
            self._timer.cancel()
        if self._looking is not None:
            self._looking.cancel()
        if self._seq:
            try:
                stream = _stream(self.tag)
                await self._journal.append(stream, [ProcessLeft("stopped")], after=self._seq)
            except JournalError as error:
                logger.warning("the lease was not given back: %s", error)

    def _arm(self) -> None:
        self._timer = self._clock.call_later(self._seconds / SIGNS, self._sign)

    def _sign(self) -> None:
        try:
            self._seq = self._journal.append_nowait(_stream(self.tag), Alive(), after=self._seq)
        except JournalError as error:
            logger.error("this process was found gone by another one; its runs end: %s", error)
            self._begin_anew()
            return
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._recover())
        self._arm()

    def _begin_anew(self) -> None:
        self._seq = 0
        self._lost()
        self.tag = secrets.token_urlsafe(TAG_LENGTH)[:TAG_LENGTH]
        self._looking = asyncio.create_task(self.take())

    async def _recover(self) -> None:
        """End the runs of processes that are gone, then their own streams."""
        try:
            gone = await self._gone()
            if not gone:
                return
            for stream in await self._journal.streams("run/", unfinished=True):
                if process_of(stream) in gone and not await self._revive(stream):
                    reason = "the server process that executed it went away"
                    await self._end(stream, Interrupted(reason))
                    await self._end(inbox_of(stream), InboxClosed())
            await self._recovered()
            for tag in gone:
                await self._end(_stream(tag), ProcessLeft("found gone"))
        except JournalError as error:
            logger.warning("runs of other processes were not looked at: %s", error)

    async def _gone(self) -> set[str]:
        """The processes whose leases are over."""
        tags = {process_of(name) for name in await self._journal.streams("run/", unfinished=True)}
        begun = await self._journal.streams("process/", unfinished=True)
        tags |= {name.removeprefix("process/") for name in begun}
        return {tag for tag in tags - {self.tag} if not await self.is_alive(tag)}

    async def is_alive(self, tag: str) -> bool:
        """Whether the process with this tag may still write its runs."""
        head = await self._journal.head(_stream(tag))
        if head is None or head.ended:
            return False
        last = await self._journal.read(_stream(tag), after=head.last - 1)
        return bool(last) and last[-1].time + self._seconds > self._clock.time()

    async def _end(self, stream: str, event: Event) -> None:
        head = await self._journal.head(stream)
        if head is None or head.ended:
            return
        try:
            await self._journal.append(stream, [event], after=head.last)
        except JournalError as error:
            # It wrote after all, or another process was quicker: either way it is not ours.
            logger.debug("%s was not ended: %s", stream, error)


def process_of(stream: str) -> str:
    """The tag of the process that executes the run of a stream."""
    return stream.rpartition("/")[2][:TAG_LENGTH]


def _stream(tag: str) -> str:
    return f"process/{tag}"
