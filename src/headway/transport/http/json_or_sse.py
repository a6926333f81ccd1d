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
from starlette.types import Receive, Send

from headway.clock import Clock, Timer
from headway.events import TERMINAL, Cancelled, Entry, Event
from headway.protocol.render import (
    Reader,
    lost_stream_error,
    render_event,
    render_expired,
    result_gone,
)
from headway.transport.http.keep_alive import PING, PingTimer
from headway.transport.http.reply import ExpiryTimer, Headers, HttpReply
from headway.transport.stream_pages import End, StreamSource, read_next_page

CHUNK: Final = 65536
"""Bytes of frames handed to the server at once."""

WATCH_AFTER: Final = 0.02
"""Seconds until the connection is watched for a disconnect: most answers are sent before."""

_RESUMED_LATER: Final = (End.CLOSED, End.EXPIRED)
"""The ends after which the client may come back to the stream at once."""

AS_JSON: Final = tuple(kind for kind in TERMINAL if kind is not Cancelled)
"""The ends of a run that may be a plain JSON answer. The end of a cancelled call is not among them:
its client is often about to leave, and the official client survives a late event of a stream, but
not a late JSON body."""


def always_ok(_event: Event) -> int:
    """Return 200: the HTTP status of an answer whose error is in its message."""
    return 200


def _seq_of(entry: Entry) -> bytes:
    return b"%d" % entry.seq


class SseRendering(Struct, frozen=True):
    """How entries become the frames of one reader."""

    reader: Reader
    prefix: bytes | None = None
    """Event ids up to the `seq`; None: frames have no ids."""
    opening: bytes = b""
    """The first frame of a stream."""
    closing: bytes = b""
    """The last frame of a stream that a running server closes early."""
    status: Callable[[Event], int] = always_ok
    """The HTTP status of an answer that is only its terminal event."""
    seen: Callable[[], None] | None = None
    """Called when what was read so far was handed to the connection."""
    mark: Callable[[Entry], bytes] = _seq_of
    """Returns the part of an event id that names the entry."""

    def frame_of(self, entry: Entry) -> bytes | None:
        """Return the SSE frame of an entry, or None where it is not for this reader."""
        data = render_event(entry.event, self.reader)
        if data is None:
            return None
        if self.prefix is None:
            return b"event: message\ndata: %b\n\n" % data
        place = self.prefix + self.mark(entry)
        return b"id: %b\nevent: message\ndata: %b\n\n" % (place, data)


class ReadingTurn:
    """The turn of one of several answers on a stream: only one of them reads, and the rest wait."""

    __slots__ = ("_woken", "is_waiting", "on_yielded", "since")

    def __init__(self) -> None:
        self.since = 0
        """The number of the notice that announced its reader; 0 for the request's own answer."""
        self.is_waiting = False
        """Whether another answer sends what the stream says."""
        self.on_yielded: Callable[[], object] | None = None
        """Called when the turn passes to another answer."""
        self._woken: asyncio.Future[None] | None = None

    def wake(self) -> None:
        """Let an answer that waits look at its flags."""
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    async def wait_until_woken(self) -> None:
        """Wait for `wake`: the turn may have come, or the answer may be over."""
        self._woken = asyncio.get_running_loop().create_future()
        await self._woken


