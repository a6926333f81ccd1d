"""Process inboxes: requests of operators to a process, about the runs it executes.

A run that was handed over has an inbox of its own. For all other runs their process has one inbox,
whatever their number. Only operators write into it (`headway cancel`, `headway retry`). What a
client asks goes into a stream that only this client can name.
"""

import asyncio
from collections.abc import Callable, Mapping
from time import time

from headway.engine.recovery.restart_state import load_restart
from headway.engine.recovery.retry_storage import RETRY_DELAY
from headway.engine.remote.run_inbox import act_on, ask_run
from headway.engine.run.run import Run
from headway.errors import JournalError, StreamEnded, StreamNotFound
from headway.events import (
    Alive,
    CancelRequested,
    ControlMessage,
    Entry,
    ProcessLeft,
    RetryRequested,
)
from headway.journal import Journal, next_available
from headway.log_lines import quiet_logger
from headway.stream_names import (
    PROCESS_STREAMS,
    new_call_id,
    process_id_of,
    process_inbox_stream,
    process_of,
    run_id_of,
    sibling_run,
)

logger = quiet_logger(__name__)

SILENCE = 60.0
"""Seconds without a sign of life after which no process is asked to begin anything."""


async def send_control(journal: Journal, stream: str, what: CancelRequested) -> None:
    """Ask something of the run with this stream, whichever process executes it.

    It is durable when this returns, and acted on soon after. A run that has ended is past asking.
    One that is not kept in the journal is known only to its process: it is asked, if it lives.

    Raises:
        StreamNotFound: There is no such run.
        JournalError: The journal cannot be written.
    """
    try:
        await ask_run(journal, stream, what)
    except StreamNotFound:
        head = await journal.head(stream)
        if head is not None and head.ended:
            return
        await _ask_process(journal, stream, what, is_kept=head is not None)


async def _ask_process(
    journal: Journal, stream: str, what: CancelRequested, *, is_kept: bool
) -> None:
    known = await load_restart(journal, stream) if is_kept else None
    restarts = known[0].restarts if known is not None else []
    orders = process_inbox_stream(restarts[-1].process if restarts else process_of(stream))
    if await journal.head(orders) is None:
        raise StreamNotFound(stream)
    try:
        await journal.append_shared(orders, ControlMessage(stream, what))
    except StreamEnded:
        # The process that recovers its runs ends this one, or executes it anew.
        raise StreamNotFound(stream) from None


async def send_retry(journal: Journal, stream: str) -> str | None:
    """Ask a process to execute the request of a run once more; returns the stream of the new run.

    It is the process that executed the run, where that is alive, or the one that gave the newest
    sign of life. None where no process is alive that accepts calls. The request is durable when
    this returns. The new run's stream is there when it has begun.

    Raises:
        JournalError: The journal cannot be used.
    """
    alive = await _serving_processes(journal)
    if not alive:
        return None
    own = process_of(stream)
    process = own if own in alive else max(alive, key=alive.__getitem__)
    call = new_call_id()
    orders = process_inbox_stream(process)
    await journal.append_shared(orders, RetryRequested(stream, call))
    return sibling_run(stream, process + call)


async def _serving_processes(journal: Journal) -> dict[str, float]:
    """Return the processes that accept calls, each with the time of its last sign of life."""
    found = dict[str, float]()
    for stream in await journal.streams(PROCESS_STREAMS, unfinished=True):
        head = await journal.head(stream)
        last = await journal.read(stream, after=head.last - 1) if head is not None else []
        for sign in last:
            is_serving = isinstance(sign.event, Alive) and not sign.event.is_worker
            if is_serving and abs(time() - sign.time) < SILENCE:
                found[process_id_of(stream)] = sign.time
    return found


class ProcessInbox:
    """The inbox of this process. `runs` are those that it executes, by id."""

    def __init__(self, journal: Journal, runs: Mapping[str, Run]) -> None:
        self._journal = journal
        self._runs = runs
        self._stream = ""
        self._task: asyncio.Task[None] | None = None
        self.take_retry: Callable[[RetryRequested], object] | None = None
        """Begins a run that an operator wants executed once more; None: it is left to others."""

    async def open(self, process: str) -> None:
        """Act on the inbox from now on, as the process with this id.

        Raises:
            JournalError: The journal cannot be written.
        """
        if self._task is not None:
            self._task.cancel()
        self._stream = process_inbox_stream(process)
        await self._journal.append_shared(self._stream, Alive())
        self._task = asyncio.create_task(self._serve_inbox(self._stream))

    async def close(self) -> None:
        """Act on no more entries, and close the inbox."""
        if self._task is not None:
            self._task.cancel()
            try:
                await self._journal.append_shared(self._stream, ProcessLeft("stopped"))
            except JournalError as error:
                logger.debug("%s was not closed: %s", self._stream, error)

    async def _serve_inbox(self, stream: str) -> None:
        """Act on entries for as long as the journal is open, whatever happens to the stream."""
        cursor = self._journal.open_cursor(stream, after=1)
        while not cursor.done:
            try:
                for entry in await next_available(self._journal, cursor):
                    self._act_on_entry(entry)
            except StreamNotFound:
                if await self._reopen_stream(stream):
                    cursor = self._journal.open_cursor(stream)
            except JournalError as error:
                logger.debug("no orders are heard any more: %s", error)
                return

    async def _reopen_stream(self, stream: str) -> bool:
        """Write the stream anew, as the storage has lost it; False when that failed."""
        try:
            await self._journal.append_shared(stream, Alive())
        except JournalError as error:
            logger.warning("orders are not heard at the moment: %s", error)
            await self._journal.clock.sleep(RETRY_DELAY)
            return False
        return True

    def _act_on_entry(self, entry: Entry) -> None:
        if isinstance(entry.event, RetryRequested) and self.take_retry is not None:
            self.take_retry(entry.event)
        if isinstance(entry.event, ControlMessage):
            run = self._runs.get(run_id_of(entry.event.stream))
            # The stream names the owner too: the same id under another owner is not this run.
            if run is not None and run.stream == entry.event.stream:
                act_on(run, entry.event.what)
