"""The open answers of this process: which stream is read by whom.

A stream has one reader on the wire. A newer one takes over: a client that reconnects is ahead
of the proxy that has not noticed yet.
"""

import asyncio
from collections.abc import Awaitable
from typing import Final

from mcp_types.jsonrpc import INTERNAL_ERROR, INVALID_REQUEST

from headway.clock import Clock
from headway.engine import Run
from headway.errors import ProtocolError, journal_away
from headway.journal import Journal
from headway.protocol.eras import Era
from headway.settings import Settings
from headway.transport.guard import Receive, Send
from headway.transport.reading import End
from headway.transport.sse import Answer, Headers, Voice


def _replaced() -> ProtocolError:
    return ProtocolError(
        INVALID_REQUEST, "The same request was sent again; its answer goes there", status=409
    )


def _closed() -> ProtocolError:
    return ProtocolError(
        INTERNAL_ERROR, "The server closed the stream; send the request again", status=503
    )


_REFUSALS: Final = {End.REPLACED: _replaced, End.CLOSED: _closed, End.FAILED: journal_away}


class Answers:
    """Opens answers on streams of the journal and keeps one for each stream."""

    def __init__(self, journal: Journal, settings: Settings, clock: Clock) -> None:
        self.settings = settings
        self._journal = journal
        self._clock = clock
        self._open: dict[str, Answer] = {}

    def __len__(self) -> int:
        return len(self._open)

    def is_read(self, stream: str) -> bool:
        """Whether a client is reading the stream at the moment."""
        return stream in self._open

    def open(
        self,
        stream: str,
        after: int,
        voice: Voice,
        receive: Receive,
        send: Send,
        headers: Headers = (),
    ) -> Answer:
        """An answer that reads `stream` behind entry `after`; it does nothing until run."""
        return Answer(
            self._journal.cursor(stream, after=after),
            voice,
            receive,
            send,
            clock=self._clock,
            ping=self.settings.ping,
            headers=headers,
        )

    async def run(self, stream: str, answer: Answer, work: Awaitable[End]) -> End:
        """Run an answer as the one reader of its stream, until it ends or is replaced."""
        earlier = self._open.get(stream)
        if earlier is not None:
            earlier.stop(End.REPLACED)
        self._open[stream] = answer
        try:
            return await work
        finally:
            if self._open.get(stream) is answer:
                del self._open[stream]

    async def answer(self, run: Run, answer: Answer, era: Era, *, at_once: bool = False) -> None:
        """Answer a request with its run, and do what the era wants when the reader is lost.

        Raises:
            ProtocolError: Nothing was said here, and nothing will be: another reader took over
                (409), or the journal cannot be read (503).
        """
        work = (
            answer.stream() if at_once else answer.respond(commit_after=self.settings.commit_after)
        )
        cut_cancels = era.cut_cancels and not run.detached
        try:
            end = await self.run(run.stream, answer, work)
        except asyncio.CancelledError:
            if cut_cancels:
                run.cancel("connection", "the connection was lost")
            raise
        if end is End.GONE and cut_cancels:
            run.cancel("connection", "the client closed the stream")
        if not answer.committed and end in _REFUSALS:
            raise _REFUSALS[end]()

    def close(self, stream: str) -> None:
        """End a stream's answer; its client may come back."""
        answer = self._open.get(stream)
        if answer is not None:
            answer.stop(End.CLOSED)

    def close_all(self, prefix: str) -> None:
        """End the answers of all streams whose names start with `prefix`."""
        for stream in list(self._open):
            if stream.startswith(prefix):
                self.close(stream)
