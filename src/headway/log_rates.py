"""Log lines that clients can cause at will, held to one a second of each kind.

A kind is a sentence of the source with its blanks unfilled, or where an exception is logged the
place that raised it: so there are few of them whatever clients send, and two different faults do
not hide each other. What was left out is counted, and the count is told a second later.
"""

import asyncio
import logging
import time
from contextlib import suppress
from typing import Final

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
"""Loggers that have a line, or a traceback, for what any client can ask for at will."""


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
        """Whether a timer will tell what was left out."""


class LineLimit(logging.Filter):
    """Lets `burst` lines of a kind through at once, and one a second from then on."""

    def __init__(self, burst: int = 1) -> None:
        super().__init__()
        self._burst = burst
        self._kinds: dict[tuple[object, ...], _Kind] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is said; one that is not is counted."""
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
            with suppress(RuntimeError):  # no loop runs in this thread: the next line tells
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
        """Say the last line that was left out, with the number of them all."""
        record, early = kind.last, kind.said + LINE_INTERVAL - time.monotonic()
        kind.is_due = False
        if record is None:
            return
        if early > _ROUNDING:  # a line was said meanwhile, and told of those before it
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

    For those of other libraries, and for tracebacks, whose author wants to see the first ones. A
    logger that was held before is not held twice.
    """
    for name in names:
        logging.getLogger(name).addFilter(_TRACEBACKS)


_TRACEBACKS: Final = LineLimit(burst=10)


def limited_logger(logger: logging.Logger) -> logging.Logger:
    """Return a logger of that name whose lines go the same way, one a second of each kind."""
    own = logging.Logger(logger.name)  # noqa: LOG001 - its limit is of one server, not of the name
    own.parent = logger
    own.addFilter(LineLimit())
    return own


def _place_of(record: logging.LogRecord) -> object:
    """Return where the exception of a record was raised; None where there is none."""
    trace = record.exc_info[2] if record.exc_info else None
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace and (trace.tb_frame.f_code.co_filename, trace.tb_lineno)
