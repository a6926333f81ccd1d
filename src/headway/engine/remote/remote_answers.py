"""Remote answers: a run's question, answered in a process that does not execute the run.

A client of 2025 answers with a POST of its own, which a load balancer gives to any process. A run
that asks something therefore has a stream beside its own for each attempt,
`questions/<owner>/<name>`. It holds the open questions and their answers; the id of each question
begins with that name. The process that receives an answer looks there first. So an answer to a
question that nobody asked is refused, in every process, and each question takes one answer.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from headway.background import BackgroundTasks
from headway.engine.remote.run_inbox import act_on
from headway.errors import JournalError, StreamEnded, StreamNotFound
from headway.events import (
    TERMINAL,
    Entry,
    Event,
    InboxClosed,
    InputAnswered,
    InputReceived,
    InputRequested,
)
from headway.journal import Journal, next_available
from headway.log_lines import quiet_logger
from headway.stream_names import (
    QUESTION_STREAMS,
    is_of_session,
    process_of,
    questions_stream,
    run_of_questions,
)

if TYPE_CHECKING:
    from headway.engine.recovery.lease import Lease
    from headway.engine.run.run import Run

logger = quiet_logger(__name__)

ANSWERS_STOP_TIMEOUT = 5.0
"""Seconds that a stop waits until the questions of runs that have ended are closed."""


class RemoteAnswers:
    """Publishes the questions of the runs that this process executes to other processes."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._tasks = BackgroundTasks("remote answers")
        self._serving: set[str] = set()
        self._answering: set[str] = set()

    def question_asked(self, run: "Run", question: InputRequested) -> None:
        """Publish that a question is open. Its text is only in the run's stream."""
        if not self._journal.is_durable or not is_of_session(run.stream):
            return
        questions = questions_stream(run.stream, question.key)
        is_first = questions not in self._serving
        self._serving.add(questions)
        short = InputRequested(question.key, question.method)
        work = (
            self._open_questions(run, questions, short)
            if is_first
            else self._post_quietly(questions, short)
        )
        self._tasks.start(work)

    def question_closed(self, run: "Run", key: str) -> None:
        """Publish that a question is answered, or given up."""
        questions = questions_stream(run.stream, key)
        if questions in self._serving:
            self._tasks.start(self._post_quietly(questions, InputReceived(key)))

    async def accept_answer(self, stream: str, answered: InputAnswered) -> bool:
        """Give an answer to the run with this stream; False when that question is not open.

        It is durable when this returns, and the run gets it a moment later.

        Raises:
            JournalError: The journal cannot be used.
        """
        questions = questions_stream(stream, answered.key)
        if answered.key in self._answering:
            return False  # another answer is on its way
        # Checked and added without an await between, so one process takes one answer. Answers in
        # two processes at once are both appended; the run takes the first.
        self._answering.add(answered.key)
        try:
            if answered.key not in open_keys(await self._journal.read_all_kept(questions)):
                return False
            await self._journal.append_shared(questions, answered)
        except (StreamNotFound, StreamEnded):
            return False
        finally:
            self._answering.discard(answered.key)
        return True

    async def _open_questions(self, run: "Run", questions: str, first: InputRequested) -> None:
        try:
            seq = await self._journal.append_shared(questions, first)
            await self._serve_answers(run, questions, seq)
        except JournalError as error:
            logger.warning("run %s: only here it can be answered: %s", run.reference, error)
        finally:
            self._serving.discard(questions)

    async def _serve_answers(self, run: "Run", questions: str, after: int) -> None:
        """Give answers to the run until it has its end, or goes on in another process."""
        cursor = self._journal.open_cursor(questions, after=after)
        run.on_end(cursor.nudge)
        while not run.ended and not cursor.done:
            for entry in await next_available(self._journal, cursor):
                if isinstance(entry.event, InputAnswered):
                    act_on(run, entry.event)
        await self._post_quietly(questions, InboxClosed())

    async def _post_quietly(self, questions: str, event: Event) -> None:
        try:
            await self._journal.append_shared(questions, event)
        except JournalError as error:
            logger.debug("%s was not told: %s", questions, error)

    async def sweep(self, lease: "Lease") -> None:
        """Close the questions of processes that are gone.

        Raises:
            JournalError: The journal cannot be read.
        """
        for questions in await self._journal.streams(QUESTION_STREAMS, unfinished=True):
            try:
                await self._sweep_questions(questions, lease)
            except JournalError as error:  # of one; the others are looked at all the same
                logger.debug("%s is not closed: %s", questions, error)

    async def _sweep_questions(self, questions: str, lease: "Lease") -> None:
        stream = run_of_questions(questions)
        head = await self._journal.head(stream)
        # Only runs of tool calls are in the journal. Any other run ends with its process.
        alive = await lease.is_alive(process_of(stream)) if head is None else not head.ended
        if not alive:
            await self._post_quietly(questions, InboxClosed())

    async def stop(self) -> None:
        """Return when the questions of all runs that have ended are closed."""
        await self._tasks.stop(ANSWERS_STOP_TIMEOUT)


def open_keys(entries: Iterable[Entry]) -> set[str]:
    """Return the ids of the questions in these entries that are neither answered nor given up."""
    found: set[str] = set()
    for entry in entries:
        match entry.event:
            case InputRequested(key):
                found.add(key)
            case InputAnswered(key) | InputReceived(key):
                found.discard(key)
            case event if type(event) in TERMINAL:
                found.clear()
            case _:
                pass
    return found
