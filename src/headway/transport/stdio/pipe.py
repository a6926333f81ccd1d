"""Two file descriptors as a channel of lines.

Each is served by a thread of its own, with plain blocking calls. Not by the event loop: what
would make a descriptor non-blocking is a property of the open file and not of this process, so a
terminal that is stdin, stdout and stderr at once would begin to fail for everybody who writes
to it.
"""

import asyncio
import logging
import os
import queue
import select
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import Final

from headway.protocol.line_buffer import LineBuffer

logger = logging.getLogger(__name__)

CHUNK: Final = 65536
"""Bytes read at once."""

AHEAD: Final = 16
"""Chunks that are read before somebody wants them. A client that does not read what it asked
for is not read any further."""

ROOM: Final = 65536
"""Bytes that may wait to be written before whoever has more to say waits too."""

HANG_UP_CHECK_INTERVAL: Final = 1.0
"""Seconds between looks at whether a client that is not being read is still there."""


class Pipe:
    """A client at the other end of two file descriptors: lines in, lines out.

    `longest` is how many bytes a line may have. `on_end` is called when the client is seen to be
    gone, by the thread that sees it: for whoever must not depend on the event loop.
    """

    def __init__(
        self, source: int, sink: int, *, longest: int, on_end: Callable[[], object] = lambda: None
    ) -> None:
        self._source = source
        self._sink = sink
        self._lines = LineBuffer(longest)
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._chunks: deque[bytes] = deque()
        self._fed = asyncio.Event()
        self._ahead = threading.Semaphore(AHEAD)
        self._pending: list[bytes] = []
        self._size = 0
        self._batches: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._is_writing = False
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._is_broken = False
        self.ended = asyncio.Event()
        """Nothing more is coming: the client closed its end or is gone, or `end` was called."""
        self.client_left = False

    def start(self) -> None:
        """Begin to read and to write."""
        for work in (self._read_all, self._write_all):
            threading.Thread(target=work, name=f"headway{work.__name__}", daemon=True).start()

    def end(self) -> None:
        """Stop taking lines, as if the client had closed its end."""
        self.ended.set()
        self._fed.set()

    # Reading

    async def lines(self) -> AsyncGenerator[bytes | None]:
        """Each line that comes, without blanks around it; None in place of one that is too long.

        Ends with the client's last line.
        """
        while True:
            while not self._chunks:
                if self.ended.is_set():
                    return
                self._fed.clear()
                await self._fed.wait()
            chunk = self._chunks.popleft()
            self._ahead.release()
            for line in self._lines.feed(chunk) if chunk else self._lines.finish():
                yield line

    def _read_all(self) -> None:
        chunk = b"-"
        while chunk:
            while not self._ahead.acquire(timeout=HANG_UP_CHECK_INTERVAL):
                if _has_hung_up(self._source, self._sink):
                    self._on_end()
                    self._call_in_loop(self._client_has_left)
                    return
            chunk = _read_chunk(self._source)
            if not chunk:
                self._on_end()
            if not self._call_in_loop(self._add_chunk, chunk):
                return

    def _add_chunk(self, chunk: bytes) -> None:
        self._chunks.append(chunk)
        self._fed.set()
        if not chunk:
            self._client_has_left()

    def _client_has_left(self) -> None:
        self.client_left = True
        self.end()

    # Writing

    async def wait_for_room(self) -> None:
        """Return when there is room for more, or nobody is left to write to."""
        while not self._has_room.is_set():
            await self._has_room.wait()

    def put(self, message: bytes) -> None:
        """Queue a line; never waits. Whoever has much to write awaits `wait_for_room` before."""
        if self._is_broken:
            return
        self._pending.append(message)
        self._size += len(message) + 1
        if self._size > ROOM:
            self._has_room.clear()
        if not self._is_writing:
            self._is_writing = True
            self._is_idle.clear()
            self._loop.call_soon(self._queue_batch)  # with all that is said in this turn

    async def flush(self) -> None:
        """Return when all is written, or nobody is left to write to."""
        await self._is_idle.wait()

    def close(self) -> None:
        """Let the writer go; the descriptors stay open, threads may still be in them."""
        self._batches.put(None)

    def _queue_batch(self) -> None:
        self._batches.put(b"\n".join([*self._pending, b""]))
        self._pending.clear()

    def _batch_written(self, size: int) -> None:
        self._size -= size
        if self._size <= ROOM:
            self._has_room.set()
        if self._pending:
            self._queue_batch()
        else:
            self._is_writing = False
            self._is_idle.set()

    def _sink_broke(self) -> None:
        self._is_broken = True
        self._pending.clear()
        self._has_room.set()
        self._is_idle.set()
        self._client_has_left()

    def _write_all(self) -> None:
        while (batch := self._batches.get()) is not None:
            try:
                _write_bytes(self._sink, batch)
            except OSError as error:
                logger.info("the client does not take answers any more: %s", error.strerror)
                self._on_end()
                self._call_in_loop(self._sink_broke)
                return
            if not self._call_in_loop(self._batch_written, len(batch)):
                return

    def _call_in_loop(self, call: Callable[..., object], *args: object) -> bool:
        """Schedule a call in the event loop; False when there is no loop any more."""
        try:
            self._loop.call_soon_threadsafe(call, *args)
        except RuntimeError:
            return False
        return True


def _read_chunk(fd: int) -> bytes:
    """Return the next bytes; none at the end, and when the descriptor can't be read any more."""
    while True:
        try:
            return os.read(fd, CHUNK)
        except BlockingIOError:  # whoever made the pipe wants it so
            _wait_for(fd, select.POLLIN)
        except OSError:
            return b""


def _write_bytes(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:
            _wait_for(fd, select.POLLOUT)


def _wait_for(fd: int, event: int) -> None:
    poll = select.poll()
    poll.register(fd, event)
    poll.poll()


def _has_hung_up(source: int, sink: int) -> bool:
    """Return whether the other ends are closed; unread bytes in between do not matter."""
    if not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(source, 0)
    poll.register(sink, 0)
    return any(event & (select.POLLHUP | select.POLLERR) for _, event in poll.poll(0))
