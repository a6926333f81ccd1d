"""Several processes on one port: a parent that starts workers, replaces dead ones, and ends last.

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
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from headway.cli.environment import for_ourselves
from headway.cli.exit_codes import CODES, report_line
from headway.cli.server.listener import Listener
from headway.cli.server.reload import NOTE, RETIRE, ReloadNote, watch_changes
from headway.cli.server.service_manager import tell_stopping
from headway.cli.server.signals import stop_on_signals
from headway.errors import SetupError

WORKER: Final = "HEADWAY_WORKER"
"""The variable by which a worker gets the descriptors of two pipes and of the sockets."""

BEAT_INTERVAL: Final = 1.0
"""Seconds between signs that a worker's event loop goes on, and between looks at them."""

SETTLED_AFTER: Final = 10.0
"""Seconds after which a worker that dies counts as one that had begun well."""

BACK_OFF: Final = (0.0, 0.2, 1.0, 5.0)
"""Seconds until a worker is replaced that did not begin well; the last number repeats."""


RETIRED: Final = b"r"
"""The sign of a worker that accepts nothing more."""

MOST_NAMES: Final = 3
"""Names of changed files that are shown."""


@dataclass(frozen=True, slots=True)
class Reload:
    """The files whose change brings new workers, and the note for callers while it cannot."""

    places: Sequence[Path]
    note: ReloadNote

    def changes(self) -> AsyncGenerator[list[Path]]:
        """Yield the files that changed, whenever some did."""
        return watch_changes(self.places)


@dataclass(frozen=True, slots=True)
class Inherited:
    """The pipes and sockets that a worker inherits from its parent."""

    listener: Listener
    life: int
    """The pipe on which it reports that it is ready, and again and again that its loop goes on."""

    def announce(self, beat: Callable[[], object]) -> None:
        """Tell the parent that this worker can be used, and from now on that its loop goes on.

        `beat` is called each time.
        """
        with suppress(OSError):  # the parent is gone, and so will be this worker; or it is stuck
            os.write(self.life, b".")
        beat()
        asyncio.get_running_loop().call_later(BEAT_INTERVAL, self.announce, beat)

    def report_retired(self) -> None:
        """Tell the parent that this worker accepts nothing more."""
        with suppress(OSError):
            os.write(self.life, RETIRED)


def is_worker() -> bool:
    """Return whether this process has a parent that prints for it; works before `Inherited`."""
    return WORKER in os.environ


def inherited_by_worker() -> Inherited | None:
    """Return what this process inherits as a worker, or None where it is none."""
    told = os.environ.pop(WORKER, None)  # programs that this process starts are no workers
    if told is None:
        return None
    life, parent, *sockets = map(int, told.split(","))
    for descriptor in (life, parent, *sockets):
        os.set_inheritable(descriptor, False)
    os.set_blocking(life, False)
    threading.Thread(target=_end_with_parent, args=(parent,), daemon=True).start()
    return Inherited(Listener([socket.socket(fileno=one) for one in sockets]), life)


def _end_with_parent(pipe: int) -> None:
    os.read(pipe, 1)  # nothing is ever written: the read returns when the parent is gone
    os.kill(os.getpid(), signal.SIGTERM)


def check_journal(journal: str, option: str) -> None:
    """Check that the processes that `option` asks for can share a journal.

    Raises:
        SetupError: They cannot.
    """
    if os.name != "posix":
        raise SetupError(f"{option} needs a POSIX system; start several servers behind a proxy")
    if journal.partition(":")[0] == "memory":
        raise SetupError(
            f"{option} needs a journal that processes can share, and memory: is each one's own; "
            "leave --journal out, or write sqlite:///file.db"
        )


def _do_nothing() -> None:
    pass


class _Member:
    """One worker, as its parent sees it."""

    def __init__(self, process: asyncio.subprocess.Process, pipe: int) -> None:
        self.process = process
        self._pipe = pipe
        self.is_ready = False
        self.began = asyncio.Event()
        """Set when it is ready, or is not going to be."""
        self.left = asyncio.Event()
        """Set when it accepts nothing more."""
        self.successor: _Member | None = None
        """The one that has taken its place, with newer code."""
        self._silent = 0  # number of looks without a sign

    def hear(self) -> bool:
        """Read the worker's signs; False when no more will come."""
        self.began.set()
        signs = os.read(self._pipe, 4096)
        if not signs or RETIRED in signs:
            self.left.set()
        if not signs:
            return False
        self.is_ready, self._silent = True, 0
        return True

    def is_stuck(self, timeout: float) -> bool:
        """Return whether the worker's loop was held for longer than that.

        It is called once in `BEAT_INTERVAL` seconds. Looks are counted, and not the time between
        them: when the whole machine stood still, no worker is at fault.
        """
        self._silent += self.is_ready
        return self._silent * BEAT_INTERVAL > timeout

    def retire(self, successor: "_Member") -> None:
        """Have it end when its last call has; all new connections are the successor's."""
        self.successor = successor
        self.tell(RETIRE)

    def tell(self, number: int) -> None:
        """Send the worker a signal, if it still runs."""
        # asyncio's own `send_signal` may read the exit code of a process that has just ended, and
        # then reports 255 for it.
        if self.process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, number)


