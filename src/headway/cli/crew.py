"""Several processes on one port: a parent that starts them, replaces who dies, and ends with them.

The parent listens and never accepts; its workers share the socket, so that a connection which
waits when one dies is taken by another. It executes nothing, so there is little that could end
it, and its workers notice when something does: they finish what runs, and end.
"""

import asyncio
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from headway.cli.exits import CODES, report
from headway.errors import SetupError

WORKER: Final = "HEADWAY_WORKER"
"""What a worker is told by its parent: the descriptors of the socket and of two pipes."""

SETTLED: Final = 10.0
"""Seconds after which a worker that dies counts as one that had begun well."""

BACK_OFF: Final = (0.0, 0.2, 1.0, 5.0)
"""Seconds until another one is started for one that did not; the last repeats."""


@dataclass(frozen=True, slots=True)
class Post:
    """A worker's place: what it inherits from its parent."""

    listener: socket.socket
    ready: int

    def announce(self) -> None:
        """Tell the parent that this worker can be used."""
        with suppress(OSError):  # it is gone, and this worker will be soon
            os.write(self.ready, b"r")
            os.close(self.ready)


def is_worker() -> bool:
    """Whether this process has a parent that says what there is to say; before it has its post."""
    return WORKER in os.environ


def post_of_worker() -> Post | None:
    """What this process inherits as a worker; None where it is none."""
    told = os.environ.pop(WORKER, None)  # its own programs are no workers
    if told is None:
        return None
    listener, ready, parent = map(int, told.split(","))
    for descriptor in (listener, ready, parent):
        os.set_inheritable(descriptor, False)
    threading.Thread(target=_end_with_parent, args=(parent,), daemon=True).start()
    return Post(socket.socket(fileno=listener), ready)


def _end_with_parent(pipe: int) -> None:
    os.read(pipe, 1)  # nothing is ever written: it returns when the parent is gone
    os.kill(os.getpid(), signal.SIGTERM)


def check_journal(journal: str) -> None:
    """See that workers can share a journal.

    Raises:
        SetupError: They cannot.
    """
    if os.name != "posix":
        raise SetupError("--workers needs a POSIX system; start several servers behind a proxy")
    if journal.partition(":")[0] == "memory":
        raise SetupError(
            "--workers needs a journal that processes can share, and memory: is each one's own; "
            "leave --journal out, or write sqlite:///file.db"
        )


class Crew:
    """The workers of one parent; `announce` is called when all are there for the first time."""

    def __init__(self, listener: socket.socket, count: int, announce: Callable[[], object]) -> None:
        self._listener = listener
        self._count = count
        self._announce = announce
        # -P: with -m alone, Python would import from the current directory before all else.
        self._command: Sequence[str] = (sys.executable, "-P", "-m", "headway.cli", *sys.argv[1:])
        self._running: set[asyncio.subprocess.Process] = set()
        self._codes: list[int] = []
        self._ready = 0
        self._stopping = asyncio.Event()
        self._life, self._kept = os.pipe()  # closed by the system when this process is gone

    async def serve(self) -> int:
        """Keep the workers at work until a signal ends it; returns the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop, number)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._count):
                    group.create_task(self._keep())
        finally:
            os.close(self._life)
            os.close(self._kept)
        return next((code for code in self._codes if code), 0)

    def _stop(self, number: int) -> None:
        if not self._stopping.is_set():
            report("finishing what runs; Ctrl+C again stops at once")
            self._stopping.set()
            self._listener.close()  # the workers' copies are open until each has drained
        for process in self._running:
            with suppress(ProcessLookupError):
                process.send_signal(number)

    async def _keep(self) -> None:
        """Have one worker, and another one when it dies."""
        loop, failures = asyncio.get_running_loop(), 0
        while not self._stopping.is_set():
            begun = loop.time()
            process = await self._start()
            code = await process.wait()
            self._running.discard(process)
            if self._stopping.is_set() or self._cannot_start(code):
                self._codes.append(code if code >= 0 else 128 - code)
                return
            failures = 0 if loop.time() - begun >= SETTLED else failures + 1
            report(f"worker {process.pid} ended ({_how(code)}); another one is started")
            wait = BACK_OFF[min(failures, len(BACK_OFF) - 1)]
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._stopping.wait()

    def _cannot_start(self, code: int) -> bool:
        """Whether none will ever start: the first ones say why, and the parent ends with them."""
        if self._ready or code != CODES[SetupError]:
            return False
        self._stopping.set()
        for process in self._running:
            with suppress(ProcessLookupError):
                process.terminate()
        return True

    async def _start(self) -> asyncio.subprocess.Process:
        reads, writes = os.pipe()
        inherited = (self._listener.fileno(), writes, self._life)
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                env={**os.environ, WORKER: ",".join(map(str, inherited))},
                pass_fds=inherited,
                process_group=0,  # Ctrl+C is for the parent, which passes it on once
            )
        finally:
            os.close(writes)
        self._running.add(process)
        asyncio.get_running_loop().add_reader(reads, self._hear, reads)
        return process

    def _hear(self, pipe: int) -> None:
        """A worker is ready, or has ended before it was."""
        asyncio.get_running_loop().remove_reader(pipe)
        if os.read(pipe, 1):
            self._ready += 1
            if self._ready == self._count:
                self._announce()
        os.close(pipe)


def _how(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
