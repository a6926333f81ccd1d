"""Two file descriptors as a channel of lines.

Each is served by a thread of its own, with plain blocking calls. The event loop cannot serve them:
to be non-blocking is a property of the open file and not of this process, so a terminal that is
stdin, stdout and stderr at once would begin to fail for every program that writes to it.
"""

import asyncio
import os
import select
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import Final

from headway.protocol.line_buffer import LineBuffer
from headway.transport.stdio.pipe_writer import PipeWriter, call_in_loop, wait_for_descriptor

CHUNK: Final = 65536
"""Bytes read at once."""

AHEAD: Final = 16
"""Chunks that are read ahead. While a client does not read its answers, nothing further is read
from it."""

HANG_UP_CHECK_INTERVAL: Final = 1.0
"""Seconds between looks at whether a client that is not being read is still there."""


class Pipe:
    """A client at the other end of two file descriptors: lines in, lines out.

    `longest` is how many bytes a line may have. `on_end` is called when the client is gone, by the
    thread that notices it, so that it does not depend on the event loop.
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
        self.writer = PipeWriter(sink, self._client_has_left, on_end)
        self.ended = asyncio.Event()
        """Nothing more is coming: the client closed its end or is gone, or `end` was called."""
        self.client_left = False

    def start(self) -> None:
        """Begin to read and to write."""
        threading.Thread(target=self._read_all, name="headway_read_all", daemon=True).start()
        self.writer.start()

    def end(self) -> None:
        """Stop taking lines, as if the client had closed its end."""
        self.ended.set()
        self._fed.set()

    async def lines(self) -> AsyncGenerator[bytes | None]:
        """Yield each line without the blanks around it, and None in place of a line that is too
        long.

        Ends after the client's last line.
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
                    call_in_loop(self._loop, self._client_has_left)
                    return
            chunk = _read_chunk(self._source)
            # On this thread, before the loop is asked: the loop may hang, and the end must begin
            # all the same.
            if not chunk:
                self._on_end()
            if not call_in_loop(self._loop, self._add_chunk, chunk):
                return

    def _add_chunk(self, chunk: bytes) -> None:
        self._chunks.append(chunk)
        self._fed.set()
        if not chunk:
            self._client_has_left()

    def _client_has_left(self) -> None:
        self.client_left = True
        self.end()


def _read_chunk(fd: int) -> bytes:
    """Return the next bytes; none at the end, and when the descriptor can't be read any more."""
    while True:
        try:
            return os.read(fd, CHUNK)
        except BlockingIOError:  # the other end made the open file non-blocking
            wait_for_descriptor(fd, select.POLLIN)
        except OSError:
            return b""


def _has_hung_up(source: int, sink: int) -> bool:
    """Return whether the other ends are closed; unread bytes in between do not matter."""
    if not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(source, 0)
    poll.register(sink, 0)
    return any(event & (select.POLLHUP | select.POLLERR) for _, event in poll.poll(0))
