"""Lost runs: the runs of dead processes, found in the journal and recovered or ended.

Any process that finds an unfinished run can look whether the run's process is alive, because the
run's id begins with that process's. If it is not, the run is recovered, or ends as interrupted so
that its readers stop waiting. Several processes may find the same run: the journal's fence lets one
of them have it.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from headway.clock import Clock
from headway.engine.recovery.dead_processes import Liveness
from headway.errors import JournalError, JournalUnavailable
from headway.events import Event, Forgotten, InboxClosed, Interrupted, ProcessLeft
from headway.journal import Journal
from headway.log_lines import quiet_logger
from headway.stream_names import (
    PROCESS_STREAMS,
    RUN_STREAMS,
    WORKERS,
    checkpoint_stream,
    inbox_stream,
    is_for_workers,
    process_id_of,
    process_inbox_stream,
    process_of,
    process_stream,
    pulse_stream,
)

logger = quiet_logger(__name__)

RECOVERED_AT_ONCE = 32
"""Runs of dead processes that are recovered at once: they share round trips."""

LISTING_SHARE = 0.1
"""Share of a process's time that it may list runs in: when they are many, it lists less often."""


class RunRecovery(Protocol):
    """The part of a process that decides about lost runs: the engine."""

    async def recover_run(self, stream: str) -> bool:
        """Go on with the run of a dead process; False when the run has to end.

        Raises:
            JournalError: The journal cannot be used.
        """
        ...

    async def sweep_streams(self) -> None:
        """Close what dead processes left open beside their runs, which are recovered by now."""
        ...

    async def check_worker_runs(self, streams: Sequence[str]) -> None:
        """Look after the unfinished runs for workers; called again and again."""
        ...

    async def record_lost(self, stream: str, end: Event) -> None:
        """Record the end of a run that nobody executes any more, in the audit log."""
        ...


class LostRuns:
    """Looks for the runs of dead processes, each time that its process gives a sign of life.

    Args:
        journal: The one that the processes share.
        clock: Of the process.
        liveness: Which processes are alive.
        recovery: Called for each lost run.
        own: Returns the id of this process; it gets another one when it was taken for dead.
        recovers: Whether this process goes on with what others left, or only looks after runs for
            workers, as a worker does.
    """

    def __init__(
        self,
        journal: Journal,
        clock: Clock,
        liveness: Liveness,
        recovery: RunRecovery,
        *,
        own: Callable[[], str],
        recovers: bool,
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._liveness = liveness
        self._recovery = recovery
        self._own = own
        self._recovers = recovers
        self._looks = 0
        self._rests = 0.0  # until then no list of runs is needed
        self._begun: set[str] = set()
        """The processes that had begun and not ended when it last looked."""

    async def look_at_start(self) -> None:
        """Recover the runs of all processes that seem dead to one that has just started."""
        self._liveness.is_starting = True
        try:
            await self.look()
        finally:
            self._liveness.is_starting = False

    async def look(self) -> None:
        """Recover the runs of processes that died; list all runs now and then in any case."""
        try:
            begun = await self._journal.streams(PROCESS_STREAMS, unfinished=True)
            tags = {process_id_of(name) for name in begun}
            gone = await self._gone_among(tags)
            # A list of all runs is long. While all processes live, it is enough that one of them
            # looks at it each time, and knows since when a run is nobody's; and every other one
            # once in as many times as there are, should that one not be able to.
            self._looks += 1
            is_turn = self._own() == min(tags, default="") or self._looks % max(len(tags), 1) == 0
            is_turn = is_turn and self._clock.now() >= self._rests
            if gone or self._begun - tags or is_turn or self._liveness.is_starting:
                await self._look_at_runs(gone)
            self._begun = tags
        except JournalError as error:
            self._liveness.forget_signs()
            logger.warning("runs of other processes were not looked at: %s", error)

    async def _look_at_runs(self, gone: set[str]) -> None:
        """Recover or end the runs of dead processes, then close the processes' own streams."""
        streams = await self._unfinished_runs()
        if not self._recovers:
            return
        gone = gone | await self._gone_among({process_of(name) for name in streams} - gone)
        if not gone:
            return
        left = [name for name in streams if process_of(name) in gone]
        for start in range(0, len(left), RECOVERED_AT_ONCE):
            some = left[start : start + RECOVERED_AT_ONCE]
            # A process that shows itself again keeps the runs that nobody has ended yet.
            gone = await self._gone_among(gone)
            some = [self._recover_or_end(name) for name in some if process_of(name) in gone]
            for failure in await asyncio.gather(*some, return_exceptions=True):
                if isinstance(failure, JournalUnavailable | asyncio.CancelledError):
                    raise failure
                if failure is not None:  # of one run: the others are looked at all the same
                    logger.error("a run is left as it is: %s", failure, exc_info=failure)
        await self._recovery.sweep_streams()
        # The process's own streams are closed last. If this process dies before that, the next one
        # finds the same process gone and looks at its runs again; those that were recovered have
        # another owner by then.
        for tag in gone:
            await append_last(self._journal, process_inbox_stream(tag), ProcessLeft("found gone"))
            await append_last(self._journal, pulse_stream(tag), ProcessLeft("found gone"))
            await append_last(self._journal, process_stream(tag), ProcessLeft("found gone"))

    async def _recover_or_end(self, stream: str) -> None:
        """Go on with the run of a dead process, or end it.

        Raises:
            JournalError: The journal cannot be read.
        """
        if not await self._is_revived(stream):
            end = Interrupted("the server process that executed it went away")
            if await end_run(self._journal, stream, end):
                await self._recovery.record_lost(stream, end)

    async def _is_revived(self, stream: str) -> bool:
        try:
            return await self._recovery.recover_run(stream)
        except JournalError:
            raise
        except Exception:
            logger.exception("%s cannot be begun anew, and ends", stream)
            return False

    async def _unfinished_runs(self) -> list[str]:
        """Return the streams of all unfinished runs, after those for workers were checked."""
        begun = self._clock.now()
        streams = await self._journal.streams(RUN_STREAMS, unfinished=True)
        await self._recovery.check_worker_runs([name for name in streams if is_for_workers(name)])
        ended = self._clock.now()
        self._rests = ended + (ended - begun) * (1 / LISTING_SHARE - 1)
        return streams

    async def _gone_among(self, tags: set[str]) -> set[str]:
        """Return those of these processes whose leases are over."""
        return {
            tag for tag in tags - {self._own(), WORKERS} if not await self._liveness.is_alive(tag)
        }


async def end_run(journal: Journal, stream: str, event: Event) -> bool:
    """End a run that nobody executes, and close the streams beside it.

    Returns False when the run has another end, or another process writes it.

    A process that dies between two of these leaves a stream beside a run with an end, which the
    next sweep closes.

    Raises:
        JournalError: The journal cannot be read.
    """
    is_ours = await append_last(journal, stream, event)
    await append_last(journal, inbox_stream(stream), InboxClosed())
    await append_last(journal, checkpoint_stream(stream), Forgotten())
    return is_ours


async def append_last(journal: Journal, stream: str, event: Event) -> bool:
    """End a stream that another process wrote; False where it is written or ended meanwhile."""
    head = await journal.head(stream)
    if head is None or head.ended:
        return False
    try:
        await journal.append(stream, [event], after=head.last)
    except JournalError as error:
        # It wrote after all, or another process was quicker: either way it is not ours.
        logger.debug("%s was not ended: %s", stream, error)
        return False
    return True
