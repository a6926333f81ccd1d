"""One HTTP answer made of a cursor: plain JSON while it may be, an SSE stream when it must.

This module must not know methods or sessions: it is given a cursor and a rendering, and it decides
when bytes go out.

    answer_request:    reading ── the run ends, nothing else to send ──▶ JSON, over
                          │ a first frame, or `commit_after` is over
                          ▼
    answer_as_stream:  streaming ── the run ends, or `stop` ──▶ over
                          │ ▲
          `wait_for_turn` ▼ │ the newer reader has left
                       waiting: pings only

    answer_with_json:  reading to the end ──▶ JSON, over

Flow control is the reader's own: the next entries are read when the last frames are written.
A client that stops reading stops its own reading of the journal and nothing else.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from headway.clock import Clock, Timer
from headway.events import TERMINAL, Cancelled, Entry, Event
from headway.protocol.render import Reader, lost_stream_error, render_event, result_gone
from headway.transport.http.guard import Receive, Send
from headway.transport.http.reply import Headers, HttpReply, PingTimer
from headway.transport.stream_reader import End, StreamSource, read_next_page

PING_INTERVAL: Final = b": ping\n\n"
CHUNK: Final = 65536
"""Bytes of frames handed to the server at once."""

WATCH_AFTER: Final = 0.02
"""Seconds until somebody listens for a disconnect: most answers are out before."""

_AS_JSON: Final = tuple(kind for kind in TERMINAL if kind is not Cancelled)
"""What a plain JSON answer may be. Not the end of a cancelled call: its client is often on its
way out, and the official one survives a late event of a stream, but not a late JSON body."""


def _always_ok(_event: Event) -> int:
    return 200


def _seq_of(entry: Entry) -> bytes:
    return b"%d" % entry.seq


class SseRendering(Struct, frozen=True):
    """How entries become the frames of one reader."""

    reader: Reader
    prefix: bytes | None = None
    """Event ids up to the `seq`; None: frames have no ids."""
    opening: bytes = b""
    """What a stream begins with."""
    closing: bytes = b""
    """What it ends with where it is closed early by a server that goes on."""
    status: Callable[[Event], int] = _always_ok
    """The HTTP status of an answer that is only its terminal event."""
    seen: Callable[[], None] | None = None
    """Called when what was read so far was handed to the connection."""
    mark: Callable[[Entry], bytes] = _seq_of
    """What of an event id names the entry."""

    def frame_of(self, entry: Entry) -> bytes | None:
        """Return the SSE frame of an entry, or None where it is not for this reader."""
        data = render_event(entry.event, self.reader)
        if data is None:
            return None
        if self.prefix is None:
            return b"event: message\ndata: %b\n\n" % data
        place = self.prefix + self.mark(entry)
        return b"id: %b\nevent: message\ndata: %b\n\n" % (place, data)


class ResponseStream:
    """One open HTTP answer. `respond` runs it to its end; `stop` ends it early."""

    __slots__ = (
        "_body_size", "_clock", "_cursor", "_frames", "_handle", "_is_commit_due", "_is_waiting",
        "_on_first_byte", "_pings", "_rendering", "_reply", "_timers", "_turn", "end", "since",
        "yielded",
    )  # fmt: skip

    def __init__(
        self,
        cursor: StreamSource,
        rendering: SseRendering,
        receive: Receive,
        send: Send,
        *,
        clock: Clock,
        ping: float,
        heard: Callable[[float], object],
        headers: Headers = (),
    ) -> None:
        """`heard` is called with the seconds until the first byte of the answer."""
        opened = clock.now()
        self._cursor = cursor
        self._rendering = rendering
        self._clock = clock
        self._reply = HttpReply(receive, send, headers)
        self._pings = PingTimer(clock, ping, self._wake)
        self._on_first_byte = lambda: heard(clock.now() - opened)
        self._frames: list[bytes] = []
        self._body_size = 0
        self._handle: bytes | None = None
        self._timers: list[Timer] = []
        self._is_commit_due = self._is_waiting = False
        self._turn: asyncio.Future[None] | None = None
        self.since = 0
        """The notice that its reader came with; 0: with the request itself."""
        self.yielded: Callable[[], object] | None = None
        """Called when another answer is sent from now on what the stream says."""
        self.end: End | None = None

    @property
    def committed(self) -> bool:
        """True when the status was sent, so that the request cannot be refused any more."""
        return self._reply.committed

    def stop(self, end: End) -> None:
        """End the answer as soon as its task looks up."""
        if self.end is None:
            self.end = end
            self._wake()

    def wait_for_turn(self, *, is_waiting: bool) -> None:
        """Read nothing while another answer is sent what the stream says; pings go on."""
        if is_waiting != self._is_waiting:
            self._is_waiting = is_waiting
            self._wake()
            if is_waiting and self.yielded is not None:
                self.yielded()

    def _wake(self) -> None:
        """Let the response's task look at its flags."""
        self._cursor.nudge()
        if self._turn is not None and not self._turn.done():
            self._turn.set_result(None)

    def conclude_with(self, message: bytes) -> None:
        """End the answer with this JSON-RPC message instead of the run's own end."""
        if self.end is None:
            self._handle = message
            self.stop(End.HANDED_OVER)

    async def answer_request(self, *, commit_after: float) -> End:
        """Answer to the end, with JSON or as a stream, and say how it ended.

        Plain JSON when the run ends with nothing said before; a stream as soon as there is
        something to say, and at the latest `commit_after` seconds from now.

        Cancellation: the answer is cut; the run is not touched.
        """
        loop = asyncio.get_running_loop()
        self._timers.append(loop.call_later(WATCH_AFTER, self._start_watcher))
        commit = self._clock.call_later(commit_after, self._commit_is_due)
        self._timers.append(commit)
        try:
            only = await self._read_until_commit()
            commit.cancel()
            if only is not None:
                body = render_event(only, self._rendering.reader)
                assert body is not None  # the end of a run is for whoever asked
                await self._send_json(self._rendering.status(only), body)
            elif self._handle is not None and not self._frames:
                await self._send_json(200, self._handle)
            elif self.end is None or self._handle is not None or self._is_to_be_resumed():
                await self._write_stream()
        finally:
            self._cancel_timers()
        return self.end or End.DONE

    async def answer_with_json(self) -> End:
        """Answer with JSON, however long it takes: what is said on the way is left out.

        Cancellation: the answer is cut; the run is not touched.
        """
        self._timers.append(asyncio.get_running_loop().call_later(WATCH_AFTER, self._start_watcher))
        try:
            last = await self._read_to_end()
            if last is not None:
                body = render_event(last, self._rendering.reader)
                assert body is not None  # the end of a run is for whoever asked
                await self._send_json(self._rendering.status(last), body)
            elif self._handle is not None:
                await self._send_json(200, self._handle)
        finally:
            self._cancel_timers()
        return self.end or End.DONE

    async def answer_as_stream(self) -> End:
        """Answer as a stream from the first byte on."""
        self._start_watcher()
        try:
            await self._write_stream()
        finally:
            self._cancel_timers()
        return self.end or End.DONE

    # Before the commit

    def _commit_is_due(self) -> None:
        self._is_commit_due = True
        self._wake()

    async def _read_until_commit(self) -> Event | None:
        """Return the terminal event if it is the only message, else None with frames waiting."""
        while True:
            entries = await self._next_entries()
            if not entries:
                if self._is_commit_due or self.end is not None or self._cursor.done:
                    return None
                continue  # it waits for its turn, or has it again
            last = entries[-1]
            for entry in entries:
                self._add_frame(entry)
            if type(last.event) in _AS_JSON and len(self._frames) == 1 and not self._body_size:
                return last.event
            if self._frames:
                return None

    async def _read_to_end(self) -> Event | None:
        """Return the terminal event, or None where the answer ends without it."""
        while entries := await self._next_entries():
            last = entries[-1].event
            if type(last) in TERMINAL:
                return last
        return None

    def _is_to_be_resumed(self) -> bool:
        """Return whether it was closed early for a client that comes back with an event id."""
        return self._is_closed() and self._rendering.opening != b""

    async def _send_json(self, status: int, body: bytes) -> None:
        self._on_first_byte()
        await self._reply.send_json(status, body)

    # The stream

    async def _write_stream(self) -> None:
        await self._reply.start_stream()
        self._on_first_byte()
        self._pings.start()
        # Some proxies hold the headers back until the first byte of the body.
        if self._rendering.opening or not self._frames:
            self._frames.insert(0, self._rendering.opening or PING_INTERVAL)
        while True:
            over = self._cursor.done or self.end is not None
            if self._handle is not None and not self._cursor.done:
                self._frames.append(b"event: message\ndata: %b\n\n" % self._handle)
            if self.end is End.CLOSED and self._rendering.closing:
                self._frames.append(self._rendering.closing)
            if self._frames or over:
                await self._flush_frames(more=not over)
            if over:
                break
            await self._read_frames()

    async def _read_frames(self) -> None:
        for entry in await self._next_entries():
            self._add_frame(entry)
            if self._body_size > CHUNK:
                await self._flush_frames(more=True)
        if self._pings.is_due:
            self._pings.is_due = False
            if not self._frames:
                self._frames.append(PING_INTERVAL)

    async def _next_entries(self) -> list[Entry]:
        if self.end is not None:
            return []
        if self._is_waiting:
            self._turn = asyncio.get_running_loop().create_future()
            await self._turn
            return []
        page = await read_next_page(self._cursor)
        if self._is_closed():
            return []  # what came in this moment is for whoever comes back
        if page.missed:
            notice = lost_stream_error(page.missed, self._rendering.reader)
            if notice is not None:
                self._frames.append(b"event: message\ndata: %b\n\n" % notice)
                self._body_size += len(notice)
        if page.end is not None:
            self.end = page.end
        if page.has_lost_its_end and self._rendering.reader.run:
            gone = result_gone(self._rendering.reader)
            self._frames.append(b"event: message\ndata: %b\n\n" % gone)
        return page.entries

    def _add_frame(self, entry: Entry) -> None:
        frame = self._rendering.frame_of(entry)
        if frame is not None:
            if type(entry.event) not in TERMINAL:
                self._body_size += len(frame)
            self._frames.append(frame)

    async def _flush_frames(self, *, more: bool) -> None:
        body = self._frames[0] if len(self._frames) == 1 else b"".join(self._frames)
        self._frames.clear()
        self._body_size = 0
        if self._is_lost():
            return
        await self._reply.send_body(body, more=more)
        self._pings.mark_written()
        if self._rendering.seen is not None and not self._is_lost():
            self._rendering.seen()

    def _is_closed(self) -> bool:
        return self.end in (End.CLOSED, End.LEAVING)

    def _is_lost(self) -> bool:
        return self.end is End.GONE

    # Timers and the other side

    def _start_watcher(self) -> None:
        self._reply.watch(lambda: self.stop(End.GONE))

    def _cancel_timers(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._pings.stop()
        self._reply.stop_watching()
