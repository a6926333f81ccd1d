"""The writing side of a pipe: lines are queued on the event loop and written by one thread.

One batch is with the thread at a time. All lines that come meanwhile become the next batch, so a
slow client costs fewer and larger writes, and never an order other than the one of the `put` calls.
"""

import asyncio
import os
import queue
import select
import threading
from collections.abc import Callable
from typing import Final

from headway.log_lines import quiet_logger

logger = quiet_logger(__name__)

ROOM: Final = 65536
"""Bytes that may wait to be written before `wait_for_room` waits."""


class PipeWriter:
    """Writes lines to one file descriptor. All methods are for the event loop.

    Args:
        sink: The descriptor; it stays open.
        on_broken: Called on the event loop when nobody reads the other end any more.
        on_end: Called in the same case by the thread that finds out.
    """

    def __init__(
        self, sink: int, on_broken: Callable[[], object], on_end: Callable[[], object]
    ) -> None:
        self._sink = sink
        self._on_broken = on_broken
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._pending: list[bytes] = []
        self._size = 0  # bytes of the pending lines and of the batch that the thread has
        self._batches: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._is_writing = False
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._is_broken = False

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._write_all, name="headway_write_all", daemon=True).start()

    async def wait_for_room(self) -> None:
        """Return when there is room for more, or nobody is left to write to."""
        while not self._has_room.is_set():
            await self._has_room.wait()

    def put(self, message: bytes) -> None:
        """Queue a line without waiting; with much to write await `wait_for_room` before."""
        if self._is_broken:
            return
        self._pending.append(message)
        self._size += len(message) + 1
        if self._size > ROOM:
            self._has_room.clear()
        if not self._is_writing:
            self._is_writing = True
            self._is_idle.clear()
            self._loop.call_soon(self._queue_batch)  # with all lines of this turn of the loop

    async def flush(self) -> None:
        """Return when all is written, or nobody is left to write to."""
        await self._is_idle.wait()

    def close(self) -> None:
        """Let the thread go; the descriptor stays open, the thread may still be in a write."""
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
        # Nothing is written any more, so a task that waits for room or for the end must go on.
        self._has_room.set()
        self._is_idle.set()
        self._on_broken()

    def _write_all(self) -> None:
        while (batch := self._batches.get()) is not None:
            try:
                _write_bytes(self._sink, batch)
            except OSError as error:
                logger.info("the client does not take answers any more: %s", error.strerror)
                self._on_end()
                call_in_loop(self._loop, self._sink_broke)
                return
            if not call_in_loop(self._loop, self._batch_written, len(batch)):
                return


def call_in_loop(
    loop: asyncio.AbstractEventLoop, call: Callable[..., object], *args: object
) -> bool:
    """Schedule a call in the event loop, from any thread; False when the loop is closed."""
    try:
        loop.call_soon_threadsafe(call, *args)
    except RuntimeError:
        return False
    return True


def wait_for_descriptor(fd: int, event: int) -> None:
    """Block until a descriptor that somebody else has made non-blocking is ready."""
    poll = select.poll()
    poll.register(fd, event)
    poll.poll()


def _write_bytes(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:
            wait_for_descriptor(fd, select.POLLOUT)
