"""Leases: which process may write which runs, and what becomes of the runs of a dead one.

A process writes signs of life into a stream of its own. The ids of its runs begin with its id, so
any process that finds an unfinished run can look whether the run's process is alive. If it is not,
the run is recovered, or ends as interrupted so that its readers stop waiting. The journal's fence
does the rest: a process that was only paused finds that its runs were taken, and cannot write them.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from headway.clock import Clock, Timer
from headway.engine.recovery.signs_of_life import LifeSigns
from headway.errors import EntriesTrimmed, JournalError, JournalUnavailable
from headway.events import Alive, Entry, Event, Forgotten, InboxClosed, Interrupted, ProcessLeft
from headway.journal import Journal
from headway.streams import (
    PROCESS_STREAMS,
    RUN_STREAMS,
    WORKERS,
    checkpoint_stream,
    inbox_stream,
    is_for_workers,
    new_process_id,
    process_id_of,
    process_inbox_stream,
    process_of,
    process_stream,
    pulse_stream,
)

logger = logging.getLogger(__name__)

SIGNS_PER_LEASE = 3
"""Signs of life in the time of a lease: one or two may be late without harm."""

RECOVERED_AT_ONCE = 32
"""Runs of dead processes that are recovered at once: they share round trips."""

RECOVERY_START_TIMEOUT = 5.0
"""Seconds that a start waits for recovery. The rest is done while the process serves."""

LISTING_SHARE = 0.1
"""Share of a process's time that it may list runs in: when they are many, it lists less often."""


class LeaseHolder(Protocol):
    """The part of a process that its lease calls: the engine."""

    async def open_lease(self, process: str) -> None:
        """Act on a new lease. `process` is the id that this process has from now on.

        Raises:
            JournalError: The journal cannot be written.
        """
        ...

    def lose_lease(self) -> None:
        """Stop all runs, because another process has found this one gone."""
        ...

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


