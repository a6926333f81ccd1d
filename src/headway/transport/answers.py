"""The open answers of this process: which stream is read by whom.

A stream has one reader on the wire. A newer one takes over: a client that reconnects is ahead
of the proxy that has not noticed yet.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable
from typing import Final, Self

from mcp_types.jsonrpc import INTERNAL_ERROR, INVALID_REQUEST

from headway.clock import Clock
from headway.engine import BUSY, Run
from headway.errors import ProtocolError, journal_away
from headway.journal import Cursor, Journal
from headway.protocol.eras import Era
from headway.settings import Settings
from headway.tally import Tally
from headway.transport.guard import Receive, Send
from headway.transport.negotiation import Form
from headway.transport.reading import End, Readable
from headway.transport.sse import Answer, Headers, Voice


def _replaced() -> ProtocolError:
    return ProtocolError(
        INVALID_REQUEST, "The same request was sent again; its answer goes there", status=409
    )


def _closed() -> ProtocolError:
    return ProtocolError(
        INTERNAL_ERROR,
        "The server closed the stream; send the request again",
        status=503,
        retry_after=1,
    )


_REFUSALS: Final = {End.REPLACED: _replaced, End.CLOSED: _closed, End.FAILED: journal_away}


class Place:
    """One of the answers that a session may have open at once, until `leave`."""

    __slots__ = ("_is_kept", "_taken", "_whose")

    def __init__(self, taken: Counter[str], whose: str) -> None:
        self._taken = taken
        self._whose = whose
        self._is_kept = True
        taken[whose] += 1

    def leave(self) -> None:
        """Give it back; once is enough."""
        if self._is_kept:
            self._is_kept = False
            self._taken[self._whose] -= 1
            if not self._taken[self._whose]:
                del self._taken[self._whose]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.leave()


class Answers:
    """Opens answers on streams of the journal and keeps one for each stream."""

    def __init__(self, journal: Journal, settings: Settings, clock: Clock, tally: Tally) -> None:
        self.settings = settings
        self._journal = journal
        self._clock = clock
        self._heard = tally.answer_seconds.observe
        self._open: dict[str, tuple[Answer, Place | None]] = {}
        self._taken = Counter[str]()  # places of each session
        self._is_over = False

    def __len__(self) -> int:
        return len(self._open)

    def count(self, prefix: str) -> int:
        """How many of the streams being read have names that start with `prefix`."""
        return sum(stream.startswith(prefix) for stream in self._open)

    @property
    def most_of_one(self) -> int:
        """How many the session has that has most."""
        return max(self._taken.values(), default=0)

    def place(self, session: str, stream: str | None = None) -> Place:
        """A place for one more answer of the session with this tag.

        Whoever takes over from the reader of `stream` gets one in any case: `run` gives the
        reader's back.

        Raises:
            ProtocolError: It has as many as it may (503); nothing that is read is touched.
        """
        taken = self._taken[session]
        if taken >= self.settings.max_session_streams and stream not in self._open:
            raise ProtocolError(
                BUSY,
                f"{taken} answers of this session are open and no more are accepted "
                "(max_session_streams); let some end, or open another session",
                status=503,
                retry_after=2,
                limit="max_session_streams",
            )
        return Place(self._taken, session)

    def is_read(self, stream: str) -> bool:
        """Whether a client is reading the stream at the moment."""
        return stream in self._open

    def cursor(self, stream: str, after: int = 0) -> Cursor:
        """A place in a stream of the journal."""
        return self._journal.cursor(stream, after=after)

    def open(
        self,
        place: Readable,
        voice: Voice,
        receive: Receive,
        send: Send,
        headers: Headers = (),
    ) -> Answer:
        """An answer that reads on from `place`; it does nothing until run."""
        return Answer(
            place,
            voice,
            receive,
            send,
            clock=self._clock,
            ping=self.settings.ping,
            heard=self._heard,
            headers=headers,
        )

    async def run(
        self, stream: str, answer: Answer, work: Awaitable[End], place: Place | None = None
    ) -> End:
        """Run an answer as the one reader of its stream, until it ends or is replaced."""
        earlier, its_place = self._open.get(stream, (None, None))
        if earlier is not None:
            earlier.stop(End.REPLACED)
        if its_place is not None:
            its_place.leave()  # it may take long to notice: a write to a client that is gone
        reading = self._open[stream] = (answer, place)
        if self._is_over and _may_come_back(stream, answer):
            answer.stop(End.CLOSED)
        try:
            return await work
        finally:
            if self._open.get(stream) is reading:
                del self._open[stream]

    async def answer(
        self,
        run: Run,
        answer: Answer,
        era: Era,
        place: Place | None = None,
        *,
        form: Form = Form.ANY,
    ) -> None:
        """Answer a request with its run, and do what the era wants when the reader is lost.

        Raises:
            ProtocolError: Nothing was said here, and nothing will be: another reader took over
                (409), or the journal cannot be read (503).
        """
        if run.is_left or (self._is_over and run.method != "tools/call"):
            answer.stop(End.CLOSED)  # it was accepted as the process came to its end
        match form:
            case Form.ANY:
                work = answer.respond(commit_after=self.settings.commit_after)
            case Form.JSON:
                work = answer.respond_json()
            case Form.STREAM:
                work = answer.stream()
        cut_cancels = era.cut_cancels and not run.detached
        try:
            end = await self.run(run.stream, answer, work, place)
        except asyncio.CancelledError:
            if cut_cancels:
                run.cancel("connection", "the connection was lost")
            raise
        if end is End.GONE and cut_cancels:
            run.cancel("connection", "the client closed the stream")
        if not answer.committed and end in _REFUSALS:
            raise _REFUSALS[end]()

    def replaced(self, stream: str, notice: int) -> None:
        """Its client reads the stream in another process since this notice."""
        known = self._open.get(stream)
        if known is not None and known[0].since < notice:
            known[0].stop(End.REPLACED)

    def close(self, stream: str) -> None:
        """End a stream's answer; its client may come back."""
        if stream in self._open:
            self._open[stream][0].stop(End.CLOSED)

    def end(self) -> None:
        """End the answers whose clients can come back to them, now and from now on."""
        self._is_over = True
        for stream, (answer, _) in list(self._open.items()):
            if _may_come_back(stream, answer):
                answer.stop(End.CLOSED)

    def close_all(self, prefix: str) -> None:
        """End the answers of all streams whose names start with `prefix`."""
        for stream in list(self._open):
            if stream.startswith(prefix):
                self.close(stream)


def _may_come_back(stream: str, answer: Answer) -> bool:
    """Whether its client came back to it once, or waits for nothing but news."""
    return answer.since > 0 or stream.startswith("session/")
