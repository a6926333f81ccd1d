"""The end of a process: in order where that is possible, and in time in any case."""

import atexit
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final, NoReturn

from headway.cli.exit_codes import report_line
from headway.cli.log_output.unblocked_output import drain_output

Step = tuple[float, Callable[[], object]]
"""A step of a deadline: after how many seconds, and what is done then."""

MOMENT: Final = 0.5
"""Seconds for output to be written, when nothing reads it."""

_ending = threading.RLock()
"""Held by the thread that ends the process. Reentrant: a signal handler may end it, too."""

EXIT_FUNCTIONS: Final = 5.0
"""Seconds that functions get which were registered for the exit (`atexit`)."""


class Deadline:
    """Takes its steps, one after the other, unless the process ends before.

    A thread, because the event loop may be what hangs. It can be begun in a signal handler.
    """

    def __init__(self, *steps: Step) -> None:
        self._steps = steps
        self._lock = threading.RLock()  # a signal handler may run in between
        self._is_running = False
        self._is_over = threading.Event()

    def begin(self) -> None:
        """Begin to count; from any thread, and as often as the end is noticed."""
        with self._lock:
            if not self._is_running:
                self._is_running = True
                threading.Thread(
                    target=self._end_at_deadline, name="headway-deadline", daemon=True
                ).start()

    def cancel(self) -> None:
        """Cancel the deadline: all has ended in time."""
        self._is_over.set()

    def _end_at_deadline(self) -> None:
        begun = time.monotonic()
        for after, step in self._steps:
            if self._is_over.wait(max(0.0, begun + after - time.monotonic())):
                return
            step()


def give_up(limit: float) -> NoReturn:
    """Log that an orderly end took longer than `limit` seconds, and end the process."""
    report_line(f"something did not end within {limit:g} s; the process ends without it")
    exit_at_once(1)


def exit_at_once(code: int) -> NoReturn:
    """Write what was printed, and end the process without anything else."""
    drain_output(MOMENT)
    _end_process(code)


def leave_process(code: int) -> NoReturn:
    """Exit with `code` here and now, after the functions that were registered for an exit.

    A thread of a tool that hangs is not waited for: all that must be kept is in the journal by now.
    The interpreter is not finalized either: that takes a quarter of a second of a processor, no
    deadline ends it, and a `__del__` may hang in it.
    """
    _flush_output()
    Deadline((EXIT_FUNCTIONS, partial(_end_process, code))).begin()
    run_exit_functions = getattr(atexit, "_run_exitfuncs", None)
    if run_exit_functions is not None:
        with suppress(BaseException):  # their exceptions were written to stderr
            run_exit_functions()
    _flush_output()
    exit_at_once(code)


def _end_process(code: int) -> NoReturn:
    """End the process in one thread only, whichever comes first.

    What replaces `os._exit` to save something (coverage.py does) need not stand two threads in it.
    """
    with _ending:
        os._exit(code)


def _flush_output() -> None:
    for stream in (sys.stdout, sys.stderr):
        # The stream is gone, or was closed from the beginning.
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
