"""Other programs as part of a tool: `stream_command`."""

import asyncio
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

import anyio
import anyio.to_thread
from mcp.server.mcpserver.exceptions import ToolError

from headway.api.output import log, part
from headway.api.progress import report
from headway.api.scan import Scan, scan

CHUNK = 65536

LONGEST_LINE = 16_384
"""Bytes of a line; a longer one is given out in pieces."""

LINES_A_SECOND = 50
BURST = 200
"""Lines given out at once before `LINES_A_SECOND` counts. The output itself is not thinned."""

LINGER = 1.0
"""Seconds that a pipe may stay open behind its program: what holds it then is left over."""

LOOK_EVERY = 0.02

TAIL_LINES = 10

Sink = Literal["log", "part"] | None


class CommandFailed(ToolError):
    """A program could not be started, or did not end well; the text has the end of what it said."""

    def __init__(self, text: str, output: "CommandOutput | None" = None) -> None:
        super().__init__(text)
        self.output = output


@dataclass(frozen=True, slots=True)
class CommandOutput:
    """What a program said, and how it ended."""

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
    max_output: int = 1024 * 1024,
) -> CommandOutput:
    """Run a program and give out what it says while it says it; returns all of it.

    Its lines become log messages (those of stderr with level `notice`), or parts, or neither.
    Percentages, `3/120` and `1.2/3.4 MB` in them become the progress of the stage around;
    `progress` may be a function of a line instead. What a line overwrites with a carriage return
    is looked at, but not given out. More than 50 lines a second are thinned out; `stdout` and
    `stderr` have the last `max_output` bytes of each.

    The program is started without a shell, in a process group of its own, with nothing on its
    stdin unless `input` is given.

    Cancellation: the whole group gets SIGTERM, after `grace` seconds SIGKILL; the call returns
    when it is gone. A process that made itself a new session is not reached.

    Raises:
        CommandFailed: It cannot be started; with `check`, it ended with anything but 0.
    """
    words = tuple(os.fspath(word) for word in argv)
    process = _started(words, cwd, env, has_input=input is not None)
    follower = _Follower(output, scan if progress is True else progress or None)
    pipes = [_Pipe(process.stdout, "info", max_output), _Pipe(process.stderr, "notice", max_output)]
    feeding = asyncio.create_task(_feed(process, input))
    try:
        await _followed(process, pipes, follower)
    finally:
        feeding.cancel()
        with anyio.CancelScope(shield=True):
            await _end_group(process, grace)
        for pipe in pipes:
            pipe.close()
    stdout, stderr = (pipe.text() for pipe in pipes)
    is_cut = any(pipe.is_cut for pipe in pipes)
    assert process.returncode is not None
    result = CommandOutput(words, process.returncode, stdout, stderr, is_cut)
    if check and result.returncode != 0:
        raise CommandFailed(_failure(result), result)
    return result


def _started(
    words: tuple[str, ...],
    cwd: str | os.PathLike[str] | None,
    env: Mapping[str, str] | None,
    *,
    has_input: bool,
) -> "subprocess.Popen[bytes]":
    if not words:
        raise CommandFailed("no program was given")
    _check_place(cwd, words[0])
    try:
        # Not asyncio's own: that one waits for pipes which a child in the background may hold.
        return subprocess.Popen(
            words,
            cwd=cwd,
            env=env,
            stdin=subprocess.PIPE if has_input else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
    except FileNotFoundError:
        raise CommandFailed(f"there is no program {words[0]!r}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CommandFailed(f"{words[0]!r} cannot be started: {reason}") from error


def _check_place(cwd: str | os.PathLike[str] | None, program: str) -> None:
    # Without this a missing directory would be told as a missing program.
    if cwd is not None and not Path(cwd).is_dir():
        raise CommandFailed(f"{os.fspath(cwd)!r} is no directory to run {program} in")


async def _followed(
    process: "subprocess.Popen[bytes]", pipes: "list[_Pipe]", follower: "_Follower"
) -> None:
    """Read both pipes until the program is gone, and a moment longer."""
    reading = [asyncio.create_task(pipe.read(follower)) for pipe in pipes]
    try:
        while process.poll() is None:
            await _look(reading)
            await asyncio.sleep(0 if any(not task.done() for task in reading) else LOOK_EVERY)
        await asyncio.wait(reading, timeout=LINGER)
        await _look(reading)
    finally:
        for task in reading:
            task.cancel()  # a child in the background may hold the pipe open
        await asyncio.gather(*reading, return_exceptions=True)
    follower.end()


async def _look(reading: "list[asyncio.Task[None]]") -> None:
    """Give the readers a moment; what one of them raised is raised here."""
    done, _ = await asyncio.wait(reading, timeout=LOOK_EVERY, return_when="FIRST_EXCEPTION")
    for task in done:
        task.result()


async def _feed(process: "subprocess.Popen[bytes]", input: str | bytes | None) -> None:
    """Write the input; in a thread, because the program may be slow to read it."""
    if input is not None and process.stdin is not None:
        data = input.encode() if isinstance(input, str) else input
        await anyio.to_thread.run_sync(_write, process.stdin, data, abandon_on_cancel=True)


def _write(stdin: IO[bytes], data: bytes) -> None:
    rest = memoryview(data)
    try:
        with stdin:
            while rest:
                rest = rest[stdin.write(rest) :]
    except OSError:
        pass  # it does not want to read on


async def _end_group(process: "subprocess.Popen[bytes]", grace: float) -> None:
    """End whatever is left of the program's group, and reap the program."""
    for number, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, LINGER)):
        if not _signalled(process.pid, number):
            break
        end = time.monotonic() + patience
        while time.monotonic() < end and _is_there(process):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(LOOK_EVERY)
    process.poll()


