"""The logging of a serving process: lines on stderr, unless the server sets up its own.

The target wins. What it sets up (`basicConfig`, `dictConfig`, handlers, levels), when it is
imported or at any time later, is as if nobody had set up anything before; only what it leaves
without a handler goes to stderr. Our own handler is there from the beginning all the same, so that
what is logged before, and by a server that sets up nothing, is seen.
"""

import inspect
import logging
import sys
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, Final

from headway.cli.log_output.line_format import LineFormatter
from headway.engine.run.run import executing_run

QUIET_LOGGERS: Final = ("mcp", "uvicorn", "httpx2", "httpcore2", "asyncio")
"""Libraries that say at `info` what only their own authors want to know."""

OWN_LOGGERS: Final = ("headway", *QUIET_LOGGERS, "fastmcp")
"""Loggers that go on whatever a target switches off: they say what became of its calls."""

_SETS_UP_ITSELF: Final = ("mcp", "fastmcp")
"""Packages that set up logging with every server that is made, without being asked."""


class StderrHandler(logging.Handler):
    """Writes what no other handler takes to stderr, as it is at the moment."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write it, unless somebody else takes it."""
        if any(
            _takes_records(handler) for handler in _handlers_of(record.name) if handler is not self
        ):
            return
        try:
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()
        except RecursionError:
            raise
        except Exception:  # noqa: BLE001 - as logging has it: a record breaks nothing
            self.handleError(record)


class _Formatter(LineFormatter):
    """Names the run that a record was made in, where it does not say so itself."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the first line."""
        line = super().formatMessage(record)
        run = executing_run()
        if run is None or run.reference in record.message:
            return line
        return f"{line} (run {run.reference})"


_FORM: Final = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"

_handler: Final = StderrHandler()
_handler.setFormatter(_Formatter(_FORM))


def configure_logging(level: str, *, folds: bool = True) -> None:
    """Log at `level` and above on stderr; libraries from `warning` on, unless it is `debug`.

    Tracebacks leave out what carries a call, unless `folds` is false or the level is `debug`.
    To be called before the target is loaded, and `reassure` after that.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    _handler.setFormatter(_Formatter(_FORM, folds=folds and number > logging.DEBUG))
    root = logging.getLogger()
    for handler in root.handlers[:]:
        root.removeHandler(handler)
    root.addHandler(_handler)
    root.setLevel(number)
    floor = number if number <= logging.DEBUG else max(number, logging.WARNING)
    for name in QUIET_LOGGERS:
        logging.getLogger(name).setLevel(floor)
    if not hasattr(logging.basicConfig, "__wrapped__"):
        logging.basicConfig = _as_if_alone(logging.basicConfig)


def check_log_setup() -> None:
    """Have our own loggers go on that the target's `dictConfig` switched off, as it does."""
    for name, logger in logging.root.manager.loggerDict.items():
        if isinstance(logger, logging.Logger) and name.partition(".")[0] in OWN_LOGGERS:
            logger.disabled = False


def _as_if_alone(basic_config: Callable[..., None]) -> Callable[..., None]:
    """`basicConfig`, which does nothing where there is a handler, without looking at ours."""

    @wraps(basic_config)
    def set_up(**options: Any) -> None:
        root, frame = logging.getLogger(), inspect.currentframe()
        caller = frame.f_back.f_globals.get("__name__", "") if frame and frame.f_back else ""
        if caller.partition(".")[0] in _SETS_UP_ITSELF or _handler not in root.handlers:
            basic_config(**options)
            return
        root.removeHandler(_handler)
        if not root.handlers:
            root.setLevel(logging.WARNING)  # as Python has it, where `options` say nothing
        try:
            basic_config(**options)
        finally:
            root.addHandler(_handler)

    return set_up


def _handlers_of(name: str) -> Iterator[logging.Handler]:
    logger: logging.Logger | None = logging.getLogger(name)
    while logger is not None:
        yield from logger.handlers
        logger = logger.parent if logger.propagate else None


def _takes_records(handler: logging.Handler) -> bool:
    """Return whether a handler is where records go, and not one that only listens."""
    is_listener = getattr(handler, "only_listens", False)
    return not is_listener and not isinstance(handler, logging.NullHandler)
