"""Inboxes: requests to a run whose own request has been answered with a handle.

Only the process that executes a run may write its stream. Every other process writes its request
(an answer, a cancellation) into the run's inbox. The inbox is a stream of its own, so a request is
durable and cannot be missed. Its first entry says that the run was handed over.
"""

from headway.background import BackgroundTasks
from headway.engine.recovery.take_over import end_waiting
from headway.engine.run.cancellation import TAKEN_OVER
from headway.engine.run.questions import client_error
from headway.engine.run.run import Run
from headway.engine.services import Services
from headway.errors import JournalError, StreamEnded
from headway.events import (
    Cancelled,
    CancelRequested,
    Entry,
    Event,
    HandedOver,
    InboxClosed,
    InputAnswered,
    decode_json,
)
from headway.journal import Journal, next_available
from headway.log_lines import quiet_logger
from headway.stream_names import inbox_stream, is_for_workers

logger = quiet_logger(__name__)

INBOXES_STOP_TIMEOUT = 5.0
"""Seconds that a stop waits until the inboxes of runs that have ended are closed."""


async def read_inbox(journal: Journal, stream: str) -> list[Entry]:
    """Return all entries of the inbox of the run with this stream.

    Raises:
        StreamNotFound: There is none: no such run, or it was never handed over.
    """
    return await journal.read_all_kept(inbox_stream(stream))


async def ask_run(journal: Journal, stream: str, event: Event) -> None:
    """Ask something of the run with this stream; one that has ended is past asking.

    Raises:
        StreamNotFound: There is no such run, or it was never handed over.
        JournalError: The journal cannot be written.
    """
    inbox = inbox_stream(stream)
    if any(_is_repeated(entry.event, event) for entry in await journal.read_all_kept(inbox)):
        return  # a client that asks again and again would else push out what others asked
    try:
        await journal.append_shared(inbox, event)
    except StreamEnded:
        return
    if isinstance(event, CancelRequested) and is_for_workers(stream):
        await end_waiting(journal, stream, Cancelled(event.by, event.reason))


def _is_repeated(earlier: Event, event: Event) -> bool:
    """Return whether a run that was asked `earlier` need not be asked `event`."""
    match earlier, event:
        case CancelRequested(), CancelRequested():
            return True
        case InputAnswered(first), InputAnswered(second):
            return first == second
        case _:
            return False


def handed_over_event(run: Run, services: Services) -> HandedOver:
    """Return the event which says that a run has a handle, and for how long."""
    age = services.clock.now() - run.execution.born
    limit = run.request.options.timeout or services.settings.timeout
    return HandedOver(services.clock.time() - age, limit + services.journal.retention.ttl)


class RunInboxes:
    """The inboxes of the runs that this process executes."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.tasks = BackgroundTasks("run inboxes")
        """Work for runs that nobody waits for, except `stop`."""

    async def open(self, run: Run, handed: HandedOver) -> None:
        """Open the run's inbox and act on its entries; durable, with the run, when it returns.

        Raises:
            JournalError: The journal cannot be written; the run stays its request's own.
        """
        inbox = inbox_stream(run.stream)
        # The run first: an inbox without a run would be a handle that leads nowhere if the process
        # died in between.
        await self._journal.wait_until_stored(run.stream)
        await self._journal.append_shared(inbox, handed)
        self._start_serving(run, inbox)

    async def is_open(self, stream: str) -> bool:
        """Return whether the run with this stream was handed over, and has not ended."""
        head = await self._journal.head(inbox_stream(stream))
        return head is not None and not head.ended

    def resume(self, run: Run) -> None:
        """Act on the entries of an inbox that another process opened."""
        self._start_serving(run, inbox_stream(run.stream))

    def tell_later(self, stream: str, event: Event) -> None:
        """Ask something of the run with this stream, wherever it is, in the background."""
        self.tasks.start(self._ask_quietly(stream, event))

    async def _ask_quietly(self, stream: str, event: Event) -> None:
        try:
            await ask_run(self._journal, stream, event)
        except JournalError as error:
            logger.warning("%s was not told: %s", stream, error)

    def _start_serving(self, run: Run, inbox: str) -> None:
        self.tasks.start(self._serve_inbox(run, inbox))

    async def stop(self) -> None:
        """Return when the inboxes of all runs that have ended are closed."""
        await self.tasks.stop(INBOXES_STOP_TIMEOUT)

    async def _serve_inbox(self, run: Run, inbox: str) -> None:
        # From the second entry on: the first says that the run was handed over.
        cursor = self._journal.open_cursor(inbox, after=1)
        run.on_end(cursor.nudge)
        try:
            while not run.ended and not cursor.done:
                for entry in await next_available(self._journal, cursor):
                    act_on(run, entry.event)
            if not run.ended:  # others have found its process gone
                logger.error("run %s is not this process's any more: it was ended", run.reference)
                run.stop(TAKEN_OVER)
            elif not run.is_released:
                await self._journal.append_shared(inbox, InboxClosed())
        except JournalError as error:
            logger.warning("run %s: its inbox is not served: %s", run.reference, error)


def act_on(run: Run, event: Event) -> None:
    """Act on a request to a run. A failure is logged: more requests follow in the inbox."""
    try:
        match event:
            case CancelRequested(by, reason):
                run.cancel(by, reason)
            case InputAnswered(key, result, is_error):
                value = decode_json(result)
                run.answer_question(key, value, client_error(value) if is_error else None)
            case _:
                pass
    except Exception:
        logger.exception("run %s: what was asked of it could not be done", run.reference)