def _is_there(process: "subprocess.Popen[bytes]") -> bool:
    process.poll()  # a program that nobody has reaped still counts as one of its group
    return _signalled(process.pid, 0)


def _signalled(group: int, number: int) -> bool:
    """Send a signal to a group; False when there is none any more."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


class _Pipe:
    """One of a program's outputs, line by line."""

    def __init__(self, file: IO[bytes] | None, level: str, largest: int) -> None:
        assert file is not None
        self._file = file
        self._level = level
        self._largest = largest
        self._kept = bytearray()
        self.is_cut = False

    def text(self) -> str:
        """What was said, or the end of it."""
        return bytes(self._kept[-self._largest :]).decode(errors="replace")

    async def read(self, follower: "_Follower") -> None:
        """Give every line to the follower until the pipe is closed."""
        stream = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(stream)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(lambda: protocol, self._file)
        rest = b""
        try:
            while chunk := await stream.read(CHUNK):
                self._keep(chunk)
                *lines, rest = _lines(rest + chunk)
                for line in lines:
                    follower.take(line, self._level)
        finally:
            transport.close()
            if rest:
                follower.take(rest, self._level)

    def close(self) -> None:
        """Let go of the pipe, whoever else holds it."""
        self._file.close()

    def _keep(self, chunk: bytes) -> None:
        self._kept += chunk
        if len(self._kept) > 2 * self._largest:
            self.is_cut = True
            del self._kept[: -self._largest]
        self.is_cut = self.is_cut or len(self._kept) > self._largest


def _lines(data: bytes) -> Iterator[bytes]:
    """The lines in `data` with their ends, then what has no end yet."""
    *whole, rest = data.split(b"\n")
    for line in whole:
        yield line + b"\n"
    while len(rest) > LONGEST_LINE:
        yield rest[:LONGEST_LINE]
        rest = rest[LONGEST_LINE:]
    # One at the very end may be the first half of a line end.
    last = rest[:-1].rfind(b"\r") + 1
    if last:
        yield rest[:last]
    yield rest[last:]


class _Follower:
    """What becomes of a program's lines."""

    def __init__(self, sink: Sink, progress: Scan | None) -> None:
        self._give: Callable[[str, str], None] = _SINKS[sink]
        self._progress = progress
        self._room = float(BURST)
        self._looked = time.monotonic()
        self._left_out = 0

    def take(self, raw: bytes, level: str) -> None:
        """One line, or several that overwrite each other."""
        *overwritten, line = raw.decode(errors="replace").rstrip("\r\n").split("\r")
        if self._progress is not None:
            for text in (*overwritten, line):
                share = self._progress(text)
                if share is not None:
                    report(share * 100, 100, text.strip()[:200] or None)
        if not raw.endswith(b"\r") and line.strip():
            self._tell(line, level)

    def end(self) -> None:
        """Say what was left out."""
        if self._left_out:
            self._give(f"… {self._left_out:,} lines left out", "info")

    def _tell(self, line: str, level: str) -> None:
        now = time.monotonic()
        self._room = min(BURST, self._room + (now - self._looked) * LINES_A_SECOND)
        self._looked = now
        if self._room < 1:
            self._left_out += 1
            return
        self._room -= 1
        self._give(line, level)


def _log(line: str, level: str) -> None:
    log(line, level)


def _part(line: str, _level: str) -> None:
    part(line)


def _drop(_line: str, _level: str) -> None:
    pass


_SINKS: dict[Sink, Callable[[str, str], None]] = {"log": _log, "part": _part, None: _drop}


def _failure(output: CommandOutput) -> str:
    code = output.returncode
    how = f"exit code {code}" if code > 0 else f"signal {_name_of(-code)}"
    said = (output.stderr.strip() or output.stdout.strip()).splitlines()[-TAIL_LINES:]
    return "\n".join([f"{shlex.join(output.argv)[:500]} ended with {how}", *said])


def _name_of(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)
