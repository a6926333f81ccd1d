"""Output that never blocks: a serving process does not wait for the reader of its stderr.

A client may start a server and never read its stderr, a supervisor's pipe may stand still, a
terminal may be paused or its connection gone. A write to such a descriptor waits, and on the event
loop's thread all calls wait with it. So `sys.stdout` and `sys.stderr` write as much as the reader
takes at once, and put the rest into a queue for a thread.

That covers `print`, `logging`, `warnings` and tracebacks. The queue has a limit: output beyond it
is dropped, and its amount is reported when there is room again. Native code and child processes
have the descriptors themselves, and wait by themselves.
"""

import io
import os
import select
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TextIO, cast

from typing_extensions import Buffer

MOST: Final = 1024 * 1024
"""Bytes that may wait to be written: a few thousand lines."""

CHUNK: Final = 64 * 1024
"""Bytes written at once: a pipe takes about as many."""

TERMINAL_MOMENT: Final = 0.05
"""Seconds that a flush waits on a terminal, so that a prompt comes after its text."""


class Queue(io.RawIOBase):
    """A descriptor that is written at once as far as possible, and by a thread for the rest.

    Its methods may be called from any thread. A process that is forked from this one has no such
    thread, so there the caller writes.
    """

    def __init__(self, descriptor: int, name: str) -> None:
        self.name = name
        self._descriptor = descriptor
        self._is_terminal = os.isatty(descriptor)
        self._take = _without_waiting(descriptor)
        self._state = threading.Condition(threading.RLock())
        self._pending: list[bytes] = []
        self._size = 0
        self._dropped = 0  # lines
        self._writer: threading.Thread | None = None
        self._is_late = False  # the last flush took too long
        self._is_broken = False
        self._owner = os.getpid()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._begin_anew)

    def writable(self) -> bool:
        """Return True, as every stream that can be written."""
        return True

    def fileno(self) -> int:
        """Return the descriptor; children of this process may be given it."""
        return self._descriptor

    def isatty(self) -> bool:
        """Return whether a person reads it."""
        return self._is_terminal

    def write(self, data: Buffer, /) -> int:
        """Queue the text; what exceeds `MOST` bytes is dropped and counted."""
        chunk = bytes(data)
        if self._owner != os.getpid():
            _write(self._descriptor, chunk)
            return len(chunk)
        with self._state:
            rest = self._write_at_once(chunk)
            if not rest or self._is_broken:
                return len(chunk)
            if self._size + len(rest) > MOST:
                self._dropped += max(1, rest.count(b"\n"))
                return len(chunk)
            self._add_text(rest)
        return len(chunk)

    def _write_at_once(self, chunk: bytes) -> bytes:
        """Write as much as possible without waiting, if nothing is queued; return the rest."""
        if self._size or self._is_broken or self._take is None:
            return chunk
        try:
            return chunk[self._take(chunk) :]
        except BlockingIOError:
            return chunk
        except OSError:
            self._is_broken = True
            return b""

    def _add_text(self, chunk: bytes) -> None:
        self._pending.append(chunk)
        self._size += len(chunk)
        if self._writer is None:
            self._writer = threading.Thread(target=self._write_all, daemon=True)
            self._writer.name = "headway-output"
            self._writer.start()
        self._state.notify_all()

    def flush(self) -> None:
        """Return at once; on a terminal, wait for a moment."""
        if self._is_terminal and not self._is_late and not self.closed:
            self._is_late = not self.drain(TERMINAL_MOMENT)

    def drain(self, seconds: float) -> bool:
        """Wait until all is written, but no longer than that; return whether it is."""
        if self._owner != os.getpid():
            return True
        limit = time.monotonic() + seconds
        with self._state:
            while self._size and not self._is_broken:
                left = limit - time.monotonic()
                if left <= 0:
                    return False
                self._state.wait(left)
        return True

    def _write_all(self) -> None:
        while True:
            with self._state:
                while not self._pending:
                    self._state.wait()
                chunk = b"".join(self._pending)
                self._pending.clear()
            try:
                _write(self._descriptor, chunk)
            except OSError:
                self._drop_all()
                return
            self._make_room(len(chunk))

    def _make_room(self, written: int) -> None:
        with self._state:
            self._size -= written
            self._is_late = False
            if self._dropped:
                text = f"headway: {self._dropped} lines were dropped here: nobody read them\n"
                self._dropped = 0
                self._add_text(text.encode())
            self._state.notify_all()

    def _drop_all(self) -> None:
        """Drop all that is queued: nobody can read it any more."""
        with self._state:
            self._is_broken = True
            self._pending.clear()
            self._size = 0
            self._state.notify_all()

    def _begin_anew(self) -> None:
        # The lock may have been held at the fork, and the queue is the parent's to write.
        self._state = threading.Condition(threading.RLock())
        self._pending.clear()
        self._size = 0


def _without_waiting(descriptor: int) -> Callable[[bytes], int] | None:
    """Return a function that writes as much as there is room for.

    To be non-blocking is a property of the open file, which other programs share: a terminal would
    begin to fail for all of them. So the file is opened once more, where the system can do that.
    """
    if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        own = socket.socket(fileno=os.dup(descriptor))
        return lambda data: own.send(data, socket.MSG_DONTWAIT)
    try:
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        again = os.open(f"/proc/self/fd/{descriptor}", flags)
    except OSError:
        return None
    return lambda data: os.write(again, data)


def _write(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest[:CHUNK]) :]
        except BlockingIOError:  # another program made the open file non-blocking
            select.select([], [descriptor], [])


_queues: list[Queue] = []


def make_output_unblocked() -> None:
    """Make `sys.stdout` and `sys.stderr` wait for no reader from now on.

    Call it before anything is loaded that might keep them. Files are left as they are: a write to
    them does not wait.
    """
    sys.stdout = queued_bytes(sys.stdout)
    sys.stderr = queued_bytes(sys.stderr)


def drain_output(seconds: float) -> None:
    """Wait until all that was printed is written, but no longer than that."""
    limit = time.monotonic() + seconds
    for queue in _queues:
        queue.drain(max(0.0, limit - time.monotonic()))


def queued_bytes(stream: TextIO) -> TextIO:
    """Return a stream that writes to the same descriptor and waits for no reader."""
    try:
        descriptor = stream.fileno()
        if not _may_wait(descriptor):
            return stream
        stream.flush()
    except (OSError, ValueError, AttributeError):  # none, closed, or a program's own object
        return stream
    queue = Queue(descriptor, getattr(stream, "name", ""))
    _queues.append(queue)
    binary = cast("Any", queue)  # it has all methods that a text stream needs
    return io.TextIOWrapper(
        binary, stream.encoding, stream.errors, line_buffering=True, write_through=True
    )


def _may_wait(descriptor: int) -> bool:
    found = os.fstat(descriptor)
    is_null = os.path.samestat(found, Path(os.devnull).stat())
    return not stat.S_ISREG(found.st_mode) and not is_null