class Lease:
    """This process's lease on a journal that others may share.

    Args:
        journal: A journal that is not durable needs no lease: its processes die with it.
        clock: Of the process.
        seconds: A process that gives no sign of life for so long is dead.
        holder: Called for what the lease finds.
        hold_timeout: Seconds after which an event loop that is held counts as dead.
        recovers: Whether this process goes on with what others left, or only looks after runs for
            workers, as a worker does.
    """

    def __init__(
        self,
        journal: Journal,
        clock: Clock,
        seconds: float,
        holder: LeaseHolder,
        *,
        hold_timeout: float = 120.0,
        recovers: bool = True,
    ) -> None:
        self.tag = new_process_id()
        self._journal = journal
        self._clock = clock
        self._seconds = seconds
        self._holder = holder
        self._hold_timeout = hold_timeout
        self._recovers = recovers
        self._signs: dict[str, tuple[int, float]] = {}  # the last of each, and since when
        self._is_starting = False
        self._looks = 0
        self._rests = 0.0  # until then no list of runs is needed
        self._begun: set[str] = set()
        """The processes that had begun and not ended when it last looked."""
        self._seq = 0
        self._timer: Timer | None = None
        self._pulse: LifeSigns | None = None
        self._looking: asyncio.Task[None] | None = None

    async def begin_lease(self) -> None:
        """Begin the lease, then recover the runs of dead processes.

        When this returns all are recovered, unless that takes longer than `RECOVERY_START_TIMEOUT`.
        A journal that dies with the process needs no lease.

        Raises:
            JournalError: The journal cannot be used.
        """
        if not self._journal.is_durable:
            return
        self._seq = await self._journal.append(process_stream(self.tag), [Alive()], after=0)
        if self._journal.blocking_writer is not None:
            every = self._seconds / SIGNS_PER_LEASE / 2
            self._pulse = LifeSigns(self._journal.blocking_writer, self.tag, every)
        await self._holder.open_lease(self.tag)
        self._schedule_sign()  # the others' runs may be many, and this process is alive meanwhile
        self._looking = asyncio.create_task(self._recover_at_start())
        done, _ = await asyncio.wait([self._looking], timeout=RECOVERY_START_TIMEOUT)
        for looked in done:
            looked.result()

    async def _recover_at_start(self) -> None:
        self._is_starting = True
        try:
            await self._recover_runs()
        finally:
            self._is_starting = False

    async def give_up_lease(self) -> None:
        """Give the lease back, when all runs have ended."""
        if self._timer is not None:
            self._timer.cancel()
        if self._looking is not None:
            self._looking.cancel()
        if self._seq:
            try:
                stream = process_stream(self.tag)
                await self._journal.append(stream, [ProcessLeft("stopped")], after=self._seq)
            except JournalError as error:
                logger.warning("the lease was not given back: %s", error)
            if self._pulse is not None and self._pulse.signs:
                with suppress(JournalError):
                    await self._append_quietly(pulse_stream(self.tag), ProcessLeft("stopped"))

    def sign_for_held_loop(self, held: Callable[[], float]) -> None:
        """Have a thread give the signs of life of a held event loop; from any thread.

        `held` returns for how many seconds the loop has been held. Below half the time between two
        signs nothing is done, because no sign is missing; nor above `hold_timeout`, because the
        loop counts as dead.
        """
        every = self._seconds / SIGNS_PER_LEASE / 2

        def goes_on() -> bool:
            return every <= held() < self._hold_timeout

        # A clock that is set by a test knows no threads.
        if not self._seq or self._pulse is None or not goes_on() or type(self._clock) is not Clock:
            return
        self._pulse.begin(goes_on)

    def _schedule_sign(self) -> None:
        self._timer = self._clock.call_later(self._seconds / SIGNS_PER_LEASE, self._give_sign)

    def _give_sign(self) -> None:
        try:
            self._seq = self._journal.append_nowait(
                process_stream(self.tag), Alive(), after=self._seq
            )
        except JournalError as error:
            logger.error("this process was found gone by another one; its runs end: %s", error)
            self._begin_new_lease()
            return
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._recover_runs())
        self._schedule_sign()

    def _begin_new_lease(self) -> None:
        self._seq = 0
        self._holder.lose_lease()
        self.tag = new_process_id()
        self._looking = asyncio.create_task(self.begin_lease())

    async def _recover_runs(self) -> None:
        """Recover the runs of processes that died; list all runs now and then in any case."""
        try:
            begun = await self._journal.streams(PROCESS_STREAMS, unfinished=True)
            tags = {process_id_of(name) for name in begun}
            gone = await self._gone_among(tags)
            # A list of all runs is long. While all processes live, it is enough that one of them
            # looks at it each time, and knows since when a run is nobody's; and every other one
            # once in as many times as there are, should that one not be able to.
            self._looks += 1
            is_turn = self.tag == min(tags, default="") or self._looks % max(len(tags), 1) == 0
            is_turn = is_turn and self._clock.now() >= self._rests
            if gone or self._begun - tags or is_turn or self._is_starting:
                await self._look_at_runs(gone)
            self._begun = tags
        except JournalError as error:
            # While nobody can read, nobody can write: silence proves nothing from now on.
            self._signs.clear()
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
        await self._holder.sweep_streams()
        for tag in gone:
            await self._append_quietly(process_inbox_stream(tag), ProcessLeft("found gone"))
            await self._append_quietly(pulse_stream(tag), ProcessLeft("found gone"))
            await self._append_quietly(process_stream(tag), ProcessLeft("found gone"))

    async def _recover_or_end(self, stream: str) -> None:
        """Go on with the run of a dead process, or end it.

        Raises:
            JournalError: The journal cannot be read.
        """
        if not await self._is_revived(stream):
            reason = "the server process that executed it went away"
            await self.end_run(stream, Interrupted(reason))

    async def _is_revived(self, stream: str) -> bool:
        try:
            return await self._holder.recover_run(stream)
        except JournalError:
            raise
        except Exception:
            logger.exception("%s cannot be begun anew, and ends", stream)
            return False

    async def _unfinished_runs(self) -> list[str]:
        """Return the streams of all unfinished runs, after those for workers were checked."""
        begun = self._clock.now()
        streams = await self._journal.streams(RUN_STREAMS, unfinished=True)
        await self._holder.check_worker_runs([name for name in streams if is_for_workers(name)])
        ended = self._clock.now()
        self._rests = ended + (ended - begun) * (1 / LISTING_SHARE - 1)
        return streams

    async def _gone_among(self, tags: set[str]) -> set[str]:
        """Return those of these processes whose leases are over."""
        return {tag for tag in tags - {self.tag, WORKERS} if not await self.is_alive(tag)}

    async def is_alive(self, tag: str) -> bool:
        """Return whether the process with this id may still write its runs.

        The time of its last sign is by its wall clock, and either process's clock may have been set
        since. It is believed only at the start. Later the process is dead when this one has also
        seen no new sign for half a lease, by the monotonic clock.

        Raises:
            JournalError: The journal cannot be read.
        """
        if tag == self.tag:
            # Its last sign may be old: a process that stood still has had no time for another.
            return True
        sign = await self._last_sign(process_stream(tag))
        if sign is None:
            for stream in (process_stream(tag), pulse_stream(tag)):
                self._signs.pop(stream, None)
            return False
        if self._is_sign_of_life(process_stream(tag), sign):
            return True
        # Its loop may be held: then a thread gives the signs, until the loop does again.
        pulse = await self._last_sign(pulse_stream(tag))
        if pulse is None or pulse.time < sign.time:
            return False
        return self._is_sign_of_life(pulse_stream(tag), pulse)

    async def _last_sign(self, stream: str) -> Entry | None:
        """Return the last entry of a stream, or None where it has ended or was never there."""
        head = await self._journal.head(stream)
        if head is None or head.ended:
            return None
        try:
            last = await self._journal.read(stream, after=head.last - 1)
        except EntriesTrimmed:  # it cannot be read: then it only counts whether there are more
            return Entry(head.last, self._clock.time() + 1, Alive())
        return last[-1] if last else None

    def _is_sign_of_life(self, stream: str, sign: Entry) -> bool:
        """Return whether a process is alive whose last sign in this stream is `sign`."""
        age = self._clock.time() - sign.time
        seen, since = self._signs.get(stream, (0, 0.0))
        if seen != sign.seq:
            since = self._clock.now()
            self._signs[stream] = sign.seq, since
        is_fresh = 0 <= age < self._seconds
        if self._is_starting and age >= 0:
            return is_fresh
        return self._clock.now() - since < (self._seconds if is_fresh else self._seconds / 2)

    async def end_run(self, stream: str, event: Event) -> None:
        """End a run that nobody executes, and close the streams beside it.

        Raises:
            JournalError: The journal cannot be read.
        """
        await self._append_quietly(stream, event)
        await self._append_quietly(inbox_stream(stream), InboxClosed())
        await self._append_quietly(checkpoint_stream(stream), Forgotten())

    async def _append_quietly(self, stream: str, event: Event) -> None:
        head = await self._journal.head(stream)
        if head is None or head.ended:
            return
        try:
            await self._journal.append(stream, [event], after=head.last)
        except JournalError as error:
            # It wrote after all, or another process was quicker: either way it is not ours.
            logger.debug("%s was not ended: %s", stream, error)
