"""The logging of a serving process: lines on stderr, unless the server sets up its own.

The target wins. Its set-up (`basicConfig`, `dictConfig`, handlers, levels), when it is imported or
at any later time, works as if nothing had been set up before. Only records that it leaves without a
handler go to stderr. Our own handler is there from the beginning all the same, so that earlier
records are seen, and those of a server that sets up nothing.
"""

import inspect
import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Final, Literal

from headway.cli.log_output.json_format import JsonFormatter
from headway.cli.log_output.line_format import LineFormatter
from headway.cli.log_output.log_config import apply_log_config
from headway.cli.log_output.record_facts import name_runs_in_records, show_requests
from headway.engine import log_calls

LogForm = Literal["text", "json"]

QUIET_LOGGERS: Final = ("mcp", "uvicorn", "httpx2", "httpcore2", "asyncio")
"""Libraries that log at `info` what only their own authors want to know."""

OWN_LOGGERS: Final = ("headway", *QUIET_LOGGERS, "fastmcp")
"""Loggers that go on whatever a target switches off: they report the outcome of its calls."""

_SETS_UP_ITSELF: Final = ("mcp", "fastmcp")
"""Packages that set up logging unasked, with every server that is made."""


class StderrHandler(logging.Handler):
    """Writes records that no other handler takes to the present `sys.stderr`."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, unless another handler takes it."""
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


@dataclass(frozen=True, slots=True)
class LogOptions:
    """How the log is written, and what is in it besides."""

    form: LogForm = "text"
    has_access: bool = False
    """Whether there is a line for each HTTP request."""
    config: Path | None = None
    """A file that sets up logging instead."""


_FORM: Final = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"

_handler: Final = StderrHandler()
_handler.setFormatter(LineFormatter(_FORM))


def configure_logging(level: str, options: LogOptions | None = None, *, folds: bool = True) -> None:
    """Log at `level` and above on stderr; libraries from `warning` on, unless `level` is `debug`.

    Tracebacks leave out the frames that carry a call, unless `folds` is false or the level is
    `debug`. Call it before the target is loaded, and `check_log_setup` after that.

    Raises:
        SetupError: The file that sets up logging cannot be read, or is wrong.
    """
    options = options or LogOptions()
    number = logging.getLevelNamesMapping()[level.upper()]
    folds = folds and number > logging.DEBUG
    is_json = options.form == "json"
    _handler.setFormatter(
        JsonFormatter(folds=folds) if is_json else LineFormatter(_FORM, folds=folds)
    )
    name_runs_in_records()
    log_calls()
    _handle_root(number)
    if options.has_access:
        show_requests()
    if options.config is not None:
        apply_log_config(options.config)
        check_log_setup()


def _handle_root(number: int) -> None:
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
    """Switch our own loggers on again after the target's `dictConfig`, which disables them."""
    for name, logger in logging.root.manager.loggerDict.items():
        if isinstance(logger, logging.Logger) and name.partition(".")[0] in OWN_LOGGERS:
            logger.disabled = False


def _as_if_alone(basic_config: Callable[..., None]) -> Callable[..., None]:
    """Return a `basicConfig` that ignores our own handler: any other one makes it do nothing."""

    @wraps(basic_config)
    def set_up(**options: Any) -> None:
        root, frame = logging.getLogger(), inspect.currentframe()
        caller = frame.f_back.f_globals.get("__name__", "") if frame and frame.f_back else ""
        if caller.partition(".")[0] in _SETS_UP_ITSELF or _handler not in root.handlers:
            basic_config(**options)
            return
        root.removeHandler(_handler)
        if not root.handlers:
            root.setLevel(logging.WARNING)  # Python's default, where `options` do not name it
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
    """Return whether a handler writes records, and does not only watch them."""
    is_listener = getattr(handler, "only_listens", False)
    return not is_listener and not isinstance(handler, logging.NullHandler)
