"""Ownership: which process may execute a run, as the run's checkpoint stream says it.

The stream has one writer, so the journal's fence decides: the first process that appends to it owns
the run, and what the owner before it appends afterwards is refused. A process writes

    RequestStored   it accepts the run
    TakenByWorker   it takes the run out of a queue
    Restarted       it executes the run anew, after an owner that died or released it
    GivenBack       it releases the run to the next owner
    Forgotten       the run has its end, and nobody may own it again
"""

from collections.abc import Sequence
from dataclasses import dataclass

from msgspec import Raw

from headway.clock import Clock
from headway.engine.recovery.restart_state import RestartState, load_restart
from headway.engine.recovery.retry_storage import retry_until_available
from headway.errors import JournalError, JournalUnavailable, StreamLocked
from headway.events import Event, Forgotten, InboxClosed, RequestStored, Restarted, TakenByWorker
from headway.journal import Journal
from headway.log_lines import quiet_logger
from headway.run_state import RunView, parts_of, view_of
from headway.stream_names import CHECKPOINT_STREAMS, checkpoint_stream, inbox_stream, run_beside

logger = quiet_logger(__name__)


class Ownership:
    """This process's right to execute one run, and the only writer of its checkpoint stream.

    Every method raises `JournalError` when the run has been taken over.
    """

    __slots__ = ("_seq", "journal", "stream")

    def __init__(self, journal: Journal, stream: str, seq: int) -> None:
        self.journal = journal
        self.stream = stream
        """Name of the checkpoint stream."""
        self._seq = seq  # number of its last entry

    @classmethod
    def begin(cls, journal: Journal, run: str, request: RequestStored) -> "Ownership":
        """Own a run that this process accepts. `run` is its stream."""
        stream = checkpoint_stream(run)
        return cls(journal, stream, journal.append_nowait(stream, request, after=0))

    def append(self, event: Event) -> None:
        """Add an event to the checkpoint stream, without waiting for the storage."""
        self._seq = self.journal.append_nowait(self.stream, event, after=self._seq)

    def end(self) -> None:
        """Give the run up because it has its end: nobody will own it again."""
        self.append(Forgotten())

    async def wait_until_stored(self) -> None:
        """Return when all that was appended so far is in the storage."""
        await self.journal.wait_until_stored(self.stream)


@dataclass(frozen=True, slots=True)
class TakenOver:
    """A run that this process owns from now on, and all that is known of it."""

    stream: str
    ownership: Ownership
    state: RestartState
    parts: Sequence[Raw]
    """Partial results that earlier executions have emitted."""
    view: RunView
    """State, progress and last entry of the run's own stream."""


async def take_over(
    journal: Journal, process: str, stream: str, state: RestartState, seq: int, *, clock: Clock
) -> TakenOver | None:
    """Make `process` the owner of a run; None when another one was quicker, or the run has its end.

    A run that waits for a worker is started; every other one is restarted. `seq` is the last entry
    of the checkpoint stream, as it was read with `state`: the first process to append after it owns
    the run. From then on the checkpoint stream, and a moment later the run's own, refuse what the
    owner before it writes.

    Raises:
        JournalUnavailable: The journal cannot be used; nothing was done.
    """
    is_first = not state.owner and not state.restarts and not state.returned
    restarted = Restarted(process, state.attempt + 1, state.at)
    beside = checkpoint_stream(stream)
    claim: Event = TakenByWorker(process) if state.request.queue and is_first else restarted
    try:
        head = await journal.attach_stream(beside)
        if head.last != seq or head.ended:
            return None
        if not is_first and not await _is_readable(journal, stream):
            return None
        # The claim names the entry that was read: of two processes that take the run over, the
        # storage refuses the second.
        ownership = Ownership(journal, beside, seq)
        ownership.append(claim)
        # The run is ours: whatever the storage does now, it has to be gone through with.
        await retry_until_available(clock, ownership.wait_until_stored)
        # The old owner may still write the run's stream until this entry is there: its next append
        # names a number that is taken by then.
        if isinstance(claim, Restarted):
            await retry_until_available(clock, lambda: journal.append_shared(stream, restarted))
        await retry_until_available(clock, lambda: journal.attach_stream(stream))
        entries = await retry_until_available(clock, lambda: journal.read_all_kept(stream))
    except JournalUnavailable:
        raise
    except JournalError as error:
        logger.debug("%s is another process's: %s", stream, error)
        return None
    state.apply_entry(claim)
    return TakenOver(stream, ownership, state, parts_of(entries), view_of(entries))


async def _is_readable(journal: Journal, stream: str) -> bool:
    """Return whether a run's own stream can be read, before anybody claims the run.

    Where the journal is encrypted, another process may have the key that is missing here. A claim
    would keep the run from it.
    """
    if journal.encryption is None:
        return True
    try:
        await journal.read_all_kept(stream)
    except StreamLocked as error:
        logger.warning("a run is left to a process that has its key: %s", error)
        return False
    return True


async def end_waiting(journal: Journal, stream: str, end: Event) -> bool:
    """End a run that waits for a worker; False when a process owns it, or it has its end.

    Raises:
        JournalError: The journal cannot be read.
    """
    known = await load_restart(journal, stream)
    if known is None or known[0].owner:
        return False
    return await end_unowned(journal, stream, known[1], end)


async def end_unowned(journal: Journal, stream: str, seq: int, end: Event) -> bool:
    """End a run that no process owns; False when one took it in this moment.

    `seq` is the last entry of its checkpoint stream. Whoever takes the run appends to that stream
    too, so one of the two is refused.
    """
    try:
        # The checkpoint stream decides, so it is ended first. After a crash in between the run has
        # no owner and no end; `check_runs` of another process ends it.
        await journal.append(checkpoint_stream(stream), [Forgotten()], after=seq)
        await journal.append_shared(stream, end)
        await journal.append_shared(inbox_stream(stream), InboxClosed())
    except JournalError as error:
        logger.debug("%s was not ended: %s", stream, error)
        return False
    return True


async def sweep_ended(journal: Journal) -> None:
    """Close the checkpoint streams of runs whose end was written by another process.

    Raises:
        JournalError: The journal cannot be read.
    """
    for beside in await journal.streams(CHECKPOINT_STREAMS, unfinished=True):
        try:
            head = await journal.head(run_beside(beside))
            if head is None or head.ended:
                await journal.append_shared(beside, Forgotten())
        except JournalError as error:
            logger.debug("%s is not let go of: %s", beside, error)
