"""Threads of an author's code: which run they work for, and a warning where that is unknown.

A thread starts without context variables, and so without a current run. A function that is given
to a pool works for the run that gives it: the run is carried along. A thread that a tool starts
itself may be the tool's, or it may work for all calls from then on. A guess could show one caller
the data of another, so its output is dropped, with a warning that says what to do.
"""

import inspect
import os
import sys
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import update_wrapper
from multiprocessing.pool import ThreadPool
from typing import Any, Final

from headway.engine.author_frames import frames_from, is_headways, line_of
from headway.engine.run.cancellation import is_shielded
from headway.engine.run.current_run import ToolRun, current_run, is_muted
from headway.engine.run.stages import current_node
from headway.events import Log, encode_json
from headway.log_lines import quiet_logger

logger = quiet_logger(__name__)

MOST_WARNED_LINES: Final = 1000
"""Lines of code for which a warning is remembered as given."""

_POOL_METHODS: Final = (
    "apply_async", "map", "map_async", "starmap", "starmap_async", "imap", "imap_unordered",
)  # fmt: skip

_POOLS: Final = ("anyio", "concurrent.futures", "multiprocessing")
"""Packages whose threads work for the caller of the pool, not for the code that started them."""

working_runs: set[ToolRun] = set()
"""The runs that this process executes at the moment."""

_warned_lines: set[str] = set()
_warned_runs: "weakref.WeakSet[ToolRun]" = weakref.WeakSet()
_is_forked = False


class _Carried:
    """A function with the current run, stage and shield of the code that gave it to a pool."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._values = (current_run.get(), current_node.get(), is_shielded.get())
        update_wrapper(self, function, updated=())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        run, node, shielded = self._values
        tokens = current_run.set(run), current_node.set(node), is_shielded.set(shielded)
        try:
            return self._function(*args, **kwargs)
        finally:
            current_run.reset(tokens[0])
            current_node.reset(tokens[1])
            is_shielded.reset(tokens[2])


def carry_runs() -> None:
    """Patch Python's thread pools so that they carry the current run along; once per process.

    `ThreadPoolExecutor`, which `run_in_executor`, boto3 and others use, and the `ThreadPool` of
    `multiprocessing`, which joblib uses. Without a current run they behave as before.
    """
    if hasattr(ThreadPoolExecutor.submit, "__wrapped__"):
        return
    setattr(ThreadPoolExecutor, "submit", _carry_run(ThreadPoolExecutor.submit))  # noqa: B010
    for name in _POOL_METHODS:
        setattr(ThreadPool, name, _carry_run(getattr(ThreadPool, name)))
    setattr(threading.Thread, "start", _note_run(threading.Thread.start))  # noqa: B010
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_forget_runs)


def _carry_run(method: Callable[..., Any]) -> Callable[..., Any]:
    def submit_carried(pool: Any, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        if current_run.get() is not None:
            function = _Carried(function)
            for name in ("callback", "error_callback"):
                if callable(kwargs.get(name)):
                    kwargs[name] = _Carried(kwargs[name])
        return method(pool, function, *args, **kwargs)

    return update_wrapper(submit_carried, method)


def _note_run(start: Callable[[threading.Thread], None]) -> Callable[[threading.Thread], None]:
    def start_noted(thread: threading.Thread) -> None:
        run = current_run.get()
        if run is not None and not _is_of_pool(thread):
            _started_in[thread] = weakref.ref(run)
        start(thread)

    return update_wrapper(start_noted, start)


_started_in: "weakref.WeakKeyDictionary[threading.Thread, weakref.ref[ToolRun]]"
_started_in = weakref.WeakKeyDictionary()
"""The threads that code of a run has started itself, and that run."""


def _is_of_pool(thread: threading.Thread) -> bool:
    target = getattr(thread, "_target", None)  # Python's own name: there is no other way
    return any(
        str(getattr(each, "__module__", "")).startswith(_POOLS)
        for each in (type(thread), target)
        if each is not threading.Thread
    )


def _forget_runs() -> None:
    """Forget all runs: in a forked process nothing reads their events."""
    global _is_forked
    _is_forked = True
    current_run.set(None)
    working_runs.clear()


def warn_unheard(what: str) -> None:
    """Warn that a call of the function `what` has no effect, where that is a mistake.

    The warning goes to the run whose code started this thread, once, and to the log, once for each
    line of code. If no tool is executed at all it goes to the log, once for each function.
    """
    if _is_forked:
        _warn_once(what, "in a forked process", "use in_process(), which brings back what is said")
        return
    if is_muted.get():
        return
    if not working_runs:
        _warn_outside(what)
        return
    thread = threading.current_thread()
    reference = _started_in.get(thread)
    run = None if reference is None else reference()
    where = f"in the thread {thread.name!r}"
    if run is None or run.ended:
        _warn_once(what, where, _ADVICE)
    elif run not in _warned_runs:
        _warned_runs.add(run)
        text = f"{what} {where} is not heard: {_ADVICE}"
        run.output.emit_event(Log("warning", encode_json(text), "headway"))
        _warn_once(what, where, _ADVICE)


def warn_unused(what: str, advice: str) -> None:
    """Log, once for each line of code, that what a function returned was thrown away unused."""
    if current_run.get() is not None and not is_muted.get() and not sys.is_finalizing():
        _warn_once(what, "whose result is not used", advice)


_ADVICE: Final = (
    "nobody can tell which call it works for. Start a thread with the context of the call, "
    "Thread(target=contextvars.copy_context().run, args=(function, ...)), or use a "
    "ThreadPoolExecutor, which needs nothing"
)


_OUTSIDE: Final = (
    "%s was called outside of a run, so nobody hears it. In a tool that is served by something "
    "else than Headway: serve it with `headway run FILE:NAME`, headway.run(mcp) or "
    "headway.asgi(mcp). In a test: use headway.testing.run_tool, or record()"
)

_warned_functions: Final[set[str]] = set()


def _warn_outside(what: str) -> None:
    if what not in _warned_functions:
        _warned_functions.add(what)
        logger.warning(_OUTSIDE, what)


def _warn_once(what: str, where: str, advice: str) -> None:
    frames = frames_from(inspect.currentframe())
    caller = next((each for each in frames if not is_headways(each.f_code.co_filename)), None)
    place = line_of(caller)
    if place not in _warned_lines and len(_warned_lines) < MOST_WARNED_LINES:
        _warned_lines.add(place)
        logger.warning("%s at %s %s is not heard: %s", what, place, where, advice)
