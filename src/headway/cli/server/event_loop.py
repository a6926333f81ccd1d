"""The event loop of a process that serves: the choice of one, and how it is kept running.

An author's code runs on this loop, in tasks and callbacks that nobody else sees. `SystemExit` and
`KeyboardInterrupt` in one of them go through the loop and end it, whoever else is served by it; and
any code can call its `stop`. Here the loop is started again where it was: what was due still is.
"""

import asyncio
import importlib.util
import signal
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any, Final, Literal, TypeVar

from headway.cli.server.process_end import Deadline, exit_at_once
from headway.engine import executing_run
from headway.engine.tool_failures import describe_error
from headway.errors import SetupError
from headway.log_lines import quiet_logger

logger = quiet_logger(__name__)

T = TypeVar("T")

LoopName = Literal["auto", "uvloop", "asyncio"]

LAST_TASKS_TIMEOUT: Final = 3.0
"""Seconds for tasks and threads that are left at the end."""

STOP_MOMENT: Final = 1.0
"""Seconds of these in which tasks have to end when they are cancelled."""


_left_open: Final[list[asyncio.Runner]] = []


def run_until_done(main: Callable[[], Coroutine[Any, Any, T]], *, loop: LoopName = "auto") -> T:
    """Run `main` to its end, whatever stops the loop on the way, and return its result.

    Tasks that are left in the loop then are cancelled. Those that do not end within
    `LAST_TASKS_TIMEOUT` seconds end with the process. Ctrl+C without a handler cancels `main`, as
    with `asyncio.run`.

    Raises:
        SetupError: There is no such loop here.
    """
    runner = asyncio.Runner(loop_factory=factory_of(loop))
    others = set(threading.enumerate())
    try:
        return _run_to_its_end(runner, main)
    finally:
        deadline = Deadline((LAST_TASKS_TIMEOUT, partial(exit_at_once, 1)))
        deadline.begin()
        _close_loop(runner, others)
        deadline.cancel()


def _run_to_its_end(runner: asyncio.Runner, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    loop = runner.get_loop()
    _tell_who_stops(loop)
    task = loop.create_task(main())
    while True:
        try:
            return runner.run(_join_threads(task))
        except BaseException as error:
            if loop.is_closed() or _is_ctrl_c(error):
                raise
            if task.done():  # it may have ended in the moment in which something stopped the loop
                return task.result()
            if isinstance(error, RuntimeError):
                logger.error("the event loop was stopped from inside; it goes on")
                continue
            text = "a task or a callback %s, which stopped the event loop; it goes on"
            logger.error(text, describe_error(error), exc_info=error)


def _is_ctrl_c(error: BaseException) -> bool:
    """Return whether Ctrl+C was pressed, and not the same exception raised by an author's code."""
    is_free = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    return isinstance(error, KeyboardInterrupt) and is_free


async def _join_threads(task: "asyncio.Task[T]") -> T:
    return await task


def _tell_who_stops(loop: asyncio.AbstractEventLoop) -> None:
    """Log the call whose code stops the loop."""
    stop = loop.stop

    def told() -> None:
        if (run := executing_run()) is not None:
            text = "run %s: %s stopped the event loop"
            logger.error(text, run.reference, run.request.name, stack_info=True)
        stop()

    setattr(loop, "stop", told)  # noqa: B010 - a method of this one loop


def _close_loop(runner: asyncio.Runner, others: set[threading.Thread]) -> None:
    """Cancel the tasks that are left, and close the loop unless that would wait for a thread.

    A loop that stays open is kept as long as the process, because that thread may call into it.
    """
    loop = runner.get_loop()
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    if left:
        with suppress(BaseException):  # nobody is there to get their results
            loop.run_until_complete(asyncio.wait(left, timeout=STOP_MOMENT))
    has_threads = any(not each.daemon for each in threading.enumerate() if each not in others)
    if asyncio.all_tasks(loop) or has_threads:
        _left_open.append(runner)
    else:
        runner.close()


# The choice of the loop


def factory_of(name: LoopName) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return the factory of the event loop of this name; None: asyncio's own.

    `auto` is uvloop where that is installed, unless something needs another one: the target has set
    a policy for event loops, or `nest_asyncio` is loaded, which cannot patch uvloop.

    Raises:
        SetupError: It is not installed.
    """
    is_there = importlib.util.find_spec("uvloop") is not None
    if name == "uvloop" and not is_there:
        raise SetupError("uvloop is not installed; leave --loop out, or write --loop asyncio")
    if name == "asyncio" or not is_there:
        return None
    if name == "auto" and (_has_policy() or _may_nest()):
        return None
    import uvloop

    return uvloop.new_event_loop


def _has_policy() -> bool:
    policy: object = getattr(asyncio.events, "_event_loop_policy", None)
    usual = getattr(asyncio, "DefaultEventLoopPolicy", None)
    return policy is not None and usual is not None and type(policy) is not usual


def _may_nest() -> bool:
    if importlib.util.find_spec("nest_asyncio") is None:
        return False
    logger.info("on asyncio's event loop: nest_asyncio is installed and cannot patch uvloop")
    return True