class ResponseStream:
    """One open HTTP answer: one of the `answer_…` methods runs it, `stop` ends it early."""

    __slots__ = (
        "_body_size", "_clock", "_cursor", "_expiry", "_frames", "_handle", "_heard",
        "_is_commit_due", "_pings", "_rendering", "_reply", "_timers", "end", "opened", "turn",
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
        until: float | None = None,
        is_get: bool = False,
        opened: float | None = None,
    ) -> None:
        """Answer a reader whose token is good `until` then, in seconds since 1970; None: for ever.

        `heard` is called with the seconds from `opened`, when its request came, until the first
        byte of the answer.
        """
        self.opened = clock.now() if opened is None else opened
        self._cursor = cursor
        self._rendering = rendering
        self._clock = clock
        self._reply = HttpReply(receive, send, headers)
        self._pings = PingTimer(clock, ping, self._wake)
        self._heard = heard
        self._frames: list[bytes] = []
        self._body_size = 0
        self._handle: bytes | None = None
        self._timers: list[Timer] = []
        self._is_commit_due = False
        self._expiry = ExpiryTimer(clock, until, self._token_expires)
        # A client that came with an event id can come again, and a session's own stream goes on
        # where the last one ended, also without an id.
        has_id = rendering.opening != b"" or is_get
        self._expiry.can_resume = rendering.prefix is not None and has_id
        self.turn = ReadingTurn()
        """Whether this answer sends what the stream says, or another one does."""
        self.end: End | None = None

    @property
    def committed(self) -> bool:
        """True when the status was sent, so that the request cannot be refused any more."""
        return self._reply.committed

    def stop(self, end: End) -> None:
        """End the answer as soon as its task runs again."""
        if self.end is None:
            self.end = end
            self._wake()

    def wait_for_turn(self, *, is_waiting: bool) -> None:
        """Read nothing while another answer sends what the stream says; pings go on."""
        if is_waiting != self.turn.is_waiting:
            self.turn.is_waiting = is_waiting
            self._wake()
            if is_waiting and self.turn.on_yielded is not None:
                self.turn.on_yielded()

    def _wake(self) -> None:
        """Let the response's task look at its flags."""
        self._cursor.nudge()
        self.turn.wake()

    def conclude_with(self, message: bytes) -> None:
        """End the answer with this JSON-RPC message instead of the run's own end."""
        if self.end is None:
            self._handle = message
            self.stop(End.HANDED_OVER)

    # The end of its reader's token

    def act_at_expiry(self, act: Callable[[], object]) -> None:
        """Call `act` when the token expires, where its reader could not resume the stream.

        It sees to it that the answer ends in order.
        """
        self._expiry.at_expiry = act

    def expire(self) -> None:
        """End the answer because its reader's token has expired; the run goes on.

        A stream whose client has an event id is closed: the client comes back with a fresh token,
        and misses nothing. Any other answer ends with an error, and not with 401, after which
        clients send their request again: it might be executed twice.
        """
        if self.end is None and not self._expiry.can_resume:
            self._handle = render_expired(self._rendering.reader)
        self.stop(End.EXPIRED)

    def _token_expires(self) -> None:
        if self._expiry.at_expiry is None or self._expiry.can_resume:
            self.expire()
        else:
            self._expiry.at_expiry()

    # One of these runs it

    async def answer_request(self, *, commit_after: float) -> End:
        """Answer to the end, with JSON or as a stream, and return how it ended.

        The answer is plain JSON when the run ends before anything else is to be sent. It becomes a
        stream with the first message, and at the latest `commit_after` seconds after its request
        came.

        Cancellation: the answer is cut; the run is not touched.
        """
        loop = asyncio.get_running_loop()
        self._timers.append(loop.call_later(WATCH_AFTER, self._start_watcher))
        left = max(self.opened + commit_after - self._clock.now(), 0.0)
        commit = self._clock.call_later(left, self._commit_is_due)
        self._timers.append(commit)
        self._expiry.start()
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
        """Answer with JSON, however long it takes; progress and logs are left out.

        Cancellation: the answer is cut; the run is not touched.
        """
        self._timers.append(asyncio.get_running_loop().call_later(WATCH_AFTER, self._start_watcher))
        self._expiry.can_resume = False  # JSON has no event ids
        self._expiry.start()
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
        self._expiry.start()
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
            if type(last.event) in AS_JSON and len(self._frames) == 1 and not self._body_size:
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
        is_closed = self._is_closed() or self.end is End.EXPIRED
        return is_closed and self._rendering.opening != b""

    def _on_first_byte(self) -> None:
        self._heard(self._clock.now() - self.opened)

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
            self._frames.insert(0, self._rendering.opening or PING)
        while True:
            over = self._cursor.done or self.end is not None
            if self._handle is not None and not self._cursor.done:
                self._frames.append(b"event: message\ndata: %b\n\n" % self._handle)
            if self.end in _RESUMED_LATER and self._rendering.closing and not self._cursor.done:
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
                self._frames.append(PING)

    async def _next_entries(self) -> list[Entry]:
        if self.end is not None:
            return []
        if self.turn.is_waiting:
            await self.turn.wait_until_woken()
            return []
        # It may have been stopped while it waited here.
        page = await read_next_page(self._cursor)
        if self._is_closed():
            return []  # entries of this moment are for the client that comes back
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
            self._expiry.can_resume |= self._rendering.prefix is not None
            if type(entry.event) not in TERMINAL:
                self._body_size += len(frame)
            self._frames.append(frame)

    async def _flush_frames(self, *, more: bool) -> None:
        body = self._frames[0] if len(self._frames) == 1 else b"".join(self._frames)
        # Cleared before the write, which may wait for a slow client: frames that are added
        # meanwhile belong to the next one.
        self._frames.clear()
        self._body_size = 0
        if self._is_lost():
            return
        await self._reply.send_body(body, more=more)
        self._pings.mark_written()
        # After the write: what a lost connection did not take is sent again by the next reader.
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
        self._expiry.stop()
        self._reply.stop_watching()
