"""Work that computes, in another process: `in_process`.

The processes are Headway's own instead of a library's: the output of a call has to come back while
it works, and a cancelled one has to end without harm to the others. `multiprocessing` would run the
server's main module again in every child, `concurrent.futures` gives up its pool when one process
dies, and `anyio.to_process` has no way back but for the result.
"""

import asyncio
import functools
import inspect
import os
import pickle
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from typing import Any, ParamSpec, TypeVar

import anyio
import msgspec
from anyio.lowlevel import RunVar
from mcp.server.mcpserver.exceptions import ToolError

from headway.api.output import log, part
from headway.api.pool import child_main
from headway.api.pool.module_files import module_files
from headway.api.progress import report
from headway.errors import HeadwayError
from headway.events import Log, Part, Progress

P = ParamSpec("P")
T = TypeVar("T")

IDLE_SECONDS = 60.0
"""Seconds that a process waits for its next call before it is ended."""

EVENTS_PER_TURN = 64
"""Frames that are processed before the loop serves others."""

EXIT_LOOK_INTERVAL = 0.25
"""Seconds between checks whether a silent process is still there."""

EXIT_LINGER = 1.0
"""Seconds for a killed process to end, and for its last output to arrive."""

BUFFER = 256 * 1024
"""Bytes that are read from a process ahead of what was processed."""

MAIN = (
    "import sys; sys.argv[:] = ['headway-worker']; path = {path!r}; "
    "sys.path += path; from headway.api.pool.child_main import serve_calls; "
    "sys.path[:] = path; serve_calls()"
)
"""Headway and the standard library are imported first, from where Python itself has them: a file
`queue.py` beside the author's module is the author's, and not what they import."""


class ProcessFailed(HeadwayError, ToolError):
    """The process ended before its call was done, or the call cannot go there or its result back.

    `returncode` is the exit code, negative for a signal; None where the process did not end.
    """

    def __init__(self, text: str, returncode: int | None = None) -> None:
        super().__init__(text)
        self.returncode = returncode


