"""Leases: which process may write which runs.

A process writes signs of life into a stream of its own. The ids of its runs begin with its id, so
any process that finds an unfinished run can look whether the run's process is alive
(`dead_processes.py`), and recover or end the run if it is not (`lost_runs.py`). The journal's fence
does the rest: a process that was only paused finds that its runs were taken, and cannot write them.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from headway.clock import Clock, Timer
from headway.engine.recovery.dead_processes import Liveness
from headway.engine.recovery.held_loop_signs import LifeSigns
from headway.engine.recovery.lost_runs import LostRuns, RunRecovery, append_last
from headway.errors import JournalError
from headway.events import Alive, ProcessLeft
from headway.journal import Journal
from headway.log_lines import quiet_logger
from headway.stream_names import new_process_id, process_of, process_stream, pulse_stream

logger = quiet_logger(__name__)

SIGNS_PER_LEASE = 3
"""Signs of life in the time of a lease: one or two may be late without harm."""

RECOVERY_START_TIMEOUT = 5.0
"""Seconds that a start waits for recovery. The rest is done while the process serves."""


class LeaseHolder(RunRecovery, Protocol):
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
        self._liveness = Liveness(journal, clock, seconds)
        self._lost_runs = LostRuns(
            journal, clock, self._liveness, holder, own=lambda: self.tag, recovers=recovers
        )
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
        self._seq = await self._journal.append(process_stream(self.tag), [self._sign()], after=0)
        if self._journal.blocking_writer is not None:
            every = self._seconds / SIGNS_PER_LEASE / 2
            self._pulse = LifeSigns(self._journal.blocking_writer, self.tag, every)
        # The lease is in the journal before any run is accepted: a run whose process has no stream
        # would be taken for lost at once.
        await self._holder.open_lease(self.tag)
        self._schedule_sign()  # the others' runs may be many, and this process is alive meanwhile
        self._looking = asyncio.create_task(self._lost_runs.look_at_start())
        done, _ = await asyncio.wait([self._looking], timeout=RECOVERY_START_TIMEOUT)
        for looked in done:
            looked.result()

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
                    await append_last(self._journal, pulse_stream(self.tag), ProcessLeft("stopped"))

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

    def _sign(self) -> Alive:
        return Alive(is_worker=not self._recovers)

    def _give_sign(self) -> None:
        try:
            self._seq = self._journal.append_nowait(
                process_stream(self.tag), self._sign(), after=self._seq
            )
        except JournalError as error:
            logger.error("this process was found gone by another one; its runs end: %s", error)
            self._begin_new_lease()
            return
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._lost_runs.look())
        self._schedule_sign()

    def _begin_new_lease(self) -> None:
        # 0 means that there is no lease, so the thread that signs for a held loop gives no sign for
        # the old one. The runs are stopped before the new tag is made: new runs must not get the
        # old one.
        self._seq = 0
        self._holder.lose_lease()
        self.tag = new_process_id()
        self._looking = asyncio.create_task(self.begin_lease())

    async def is_alive(self, tag: str) -> bool:
        """Return whether the process with this id may still write its runs.

        Raises:
            JournalError: The journal cannot be read.
        """
        # Its own last sign may be old: a process that stood still has had no time for another.
        return tag == self.tag or await self._liveness.is_alive(tag)

    async def is_of_another(self, stream: str) -> bool:
        """Return whether another process, which is alive, accepted the run of a stream.

        Raises:
            JournalError: The journal cannot be read.
        """
        tag = process_of(stream)
        return tag != self.tag and await self.is_alive(tag)
