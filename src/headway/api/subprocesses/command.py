"""Other programs as part of a tool: `stream_command`."""

import asyncio
import os
import shlex
import signal
import subprocess
import threading
import time
from array import array
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import ExitStack, aclosing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import anyio
from mcp.server.mcpserver.exceptions import ToolError

from headway.api.subprocesses.output_lines import (
    ERR,
    OUT,
    LineFollower,
    Lines,
    Sink,
    without_escapes,
)
from headway.api.subprocesses.progress_in_lines import Scan
from headway.api.subprocesses.pseudo_terminal import (
    NoTerminal,
    Terminal,
    chunks_of_terminal,
    open_terminal,
)
from headway.errors import HeadwayError

CHUNK = 65_536

SLICE = 256
"""Lines that are processed before the loop serves others."""

PIPE_LINGER = 1.0
"""Seconds that a pipe may stay open after its program has ended."""

LOOK_INTERVAL = 0.02
"""Seconds between checks whether a process group that must end soon is gone."""

LOOK_INTERVAL_LATER = 0.25
"""Seconds between checks of a program whose pipes are open."""

TAIL_LINES = 10
TAIL_WIDTH = 500
"""Number of lines of a failed program's output in the error, and characters of each."""


class CommandFailed(HeadwayError, ToolError):
    """A program could not be started, or failed; the text has the end of its output."""

    def __init__(self, text: str, output: "CommandOutput | None" = None) -> None:
        super().__init__(text)
        self.output = output


@dataclass(frozen=True, slots=True)
class CommandOutput:
    """The output of a program, and how it ended."""

    argv: tuple[str, ...]
    returncode: int
    """Its exit code; negative: the signal that ended it."""
    stdout: str
    stderr: str
    is_cut: bool
    """Whether the beginning of either is missing, because it was too long."""


async def stream_command(
    argv: Sequence[str | os.PathLike[str]],
    *,
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
    input: str | bytes | None = None,
    output: Sink = "log",
    progress: bool | Scan = True,
    check: bool = True,
    grace: float = 5.0,
    encoding: str = "utf-8",
    max_output: int = 1024 * 1024,
    terminal: bool = False,
) -> CommandOutput:
    """Run a program, give out its output as it comes, and return all of it.

    Its lines become log messages (those of stderr with level `notice`), or those of stdout parts,
    or neither. Of more than 50 lines a second, logs leave out some and parts put several into one;
    `stdout` and `stderr` have the last `max_output` bytes of each. What a line overwrites with a
    carriage return is looked at, but not given out, and colours are removed.

    Percentages, `3/120` and `1.2/3.4 MB` become the progress of the stage around. Where a program
    counts several times, each time is a unit of the whole. `progress` may be a function instead:
    of a line, to a share from 0 to 1, or so much of so much, or None.

    A program that is written in Python writes its lines as it prints them, and not when a buffer
    is full: `PYTHONUNBUFFERED` is set unless its environment says otherwise. Others have an option
    of their own, or `stdbuf -oL`, or they draw a bar only on a terminal: with `terminal` stdout and
    stderr are one each, of 120 columns; `stdout` and `stderr` then hold its escape sequences too.

    The program is started without a shell, in a process group of its own, with nothing on its
    stdin unless `input` is given. What it leaves behind in its group ends with it. A sync tool
    writes `anyio.from_thread.run(functools.partial(stream_command, argv))`.

    Cancellation: the whole group gets SIGTERM, after `grace` seconds SIGKILL; the call returns
    when it is gone. A process that made itself a new session is not reached.

    Raises:
        CommandFailed: It cannot be started, or there are no terminals on this system; with
            `check`, it ended with anything but 0.
    """
    if isinstance(argv, str | bytes):
        raise TypeError("the program and its arguments are a list: no shell would cut the text up")
    words = tuple(os.fspath(word) for word in argv)
    data = input.encode(encoding) if isinstance(input, str) else input
    follower = LineFollower(output, progress)
    lines = [Lines(encoding), Lines(encoding)]
    process, ends = _start_program(words, cwd, env, has_input=data is not None, terminal=terminal)
    pipes = [
        _Pipe(end, level, each, max_output, is_terminal=terminal)
        for end, level, each in zip(ends, (OUT, ERR), lines, strict=True)
    ]
    if data is not None and process.stdin is not None:
        # The program may be slow to read it, or never do.
        threading.Thread(target=_write_input, args=(process.stdin, data), daemon=True).start()
    try:
        await _read_outputs(process, pipes, follower)
    finally:
        with anyio.CancelScope(shield=True):
            await _end_group(process, grace)
        for pipe in pipes:
            pipe.close()
        follower.finish()
    stdout, stderr = (pipe.kept_text(encoding) for pipe in pipes)
    is_cut = any(pipe.is_cut for pipe in pipes)
    assert process.returncode is not None
    result = CommandOutput(words, process.returncode, stdout, stderr, is_cut)
    if check and result.returncode != 0:
        raise CommandFailed(_failure_text(result), result)
    return result