async def in_process(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function in another process and return what it returns.

    For work that computes: in a thread it would hold up every other run. `report`, `track`,
    `stage`, `log` and `part` work in there as they do here, and count for the stage around this
    call; progress is sampled. The function, its arguments and its result are pickled: it has to
    be at the top level of a module that can be imported, and not of the script that was started.

    As many calls at once as there are processors; more wait in order. A process is used again,
    so the first call takes the time of importing the function's module. What it prints goes to
    stderr, and its stdin is empty. A sync tool writes
    `anyio.from_thread.run(functools.partial(in_process, function, argument))`.

    Cancellation: the process is killed at once, with all that it started.

    Raises:
        TypeError: The function or an argument cannot be sent; nothing was started.
        ProcessFailed: The process died, or the result cannot be sent back.
        Exception: What the function raised, with its traceback as a note; where its class cannot
            be pickled, as the nearest base class.
    """
    call = _pack_call(function, args, kwargs)
    pool = _current_pool()
    async with pool.slots:
        process = await pool.take_process()
        again = False
        try:
            kind, again, data = await process.answer_call(call)
        finally:
            if again:
                pool.give_back(process)
            else:
                await process.kill_and_wait()
    return _unpack_outcome(kind, data, _function_name(function))


def _unpack_outcome(kind: bytes, data: bytes, name: str) -> Any:
    if kind == child_main.FAILED:
        raise ProcessFailed(f"{name} {data.decode()}")
    try:
        value = pickle.loads(data)
    except Exception as error:
        raise ProcessFailed(f"what {name} gave back cannot be read: {error}") from error
    if kind == child_main.RAISED:
        raise value
    return value


def _pack_call(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    """Return a call as bytes.

    Raises:
        TypeError: The call cannot be sent; the text says why and what to do about it.
    """
    if not callable(function):
        raise TypeError(f"in_process() needs a function and its arguments, not {function!r}")
    name, home = _function_name(function), _without_partials(function)
    if inspect.iscoroutinefunction(home) or inspect.isasyncgenfunction(home):
        raise TypeError(f"{name} is async: in_process() is for plain functions that compute")
    if inspect.isgeneratorfunction(home):
        raise TypeError(f"{name} is a generator: nothing of it could be sent back")
    if getattr(home, "__module__", None) == "__main__":
        raise TypeError(
            f"{name} is defined in the script that was started, which another process cannot "
            "import; move it to a module of its own"
        )
    try:
        pickle.dumps(function)
    except Exception as error:
        raise TypeError(
            f"in_process() cannot send {name} to another process ({error}); it takes functions "
            "from the top level of a module, no lambdas and no functions inside functions"
        ) from error
    try:
        return pickle.dumps((function, args, kwargs), pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        raise TypeError(f"in_process() cannot send an argument of {name}: {error}") from error


def _without_partials(function: Any) -> Any:
    while isinstance(function, functools.partial):
        function = function.func
    return function


def _function_name(function: Any) -> str:
    home = _without_partials(function)
    return str(getattr(home, "__qualname__", None) or type(home).__qualname__)


def _processor_count() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Pool:
    """The processes of one event loop."""

    def __init__(self) -> None:
        self.slots = anyio.CapacityLimiter(_processor_count())
        self._idle: dict[_Process, asyncio.TimerHandle] = {}
        # A loop that ends cancels its tasks, and this task ends the processes then. It runs in an
        # empty context, or it would keep the run alive that happened to be the first.
        loop = asyncio.get_running_loop()
        self._keeper = loop.create_task(self._end_with_loop(), context=Context())

    async def take_process(self) -> "_Process":
        """Return a process that waits for a call: the one that was used last, or a new one."""
        while self._idle:
            process, timer = self._idle.popitem()
            timer.cancel()
            if process.is_alive:
                return process
            await process.kill_and_wait()
        return await _Process.start_process()

    def give_back(self, process: "_Process") -> None:
        """Keep a process for the next call, for a while."""
        loop = asyncio.get_running_loop()
        self._idle[process] = loop.call_later(IDLE_SECONDS, self._retire_process, process)

    def _retire_process(self, process: "_Process") -> None:
        if self._idle.pop(process, None) is not None:
            process.kill_group()

    async def _end_with_loop(self) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            while self._idle:
                process, timer = self._idle.popitem()
                timer.cancel()
                await process.kill_and_wait()


_POOL: RunVar[_Pool] = RunVar("headway_pool")


def _current_pool() -> _Pool:
    try:
        return _POOL.get()
    except LookupError:
        pool = _Pool()
        _POOL.set(pool)
        return pool


_DECODER = msgspec.json.Decoder(Progress | Log | Part)


class _Process:
    """One child process, and the pipes to it."""

    def __init__(
        self,
        transport: asyncio.SubprocessTransport,
        protocol: asyncio.subprocess.SubprocessStreamProtocol,
    ) -> None:
        assert protocol.stdin is not None
        assert protocol.stdout is not None
        self._transport = transport
        self._process = asyncio.subprocess.Process(transport, protocol, asyncio.get_running_loop())
        self._calls = protocol.stdin
        self._frames = protocol.stdout

    @classmethod
    async def start_process(cls) -> "_Process":
        """Start a new process.

        Raises:
            ProcessFailed: The system cannot start one.
        """
        loop = asyncio.get_running_loop()
        path = [each for each in sys.path if isinstance(each, str)]  # pyright: ignore[reportUnnecessaryIsInstance] - others put anything there
        known = msgspec.json.encode(await asyncio.to_thread(module_files))
        # As `create_subprocess_exec` does it, but with a transport that can be closed: of one
        # whose reading is paused nobody else would find out that it is over.
        starting = loop.subprocess_exec(
            lambda: asyncio.subprocess.SubprocessStreamProtocol(limit=BUFFER, loop=loop),
            sys.executable,
            "-P",
            "-c",
            MAIN.format(path=path),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=None,
            start_new_session=True,
        )
        try:
            process = cls(*await starting)
        except OSError as error:
            raise ProcessFailed(f"no process can be started: {error}") from error
        process.send_message(known)
        return process

    @property
    def is_alive(self) -> bool:
        """True while the process can take a call."""
        return self._process.returncode is None and not self._calls.is_closing()

    async def answer_call(self, call: bytes) -> tuple[bytes, bool, bytes]:
        """Give the process a call, hand on its output meanwhile, and return how the call ended.

        Raises:
            ProcessFailed: The process died.
        """
        answering = asyncio.ensure_future(self._exchange_frames(call))
        try:
            while not answering.done() and self._process.returncode is None:
                # Not until the pipe closes: a process that the child left behind may hold it.
                await asyncio.wait((answering,), timeout=EXIT_LOOK_INTERVAL)
            await asyncio.wait((answering,), timeout=EXIT_LINGER)
            if answering.done():
                with suppress(EOFError, OSError):
                    return answering.result()
        finally:
            answering.cancel()
            await asyncio.gather(answering, return_exceptions=True)
        await self.kill_and_wait()
        raise ProcessFailed(_death_text(self._process.returncode), self._process.returncode)

    def send_message(self, message: bytes) -> None:
        """Send the process a message."""
        self._calls.writelines((child_main.SIZE.pack(len(message)), message))

    async def _exchange_frames(self, call: bytes) -> tuple[bytes, bool, bytes]:
        self.send_message(call)
        await self._calls.drain()
        count = 0
        while True:
            header = await self._frames.readexactly(child_main.HEADER.size)
            kind, again, size = child_main.HEADER.unpack(header)
            data = await self._frames.readexactly(size)
            if kind != child_main.SAID:
                return kind, again, data
            _hand_on(_DECODER.decode(data))
            count += 1
            if count % EVENTS_PER_TURN == 0:
                await asyncio.sleep(0)

    def kill_group(self) -> None:
        """Kill the process and all that it started, without waiting."""
        if os.name == "posix":
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        elif self._process.returncode is None:
            self._process.kill()
        self._calls.close()

    async def kill_and_wait(self) -> None:
        """Kill the process and all that it started, and return when it is gone."""
        self.kill_group()
        with anyio.move_on_after(EXIT_LINGER, shield=True):
            while self._process.returncode is None:  # noqa: ASYNC110 - `wait` is for its pipes too
                await asyncio.sleep(0.01)
        # Not before the wait: asyncio would find that its child was reaped already, and lose the
        # exit code.
        self._transport.close()


def _hand_on(event: Progress | Log | Part) -> None:
    match event:
        case Progress():
            report(event.progress, event.total, event.message)
        case Log():
            log(event.data, event.level, logger=event.logger)
        case Part():
            part(event.value)


def _death_text(code: int | None) -> str:
    how = "went silent" if code is None else f"ended with exit code {code}"
    if code is not None and code < 0:
        try:
            how = f"was ended by {signal.Signals(-code).name}"
        except ValueError:
            how = f"was ended by signal {-code}"
        if -code == signal.SIGKILL:
            how += ", as the system does when memory runs out"
    return f"the process that worked on this {how} before it was done"
