"""The open answers of this process: the readers of each stream, and which of them has its turn.

Each entry of a stream is sent to one reader only. There are two cases with more than one reader:

- A client resumes a stream (`Last-Event-ID`). Its earlier reader ends: the client has noticed the
  cut before a proxy in between has.
- A request was sent twice, or a session has several GET streams. Both readers are kept. The newest
  one is sent what comes, and the others wait, with pings, until it has left.
"""

import asyncio
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from functools import partial
from itertools import count
from typing import Final, NamedTuple, Self

from mcp_types.jsonrpc import INTERNAL_ERROR, INVALID_REQUEST
from starlette.types import Receive, Send

from headway.clock import Clock, Timer
from headway.counters import Counters
from headway.engine import BUSY_CODE, Run
from headway.errors import JournalError, ProtocolError, journal_away
from headway.protocol.eras import Era
from headway.settings import Settings
from headway.stream_names import is_session_stream
from headway.transport.http.accept_header import Form
from headway.transport.http.json_or_sse import ResponseStream, SseRendering
from headway.transport.http.quick_answer import SOON, QuickAnswer
from headway.transport.http.reply import Headers
from headway.transport.stream_pages import End, StreamSource


def _replaced_error() -> ProtocolError:
    return ProtocolError(
        INVALID_REQUEST, "The same request was sent again; its answer goes there", status=409
    )


def _closed_error() -> ProtocolError:
    return ProtocolError(
        INTERNAL_ERROR,
        "The server closed the stream; send the request again",
        status=503,
        retry_after=1,
    )


_ANSWERED: Final = (End.DONE, End.HANDED_OVER)

_AS_JSON: Final = partial(str, "json")
_AS_STREAM: Final = partial(str, "stream")

_REFUSALS: Final = {
    End.REPLACED: _replaced_error,
    End.CLOSED: _closed_error,
    End.LEAVING: _closed_error,
    End.FAILED: journal_away,
}


class ReaderSlot:
    """One of the answers that a session may have open at once, until `release`."""

    __slots__ = ("_is_kept", "_taken", "_whose")

    def __init__(self, taken: dict[str, int], whose: str) -> None:
        self._taken = taken
        self._whose = whose
        self._is_kept = True
        taken[whose] = taken.get(whose, 0) + 1

    @property
    def taken_by_session(self) -> int:
        """The number of answers that the session has open, this one included."""
        return self._taken[self._whose]

    def release(self) -> None:
        """Give it back; once is enough."""
        if self._is_kept:
            self._is_kept = False
            left = self._taken[self._whose] - 1
            if left:
                self._taken[self._whose] = left
            else:
                del self._taken[self._whose]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.release()


MOST_READERS: Final = 8
"""Answers that are kept for one stream; when a client opens more, the oldest one ends."""

LOOK_AT_PROCESSES_INTERVAL: Final = 10.0
"""Seconds between looks at whether the processes live whose readers others wait for."""

COMES_BACK: Final = None
"""In place of a listener: the client comes back to the stream, and is its only reader."""


class _Reader(NamedTuple):
    """An open answer."""

    answer: ResponseStream
    place: ReaderSlot | None
    listener: str | None
    """Its name among several of its stream; None: it is to be the only one."""