def _start_program(
    words: tuple[str, ...],
    cwd: str | os.PathLike[str] | None,
    env: Mapping[str, str] | None,
    *,
    has_input: bool,
    terminal: bool,
) -> "tuple[subprocess.Popen[bytes], tuple[IO[bytes], IO[bytes]]]":
    """Start a program; return it, and our ends of its two outputs."""
    if not words:
        raise CommandFailed("no program was given")
    _check_folder(cwd, words[0])
    with ExitStack() as theirs:
        terminals = _open_terminals(words[0], theirs) if terminal else None
        try:
            # Not asyncio's own: that one waits for pipes which a child in the background may hold.
            process = subprocess.Popen(
                words,
                cwd=cwd,
                env=_program_environment(env, terminal=terminal),
                stdin=subprocess.PIPE if has_input else subprocess.DEVNULL,
                stdout=subprocess.PIPE if terminals is None else terminals[0].theirs,
                stderr=subprocess.PIPE if terminals is None else terminals[1].theirs,
                bufsize=0,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            for each in terminals or ():
                each.ours.close()
            raise _not_started(words[0], error) from error
    if terminals is not None:
        return process, (terminals[0].ours, terminals[1].ours)
    assert process.stdout is not None
    assert process.stderr is not None
    return process, (process.stdout, process.stderr)


def _open_terminals(program: str, theirs: ExitStack) -> tuple[Terminal, Terminal]:
    """Return a terminal for stdout and one for stderr."""
    try:
        first = open_terminal(theirs)
        try:
            return first, open_terminal(theirs)
        except NoTerminal:
            first.ours.close()
            raise
    except NoTerminal as error:
        raise CommandFailed(f"{program!r} cannot have a terminal: {error}") from error


def _not_started(program: str, error: OSError | ValueError) -> CommandFailed:
    if isinstance(error, FileNotFoundError):
        return CommandFailed(f"there is no program {program!r}")
    reason = getattr(error, "strerror", None) or error
    return CommandFailed(f"{program!r} cannot be started: {reason}")


def _program_environment(env: Mapping[str, str] | None, *, terminal: bool) -> dict[str, str]:
    """Return the environment of a program; it makes Python write each line at once."""
    given = dict(os.environ if env is None else env)
    # Python writes to a pipe in blocks of 8 KiB: a line a second would arrive after minutes.
    given.setdefault("PYTHONUNBUFFERED", "1")
    if terminal and given.get("TERM", "dumb") == "dumb":
        given["TERM"] = "xterm-256color"
    return given


def _check_folder(cwd: str | os.PathLike[str] | None, program: str) -> None:
    # Without this a missing directory would be reported as a missing program.
    if cwd is not None and not Path(cwd).is_dir():
        raise CommandFailed(f"{os.fspath(cwd)!r} is no directory to run {program} in")


async def _read_outputs(
    process: "subprocess.Popen[bytes]", pipes: "list[_Pipe]", follower: LineFollower
) -> None:
    """Read both pipes until the program is gone and all that it wrote is read.

    A program that it left in the background may hold them open and write on; that is not waited
    for.
    """
    reading = [asyncio.create_task(pipe.read_lines(follower)) for pipe in pipes]
    try:
        while process.poll() is None:
            if all(task.done() for task in reading):
                await asyncio.sleep(LOOK_INTERVAL)
            else:
                await _wait_for_readers(reading, LOOK_INTERVAL_LATER)
        written = [pipe.arrived + pipe.pending_bytes() for pipe in pipes]
        await _wait_for_readers(reading, PIPE_LINGER)
        # A busy machine may need longer than that for what the program wrote at last.
        while any(
            pipe.read_bytes < all_of_it and not task.done()
            for pipe, task, all_of_it in zip(pipes, reading, written, strict=True)
        ):
            await _wait_for_readers(reading, LOOK_INTERVAL)
    finally:
        for task in reading:
            task.cancel()  # a child in the background may hold the pipe open
        await asyncio.gather(*reading, return_exceptions=True)


async def _wait_for_readers(reading: "list[asyncio.Task[None]]", patience: float) -> None:
    """Give the readers some time, and raise what one of them raised."""
    done, _ = await asyncio.wait(reading, timeout=patience, return_when="FIRST_EXCEPTION")
    for task in done:
        task.result()


def _write_input(stdin: IO[bytes], data: bytes) -> None:
    rest = memoryview(data)
    try:
        with stdin:
            while rest:
                rest = rest[stdin.write(rest) :]
    except OSError:
        pass  # the program does not read on


async def _end_group(process: "subprocess.Popen[bytes]", grace: float) -> None:
    """End the processes that are left of the program's group, and reap the program."""
    try:
        for number, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, PIPE_LINGER)):
            if not _send_signal(process.pid, number):
                break
            end = time.monotonic() + patience
            while time.monotonic() < end and _is_there(process):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(LOOK_INTERVAL)
    except asyncio.CancelledError:  # a server that stops cancels again
        _send_signal(process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            process.wait(LOOK_INTERVAL_LATER)  # it cannot refuse
        raise
    finally:
        process.poll()


def _is_there(process: "subprocess.Popen[bytes]") -> bool:
    """Return whether any process of the program's group still runs."""
    if process.poll() is None:
        return True
    with suppress(ChildProcessError):
        # Where this server is the first process of a container, orphans become its own.
        while os.waitpid(-process.pid, os.WNOHANG)[0]:
            pass
    return _send_signal(process.pid, 0) and _has_living_member(process.pid)


def _has_living_member(group: int) -> bool:
    """Return whether a process of the group lives: others are dead and were never reaped.

    Many containers have no `init` that would reap them.
    """
    table = list(Path("/proc").glob("[0-9]*/stat"))
    return not table or any(_is_member(stat, group) for stat in table)


def _is_member(stat: Path, group: int) -> bool:
    try:
        # The name before, in parentheses, may hold anything.
        state, _, its_group = stat.read_text("utf-8", "replace").rpartition(")")[2].split()[:3]
    except OSError:  # it has just ended
        return False
    return int(its_group) == group and state not in "ZX"


def _send_signal(group: int, number: int) -> bool:
    """Send a signal to a group; False when there is none any more."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


class _CountingProtocol(asyncio.StreamReaderProtocol):
    """A stream protocol that counts the bytes that arrive, before they are read."""

    def __init__(self, stream: asyncio.StreamReader, count: Callable[[bytes], None]) -> None:
        super().__init__(stream)
        self._count = count

    def data_received(self, data: bytes) -> None:
        self._count(data)
        super().data_received(data)


async def _chunks_of_pipe(file: IO[bytes], count: Callable[[bytes], None]) -> AsyncGenerator[bytes]:
    stream = asyncio.StreamReader()
    protocol = _CountingProtocol(stream, count)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: protocol, file)
    try:
        while chunk := await stream.read(CHUNK):
            yield chunk
    finally:
        transport.close()


class _Pipe:
    """One of a program's outputs, line by line."""

    def __init__(
        self, file: IO[bytes], level: str, lines: Lines, largest: int, *, is_terminal: bool
    ) -> None:
        self._file = file
        self._is_terminal = is_terminal
        self._level = level
        self._lines = lines
        self._largest = largest
        self._kept = bytearray()
        self.is_cut = False
        self.arrived = 0
        """Bytes that this process has taken from the pipe."""
        self.read_bytes = 0
        """Bytes among these whose lines were given to the follower."""

    def pending_bytes(self) -> int:
        """Return the number of bytes that wait in the pipe; 0 where the system cannot say."""
        waiting = array("i", [0])
        try:
            import fcntl
            import termios

            fcntl.ioctl(self._file.fileno(), termios.FIONREAD, waiting)
        except (ImportError, OSError, ValueError):  # ValueError: it is closed
            return 0
        return waiting[0]

    def _count_bytes(self, chunk: bytes) -> None:
        self.arrived += len(chunk)

    def kept_text(self, encoding: str) -> str:
        """Return the output, or its end where it was too long."""
        first = max(0, len(self._kept) - self._largest)
        return bytes(self._kept[first:]).decode(encoding, errors="replace")

    async def read_lines(self, follower: LineFollower) -> None:
        """Give every line to the follower until the pipe is closed."""
        chunks = chunks_of_terminal if self._is_terminal else _chunks_of_pipe
        try:
            async with aclosing(chunks(self._file, self._count_bytes)) as pieces:
                async for chunk in pieces:
                    self._keep_end(chunk)
                    for count, (kind, text) in enumerate(self._lines.feed(chunk), 1):
                        follower.take_line(kind, text, self._level)
                        if count % SLICE == 0:
                            await asyncio.sleep(0)
                    self.read_bytes += len(chunk)
            self._read_last_line(follower)
        except asyncio.CancelledError:  # others hold the pipe open
            self._read_last_line(follower)
            raise

    def _read_last_line(self, follower: LineFollower) -> None:
        for kind, text in self._lines.feed(b"", final=True):
            follower.take_line(kind, text, self._level)

    def close(self) -> None:
        """Close our end of the pipe; other processes may still hold theirs."""
        self._file.close()

    def _keep_end(self, chunk: bytes) -> None:
        self._kept += chunk
        if len(self._kept) > 2 * self._largest:
            self.is_cut = True
            del self._kept[: len(self._kept) - self._largest]
        self.is_cut = self.is_cut or len(self._kept) > self._largest


def _failure_text(output: CommandOutput) -> str:
    code = output.returncode
    how = f"exit code {code}" if code > 0 else f"signal {_name_of(-code)}"
    said = (output.stderr.strip() or output.stdout.strip()).splitlines()[-TAIL_LINES:]
    told = [without_escapes(line[-TAIL_WIDTH:]) for line in said]
    return "\n".join([f"{shlex.join(output.argv)[:TAIL_WIDTH]} ended with {how}", *told])


def _name_of(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)