class Prefork:
    """The workers of one parent.

    Args:
        announce: Called when all are there for the first time.
        hold_timeout: Seconds after which a worker is replaced whose event loop is held.
        stop_timeout: Seconds that a worker gets to end in order.
        reload: The files whose change brings new workers; None: none do.
        environment: Variables that the workers get besides.
        on_worker_end: Called when a worker has ended.
    """

    def __init__(
        self,
        listener: Listener,
        count: int,
        announce: Callable[[], object],
        *,
        hold_timeout: float,
        stop_timeout: float,
        reload: "Reload | None" = None,
        environment: Mapping[str, str] | None = None,
        on_worker_end: Callable[[], object] = _do_nothing,
    ) -> None:
        self._reload = reload
        self._on_worker_end = on_worker_end
        self._environment = dict(environment or {})
        if reload is not None:
            self._environment[NOTE] = str(reload.note.file)
        self._listener = listener
        self._count = count
        self._announce = announce
        self._hold_timeout = hold_timeout
        self._stop_timeout = stop_timeout
        # -P: with -m alone, Python would import from the current directory before all else.
        self._command: Sequence[str] = (sys.executable, "-P", "-m", "headway", *sys.argv[1:])
        self._members: set[_Member] = set()
        self._codes: list[int] = []
        self._ready = 0
        self._stopping = asyncio.Event()
        self._group = asyncio.TaskGroup()
        self._life = os.pipe()  # the system closes its end to write when this process is gone

    async def serve(self) -> int:
        """Keep the workers at work until a signal ends it; returns the exit code."""
        loop = asyncio.get_running_loop()

        stop_on_signals(
            self._stop_all, lambda number: loop.call_soon_threadsafe(self._stop_all, number)
        )
        try:
            async with self._group as group:
                keepers = [group.create_task(self._keep_workers()) for _ in range(self._count)]
                if self._reload is not None:
                    reloading = group.create_task(self._reload_on_change(self._reload))
                    await asyncio.wait(keepers)
                    reloading.cancel()
        finally:
            for end in self._life:
                os.close(end)
        return next((code for code in self._codes if code), 0)

    def _stop_all(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        if self._stopping.is_set():
            loop.call_later(BEAT_INTERVAL, self._kill_all)
        else:
            report_line("finishing what runs; Ctrl+C again stops at once")
            tell_stopping()
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
        """Keep one worker running: start another one when it dies."""
        loop, failures = asyncio.get_running_loop(), 0
        successor: _Member | None = None
        while successor is not None or not self._stopping.is_set():
            begun = loop.time()
            member = successor or await self._start_worker()
            code, successor = await self._watch_worker(member), member.successor
            if code is None or successor is not None:
                self._group.create_task(self._watch_retired(member))
                continue
            self._forget(member)
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

    async def _watch_retired(self, member: _Member) -> None:
        """Wait for the end of a worker that has a successor, and kill it when it is stuck."""
        while await self._look_at_worker(member) is None:
            pass
        self._forget(member)

    def _forget(self, member: _Member) -> None:
        self._members.discard(member)
        self._on_worker_end()

    async def _reload_on_change(self, reload: "Reload") -> None:
        """Have workers with new code take the place of the others, whenever a file changes."""
        try:
            async for files in reload.changes():
                names = ", ".join(file.name for file in files[:MOST_NAMES])
                report_line(f"{names} changed; loading the new code")
                for each in list(self._members):
                    await each.began.wait()  # one that starts now may have read the old code
                reload.note.clear()
                old = [each for each in self._members if each.is_ready and each.successor is None]
                replaced = [await self._replace_worker(each) for each in old]
                if replaced and all(replaced):
                    report_line("the new code answers from now on")
        except (OSError, RuntimeError) as error:  # watchfiles: too many files, or they are gone
            report_line(f"files cannot be watched any more, so no new code is loaded: {error}")

    async def _replace_worker(self, old: _Member) -> bool:
        """Start a worker with the newest code and retire the old one; False where it fails."""
        new = await self._start_worker()
        await new.began.wait()
        has_ended = old not in self._members
        if new.is_ready and not has_ended and not self._stopping.is_set():
            old.retire(new)
            await old.left.wait()
            return True
        if new.is_ready:
            new.tell(signal.SIGTERM)  # the end has begun, or another one has taken the place
        else:
            report_line("the new code cannot be served; what was loaded before goes on")
        await new.process.wait()
        self._forget(new)
        return new.is_ready

    async def _watch_worker(self, member: _Member) -> int | None:
        """Wait for a worker's end, kill it when it is stuck, and return its exit code.

        Returns None as soon as another one has taken its place.
        """
        while member.successor is None:
            code = await self._look_at_worker(member)
            if code is not None:
                return code
        return None

    async def _look_at_worker(self, member: _Member) -> int | None:
        """Return a worker's exit code, or None if it lives for another `BEAT_INTERVAL`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(BEAT_INTERVAL):
                return await member.process.wait()
        if member.is_stuck(self._hold_timeout) and not self._stopping.is_set():
            text = f"its event loop was held for {self._hold_timeout:g} s (hold_timeout)"
            report_line(f"worker {member.process.pid} is killed: {text}")
            member.tell(signal.SIGKILL)
        return None

    def _cannot_start(self, code: int) -> bool:
        """Return whether no worker will ever start, because the first ones failed: the parent ends
        then.
        """
        if self._ready or code != CODES[SetupError]:
            return False
        self._stopping.set()
        for member in self._members:
            member.tell(signal.SIGTERM)
        return True

    async def _start_worker(self) -> _Member:
        reads, writes = os.pipe()
        sockets = [one.fileno() for one in self._listener.sockets]
        inherited = (writes, self._life[0], *sockets)
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                env={**for_ourselves(), **self._environment, WORKER: ",".join(map(str, inherited))},
                pass_fds=inherited,
                process_group=0,  # Ctrl+C is for the parent, which passes it on once
            )
        finally:
            os.close(writes)
        member = _Member(process, reads)
        self._members.add(member)
        if self._stopping.is_set():
            member.tell(signal.SIGTERM)  # the others were told while it was made
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
