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

from headway.cli.environment import for_ourselves
from headway.cli.exit_codes import CODES, report_line
from headway.cli.server.listener import Listener
from headway.cli.server.signals import stop_on_signals
from headway.errors import SetupError

WORKER: Final = "HEADWAY_WORKER"
"""What a worker is told by its parent: the descriptors of two pipes and of the sockets."""

BEAT_INTERVAL: Final = 1.0
"""Seconds between signs that a worker's event loop goes on, and between looks at them."""

SETTLED_AFTER: Final = 10.0
"""Seconds after which a worker that dies counts as one that had begun well."""

BACK_OFF: Final = (0.0, 0.2, 1.0, 5.0)
"""Seconds until another one is started for one that did not; the last repeats."""


@dataclass(frozen=True, slots=True)
class Inherited:
    """A worker's place: what it inherits from its parent."""

    listener: Listener
    life: int
    """Where it tells the parent that it is ready, and again and again that it goes on."""

    def announce(self) -> None:
        """Tell the parent that this worker can be used, and from now on that its loop goes on."""
        with suppress(OSError):  # it is gone, and this worker will be soon; or it stands still
            os.write(self.life, b".")
        asyncio.get_running_loop().call_later(BEAT_INTERVAL, self.announce)


def is_worker() -> bool:
    """Return whether this process has a parent that prints for it; works before `Inherited`."""
    return WORKER in os.environ


def inherited_by_worker() -> Inherited | None:
    """Return what this process inherits as a worker, or None where it is none."""
    told = os.environ.pop(WORKER, None)  # its own programs are no workers
    if told is None:
        return None
    life, parent, *sockets = map(int, told.split(","))
    for descriptor in (life, parent, *sockets):
        os.set_inheritable(descriptor, False)
    os.set_blocking(life, False)
    threading.Thread(target=_end_with_parent, args=(parent,), daemon=True).start()
    return Inherited(Listener([socket.socket(fileno=one) for one in sockets]), life)


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


class _Member:
    """One worker, as its parent sees it."""

    def __init__(self, process: asyncio.subprocess.Process, pipe: int) -> None:
        self.process = process
        self._pipe = pipe
        self.is_ready = False
        self._silent = 0  # looks without a sign

    def hear(self) -> bool:
        """Take what it says; False when it will say nothing more."""
        if not os.read(self._pipe, 4096):
            return False
        self.is_ready, self._silent = True, 0
        return True

    def is_stuck(self, timeout: float) -> bool:
        """Look whether its loop has been held for longer than that; once in `BEAT` seconds.

        Looks are counted and not the time between them: a machine that stood still, with all its
        processes, is nobody's fault.
        """
        self._silent += self.is_ready
        return self._silent * BEAT_INTERVAL > timeout

    def tell(self, number: int) -> None:
        """Send it a signal, if it is still there."""
        with suppress(ProcessLookupError):
            self.process.send_signal(number)


class Prefork:
    """The workers of one parent.

    Args:
        announce: Called when all are there for the first time.
        hold_timeout: Seconds after which a worker is replaced whose event loop is held.
        stop_timeout: Seconds that a worker gets to end in order.
    """

    def __init__(
        self,
        listener: Listener,
        count: int,
        announce: Callable[[], object],
        *,
        hold_timeout: float,
        stop_timeout: float,
    ) -> None:
        self._listener = listener
        self._count = count
        self._announce = announce
        self._hold_timeout = hold_timeout
        self._stop_timeout = stop_timeout
        # -P: with -m alone, Python would import from the current directory before all else.
        self._command: Sequence[str] = (sys.executable, "-P", "-m", "headway.cli", *sys.argv[1:])
        self._members: set[_Member] = set()
        self._codes: list[int] = []
        self._ready = 0
        self._stopping = asyncio.Event()
        self._life, self._kept = os.pipe()  # closed by the system when this process is gone

    async def serve(self) -> int:
        """Keep the workers at work until a signal ends it; returns the exit code."""
        loop = asyncio.get_running_loop()

        stop_on_signals(
            self._stop_all, lambda number: loop.call_soon_threadsafe(self._stop_all, number)
        )
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._count):
                    group.create_task(self._keep_workers())
        finally:
            os.close(self._life)
            os.close(self._kept)
        return next((code for code in self._codes if code), 0)

    def _stop_all(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        if self._stopping.is_set():
            loop.call_later(BEAT_INTERVAL, self._kill_all)
        else:
            report_line("finishing what runs; Ctrl+C again stops at once")
            self._stopping.set()
            self._listener.close()  # the workers' copies are open until each has drained
            loop.call_later(self._stop_timeout, self._kill_all)
        for member in self._members:
            member.tell(number)

    def _kill_all(self) -> None:
        """End the workers that do not end by themselves."""
        for member in self._members:
            report_line(f"worker {member.process.pid} did not end and is killed")
            member.tell(signal.SIGKILL)

    async def _keep_workers(self) -> None:
        """Have one worker, and another one when it dies."""
        loop, failures = asyncio.get_running_loop(), 0
        while not self._stopping.is_set():
            begun = loop.time()
            member = await self._start_worker()
            code = await self._watch_workers(member)
            self._members.discard(member)
            if self._stopping.is_set() or self._cannot_start(code):
                # One that was not ready knew no signal yet, and had nothing to finish.
                ended = code if code >= 0 else 128 - code if member.is_ready else 0
                self._codes.append(ended)
                return
            failures = 0 if loop.time() - begun >= SETTLED_AFTER else failures + 1
            report_line(
                f"worker {member.process.pid} ended ({_how_it_ended(code)}); another one is started"
            )
            wait = BACK_OFF[min(failures, len(BACK_OFF) - 1)]
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._stopping.wait()

    async def _watch_workers(self, member: _Member) -> int:
        """Wait for a worker's end, and end it when it is stuck; gives its exit code."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(BEAT_INTERVAL):
                    return await member.process.wait()
            if member.is_stuck(self._hold_timeout) and not self._stopping.is_set():
                text = f"its event loop was held for {self._hold_timeout:g} s (hold_timeout)"
                report_line(f"worker {member.process.pid} is killed: {text}")
                member.tell(signal.SIGKILL)

    def _cannot_start(self, code: int) -> bool:
        """Return whether no worker will ever start: the first ones fail, and so the parent ends."""
        if self._ready or code != CODES[SetupError]:
            return False
        self._stopping.set()
        for member in self._members:
            member.tell(signal.SIGTERM)
        return True

    async def _start_worker(self) -> _Member:
        reads, writes = os.pipe()
        sockets = [one.fileno() for one in self._listener.sockets]
        inherited = (writes, self._life, *sockets)
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                env={**for_ourselves(), WORKER: ",".join(map(str, inherited))},
                pass_fds=inherited,
                process_group=0,  # Ctrl+C is for the parent, which passes it on once
            )
        finally:
            os.close(writes)
        member = _Member(process, reads)
        self._members.add(member)
        asyncio.get_running_loop().add_reader(reads, self._hear_worker, member, reads)
        return member

    def _hear_worker(self, member: _Member, pipe: int) -> None:
        was_ready = member.is_ready
        if not member.hear():
            asyncio.get_running_loop().remove_reader(pipe)
            os.close(pipe)
        elif not was_ready:
            self._ready += 1
            if self._ready == self._count:
                self._announce()


def _how_it_ended(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
