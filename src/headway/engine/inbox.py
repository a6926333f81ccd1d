"""Inboxes: what others ask of a run whose request has been answered with a handle.

The process that executes a run is its one writer, so everybody else, on this process or another,
writes what they want into the run's inbox: a stream of its own, so that a request is durable and
not a broadcast that can be missed. Its first entry says that the run was handed over.
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from headway.engine.run import Run
from headway.errors import JournalError, StreamEnded, StreamNotFound
from headway.events import (
    CancelRequested,
    Entry,
    Event,
    HandedOver,
    InboxClosed,
    InputAnswered,
    decode_json,
)
from headway.journal import Journal
from headway.runs import TRANSITIONS

logger = logging.getLogger(__name__)


def inbox_of(stream: str) -> str:
    """The inbox of the run with this stream."""
    return f"inbox/{stream.removeprefix('run/')}"


async def read_inbox(journal: Journal, stream: str) -> list[Entry]:
    """All entries of the inbox of the run with this stream.

    Raises:
        StreamNotFound: There is none: no such run, or it was never handed over.
    """
    return await journal.kept(inbox_of(stream))


async def ask(journal: Journal, stream: str, event: Event) -> None:
    """Ask something of the run with this stream; one that has ended is past asking.

    Raises:
        StreamNotFound: There is no such run, or it was never handed over.
        JournalError: The journal cannot be written.
    """
    inbox = inbox_of(stream)
    if await journal.head(inbox) is None:
        raise StreamNotFound(inbox)
    try:
        await journal.post(inbox, event)
    except StreamEnded:
        return


class Inboxes:
    """The inboxes of the runs that this process executes."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self, run: Run, handed: HandedOver) -> None:
        """Begin the run's inbox and act on what comes; durable, with the run, when it returns.

        Raises:
            JournalError: The journal cannot be written; the run stays its request's own.
        """
        inbox = inbox_of(run.stream)
        await self._journal.settle(run.stream)
        await self._journal.post(inbox, handed)
        self._start(run, inbox)

    async def resume(self, run: Run) -> None:
        """Act on what comes for a run that was handed over by a process that died."""
        inbox = inbox_of(run.stream)
        head = await self._journal.head(inbox)
        if head is not None and not head.ended:
            self._start(run, inbox)

    def tell(self, stream: str, event: Event) -> None:
        """Ask something of the run with this stream, wherever it is, and do not wait for it."""
        self._spawn(self._tell(stream, event))

    async def _tell(self, stream: str, event: Event) -> None:
        try:
            await ask(self._journal, stream, event)
        except JournalError as error:
            logger.warning("%s was not told: %s", stream, error)

    def _start(self, run: Run, inbox: str) -> None:
        self._spawn(self._serve(run, inbox))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Return when the inboxes of all runs that have ended are closed."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)
        for task in self._tasks:
            task.cancel()

    async def _serve(self, run: Run, inbox: str) -> None:
        cursor = self._journal.cursor(inbox, after=1)
        run.on_end(cursor.nudge)
        try:
            while not run.ended:
                for entry in await cursor.next():
                    _act(run, entry.event)
            if not TRANSITIONS[run.state]:  # it has its end, and is not another process's now
                await self._journal.post(inbox, InboxClosed())
        except JournalError as error:
            logger.warning("run %s: its inbox is not served: %s", run.reference, error)


def _act(run: Run, event: Event) -> None:
    match event:
        case CancelRequested(by, reason):
            run.cancel(by, reason)
        case InputAnswered(key, result):
            run.answer(key, decode_json(result))
        case _:
            pass