class OpenResponses:
    """Opens answers on streams of the journal, and knows who reads each of them."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        counters: Counters,
        is_alive: Callable[[str], Awaitable[bool]],
    ) -> None:
        """`is_alive` returns whether the process with a tag, and so its readers, may be there."""
        self.settings = settings
        self._is_alive = is_alive
        self._looking: Timer | None = None
        self._asking: asyncio.Task[None] | None = None
        self._posts = count()
        self._clock = clock
        self._heard = counters.answer_seconds.observe
        self._open: dict[str, list[_Reader]] = {}
        self._elsewhere: dict[str, dict[int, str]] = {}
        """For each stream that is read here: the readers in other processes that came later, as the
        number of their notice and the tag of their process."""
        self._quick: dict[str, QuickAnswer] = {}
        """The requests whose runs may end soon, by stream: they are no readers yet."""
        self._taken: dict[str, int] = {}  # places of each session
        self._is_over = False

    def __len__(self) -> int:
        return sum(map(len, self._open.values())) + len(self._quick)

    def count_readers(self, prefix: str) -> int:
        """Return how many answers read streams whose names start with `prefix`."""
        return sum(len(known) for name, known in self._open.items() if name.startswith(prefix))

    @property
    def most_of_one(self) -> int:
        """The number of open answers of the session that has most."""
        return max(self._taken.values(), default=0)

    def reserve_slot(self, session: str, stream: str | None = None) -> ReaderSlot:
        """Reserve a slot for one more answer of the session with this tag.

        A reader that takes over from the reader of `stream` gets one in any case: `run_reader`
        releases the other's slot.

        Raises:
            ProtocolError: The session has as many as it may (503); its open answers go on.
        """
        taken = self._taken.get(session, 0)
        if taken >= self.settings.max_session_streams and stream not in self._open:
            raise ProtocolError(
                BUSY_CODE,
                f"{taken} answers of this session are open and no more are accepted "
                "(max_session_streams); let some end, or open another session",
                status=503,
                retry_after=2,
                limit="max_session_streams",
            )
        return ReaderSlot(self._taken, session)

    def is_read(self, stream: str) -> bool:
        """Return whether a client is reading the stream at the moment."""
        return stream in self._open or stream in self._quick

    def open(
        self,
        place: StreamSource,
        rendering: SseRendering,
        receive: Receive,
        send: Send,
        headers: Headers = (),
        *,
        until: float | None = None,
        is_get: bool = False,
        opened: float | None = None,
    ) -> ResponseStream:
        """Return an answer that reads on from `place`; it does nothing until run.

        It ends when its reader's token does, `until` in seconds since 1970. `is_get`: the request
        is a GET, which can be sent again. `opened` is when it came, if that was earlier.
        """
        return ResponseStream(
            place,
            rendering,
            receive,
            send,
            clock=self._clock,
            ping=self.settings.ping,
            heard=self._heard,
            headers=headers,
            until=until,
            is_get=is_get,
            opened=opened,
        )

    async def run_reader(
        self,
        stream: str,
        answer: ResponseStream,
        work: Awaitable[End],
        place: ReaderSlot | None = None,
        *,
        listener: str | None = COMES_BACK,
    ) -> End:
        """Run an answer as the newest reader of its stream, until it ends or is replaced.

        Without a `listener` it is the only one, and earlier readers of the stream end. With one,
        only an earlier answer of the same name ends, and the others wait until this one is over.
        """
        if stream in self._quick:
            await self._turn_into_reader(stream)
        reading = _Reader(answer, place, listener)
        readers = self._open.setdefault(stream, [])
        for known in list(readers):
            if listener is None or known.listener in (None, listener):
                self._end_reader(readers, known)
        readers.append(reading)
        most = self.settings.max_session_streams
        while len(readers) > 1 and (
            len(readers) > MOST_READERS or (place is not None and place.taken_by_session > most)
        ):
            self._end_reader(readers, readers[0])
        if self._is_over and _may_come_back(stream, answer):
            answer.stop(End.LEAVING)
        if len(readers) > 1 or stream in self._elsewhere:
            # The others begin to wait before this one reads, or two of them send the same entry.
            self._give_turn(stream)
        try:
            end = await work
            if end in _ANSWERED:
                for known in [known for known in readers if known is not reading]:
                    self._end_reader(readers, known)  # the entry that they wait for was sent, once
            return end
        finally:
            if reading in readers:
                readers.remove(reading)
            # Another task may have deleted this list, and a new reader begun another one.
            if self._open.get(stream) is readers and not readers:
                del self._open[stream]
                self._elsewhere.pop(stream, None)
            if stream in self._open:
                self._give_turn(stream)

    def _end_reader(self, readers: list[_Reader], reading: _Reader) -> None:
        readers.remove(reading)
        reading.answer.stop(End.REPLACED)
        if reading.place is not None:
            reading.place.release()  # it may take long to notice: a write to a client that is gone

    def _give_turn(self, stream: str) -> None:
        """Send what comes to the newest reader of a stream, if it is here; the others wait."""
        readers = self._open.get(stream, [])
        elsewhere = max(self._elsewhere.get(stream, ()), default=-1)
        for reading in readers:
            is_newest = reading is readers[-1] and reading.answer.turn.since > elsewhere
            reading.answer.wait_for_turn(is_waiting=not is_newest and bool(readers))

    async def answer_request(
        self,
        run: Run,
        quick: QuickAnswer | None,
        open_answer: Callable[[], ResponseStream],
        era: Era,
        place: ReaderSlot | None = None,
        *,
        form: Form = Form.ANY,
    ) -> None:
        """Answer a request with its run, and do what the era wants when the reader is lost.

        With `quick` the run may begin now, and that is the answer if it comes to its end soon and
        says nothing else. Else it is the one that `open_answer` opens.

        Raises:
            ProtocolError: Nothing was sent, and nothing will be: another reader took over (409), or
                the journal cannot be read (503).
        """
        stopped = None
        if quick is not None:
            run.hooks.answered = _AS_STREAM if form is Form.STREAM else _AS_JSON
            run.execution.begin_now()
            if form is not Form.STREAM and await self._answer_quickly(run, quick, era):
                return
            stopped = quick.end
        answer = open_answer()
        if stopped is not None:
            answer.stop(stopped)
        if run.is_released or (self._is_over and not run.request.kind.is_recorded):
            answer.stop(End.LEAVING)  # it was accepted as the process came to its end
        match form:
            case Form.ANY:
                work = answer.answer_request(commit_after=self.settings.commit_after)
            case Form.JSON:
                work = answer.answer_with_json()
            case Form.STREAM:
                work = answer.answer_as_stream()
        if run.request.kind.is_endless:
            answer.act_at_expiry(lambda: run.cancel("server", "its access token has expired"))
        run.hooks.answered = lambda: "stream" if answer.committed else "json"
        listener = f"post {next(self._posts)}"  # a request may be sent twice
        with _cancelled_when_cut(run, era):
            end = await self.run_reader(run.stream, answer, work, place, listener=listener)
        if end is End.GONE and _is_cancelled_by_cut(run, era):
            run.cancel("connection", "the client closed the stream")
        if not answer.committed and end in _REFUSALS:
            raise _REFUSALS[end]()

    async def _answer_quickly(self, run: Run, quick: QuickAnswer, era: Era) -> bool:
        end = quick.find_end()
        if end is None and quick.may_come_soon:
            self._quick[run.stream] = quick
            try:
                with _cancelled_when_cut(run, era):
                    end = await quick.wait_for_end(min(SOON, self.settings.commit_after))
            finally:
                del self._quick[run.stream]
        if end is None or quick.end is not None:
            return False
        if quick.is_overtaken:
            raise _replaced_error()  # the newer reader is about to send it, once
        self._heard(self._clock.now() - run.execution.born)
        await quick.send_end(end)
        return True

    async def _turn_into_reader(self, stream: str) -> None:
        """Have the request that waits for a quick end of a stream become a reader, before others.

        It does so in the step in which it leaves `_quick`.
        """
        while (quick := self._quick.get(stream)) is not None:
            quick.give_way()
            await asyncio.sleep(0)

    def reader_came(self, stream: str, notice: int, listener: str | None, process: str) -> None:
        """Let a newer reader in another process take over; `notice` announced it."""
        readers = self._open.get(stream, [])
        for reading in list(readers):
            is_same = listener is None or reading.listener in (None, listener)
            if is_same and reading.answer.turn.since < notice:
                self._end_reader(readers, reading)
        if listener is not None and readers:
            self._elsewhere.setdefault(stream, {})[notice] = process
            self._give_turn(stream)
            self._schedule_process_check()

    def reader_left(self, stream: str, notice: int) -> None:
        """Forget the reader elsewhere that was announced with this notice; others may go on."""
        elsewhere = self._elsewhere.get(stream, {})
        if elsewhere.pop(notice, None) is not None:
            if not elsewhere:
                del self._elsewhere[stream]
            self._give_turn(stream)

    def _schedule_process_check(self) -> None:
        """Check now and then that the processes live whose readers others wait for."""
        if self._looking is None and self._elsewhere:
            self._looking = self._clock.call_later(
                LOOK_AT_PROCESSES_INTERVAL, self._check_processes
            )

    def _check_processes(self) -> None:
        self._looking = None
        self._asking = asyncio.create_task(self._forget_dead_readers())

    async def _forget_dead_readers(self) -> None:
        awaited = {tag for readers in self._elsewhere.values() for tag in readers.values()}
        for tag in awaited:
            try:
                is_alive = await self._is_alive(tag)
            except JournalError:
                is_alive = True  # unknown: so nothing is forgotten
            if not is_alive:
                self._forget_process(tag)
        self._schedule_process_check()

    def _forget_process(self, process: str) -> None:
        for stream, readers in list(self._elsewhere.items()):
            for notice in [notice for notice, tag in readers.items() if tag == process]:
                self.reader_left(stream, notice)

    def close_stream(self, stream: str, end: End = End.CLOSED) -> bool:
        """End a stream's answers; their clients may come back. Return whether there are any."""
        readers = list(self._open.get(stream, ()))
        for reading in readers:
            reading.answer.stop(end)
        if stream in self._quick:
            self._quick[stream].stop(end)
        return bool(readers) or stream in self._quick

    def end_resumable(self) -> None:
        """End the answers whose clients can come back to them, now and from now on."""
        self._is_over = True
        for stream, readers in list(self._open.items()):
            for reading in list(readers):
                if _may_come_back(stream, reading.answer):
                    reading.answer.stop(End.LEAVING)

    def close_streams(self, prefix: str) -> None:
        """End the answers of all streams whose names start with `prefix`: the process stops."""
        for stream in list(self._open):
            if stream.startswith(prefix):
                self.close_stream(stream, End.LEAVING)


def _is_cancelled_by_cut(run: Run, era: Era) -> bool:
    return era.cut_cancels and not run.request.options.detached


@contextmanager
def _cancelled_when_cut(run: Run, era: Era) -> Generator[None]:
    """Cancel a run, where its era wants that, if the task that answers its request is cancelled."""
    try:
        yield
    except asyncio.CancelledError:
        if _is_cancelled_by_cut(run, era):
            run.cancel("connection", "the connection was lost")
        raise


def _may_come_back(stream: str, answer: ResponseStream) -> bool:
    """Return whether the client has resumed the stream once, or waits for nothing but news."""
    return answer.turn.since > 0 or is_session_stream(stream)
