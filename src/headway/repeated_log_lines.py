"""Log lines that clients can cause at will, held to one a second of each kind.

A kind is a message of the source before its arguments are filled in, or for an exception the place
that raised it. So there are few kinds whatever clients send, and two different faults do not hide
each other. Lines that are left out are counted, and the count is logged a second later.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from headway.log_lines import QuietLogger

LINE_INTERVAL: Final = 1.0
"""Seconds between two lines of one kind."""

_ROUNDING: Final = 0.01

_MOST_KINDS: Final = 1000

CLIENT_DRIVEN_LOGGERS: Final = (
    "headway.engine.workers.dispatch",
    "headway.engine.engine",
    "headway.engine.submit",
    "headway.transport.messages_2025",
    "headway.transport.hand_over",
    "headway.transport.sdk",
    "headway.transport.stdio.endpoint",
    "mcp.server.mcpserver.server",
    "mcp.server.runner",
    "fastmcp.server.server",
    "fastmcp.tools.base",
)
"""Loggers with a line, or a traceback, that any client can cause at will."""


class _Kind:
    """The lines of one kind: how many are allowed, and the last one that was left out."""

    __slots__ = ("allowed", "at", "is_due", "last", "left_out", "said")

    def __init__(self, allowed: float, now: float) -> None:
        self.allowed = allowed
        self.at = now
        self.said = now
        self.left_out = 0
        self.last: logging.LogRecord | None = None
        self.is_due = False
        """Whether a timer will log how many were left out."""


class LineLimit(logging.Filter):
    """Lets `burst` lines of a kind through at once, and one a second from then on."""

    def __init__(self, burst: int = 1) -> None:
        super().__init__()
        self._burst = burst
        self._kinds: dict[tuple[object, ...], _Kind] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is logged; one that is left out is counted."""
        now = time.monotonic()
        kind = self._kind_of(record, now)
        kind.allowed = min(self._burst, kind.allowed + (now - kind.at) / LINE_INTERVAL)
        kind.at = now
        if kind.allowed >= 1:
            kind.allowed -= 1
            self._add_count(record, kind)
            return True
        kind.left_out += 1
        kind.last = record
        if not kind.is_due:
            with suppress(RuntimeError):  # no loop runs in this thread: the next line has the count
                asyncio.get_running_loop().call_later(LINE_INTERVAL, self._report_left_out, kind)
                kind.is_due = True
        return False

    def _kind_of(self, record: logging.LogRecord, now: float) -> _Kind:
        name = (record.name, record.levelno, _place_of(record) or str(record.msg))
        if name not in self._kinds:
            if len(self._kinds) >= _MOST_KINDS:
                self._kinds.clear()
            self._kinds[name] = _Kind(self._burst, now)
        return self._kinds[name]

    def _report_left_out(self, kind: _Kind) -> None:
        """Log the last line that was left out, with the number of all of them."""
        record, early = kind.last, kind.said + LINE_INTERVAL - time.monotonic()
        kind.is_due = False
        if record is None:
            return
        if early > _ROUNDING:  # a line was logged meanwhile, with the count of those before it
            asyncio.get_running_loop().call_later(early, self._report_left_out, kind)
            kind.is_due = True
            return
        kind.left_out -= 1
        self._add_count(record, kind)
        kind.at, kind.allowed = kind.said, 0
        logging.getLogger(record.name).callHandlers(record)

    def _add_count(self, record: logging.LogRecord, kind: _Kind) -> None:
        if kind.left_out:
            record.msg = f"{record.msg} (and {kind.left_out} more like this before)"
        kind.left_out, kind.last, kind.said = 0, None, time.monotonic()


def limit_lines(*names: str) -> None:
    """Hold the lines of these loggers: ten of a kind at once, then one a second.

    It is for loggers of other libraries, and for tracebacks, whose author wants to see the first
    ones. A logger that was held before is not held twice.
    """
    for name in names:
        logging.getLogger(name).addFilter(_TRACEBACKS)


_TRACEBACKS: Final = LineLimit(burst=10)


def limited_logger(name: str) -> QuietLogger:
    """Return a logger of that name whose lines go the same way, one a second of each kind."""
    own = logging.Logger(name)  # noqa: LOG001 - its limit is of one server, not of the name
    own.parent = logging.getLogger(name)
    own.addFilter(LineLimit())
    return QuietLogger(own)


RecordRefusal = Callable[[int, str | None, str, str | None], None]
"""Takes the status of a refusal, the setting of its limit, the reason, and the client's address."""

_TOLD_STATUSES: Final = (401, 403, 421, 429, 503)


class RefusalLog:
    """Tells of refused requests at `info`, one line a second for each status and limit.

    The log has what the operator decides on: who may call, from where, and how much. What is wrong
    with the form of a request is told to its client. `record`, where there is an audit log, is
    called with each of all.
    """

    def __init__(self, record: "RecordRefusal | None" = None) -> None:
        self._logger = limited_logger("headway.refusals")
        self._record = record

    def tell(self, status: int, limit: str | None, why: str, address: str | None = None) -> None:
        """Log a refusal: `limit` is the setting that it was for, if it was for one.

        `address` is the client's, where the request itself was not read.
        """
        self.record(status, limit, why, address)
        if limit is None and status not in _TOLD_STATUSES:
            return
        # The text without its blanks is what makes a kind, so it names both.
        kind = f"a request was refused with {status}" + (f" ({limit})" if limit else "")
        self._logger.info(f"{kind}: %s", why)  # noqa: G004

    def record(self, status: int, limit: str | None, why: str, address: str | None = None) -> None:
        """Write a refusal into the audit log alone, where there is one."""
        if self._record is not None:
            self._record(status, limit, why, address)


def _place_of(record: logging.LogRecord) -> object:
    """Return the place that raised the exception of a record; None where there is none."""
    trace = record.exc_info[2] if record.exc_info else None
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace and (trace.tb_frame.f_code.co_filename, trace.tb_lineno)
