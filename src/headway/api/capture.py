"""Output of a tool's libraries as output of the run: records of `logging`, bars of `tqdm`.

Both are captured only where the author asks for it, and only from the code of that run: a context
variable tells which run a record or a bar belongs to, so that runs side by side do not mix.
"""

import importlib
import inspect
import logging
import threading
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from headway.api.output import log
from headway.engine import ToolRun, current_run
from headway.engine.run.progress_pacing import as_finite
from headway.engine.run.stages import Items, Node, current_node, innermost_node
from headway.errors import RunCancelled
from headway.log_lines import every_handler

# Records


@dataclass(slots=True)
class _Capture:
    names: tuple[str, ...]
    level: int
    run: ToolRun | None
    is_over: bool = False


_captures: ContextVar[tuple[_Capture, ...]] = ContextVar("headway_captures", default=())

OWN_LOGGERS = ("headway", "mcp", "uvicorn", "asyncio", "anyio")
"""Loggers of the server itself: captured only when they are named."""

_LEVELS = (
    (logging.CRITICAL, "critical"),
    (logging.ERROR, "error"),
    (logging.WARNING, "warning"),
    (logging.INFO, "info"),
)


@contextmanager
def capture_logging(
    *loggers: str | logging.Logger, level: int | str = logging.INFO
) -> Generator[None]:
    """Turn records of `logging` into log messages of the run, while inside.

    Captured are the loggers given and those below them; without any, all but those of the server
    itself. Records below `level` are left alone. Records of other runs are not captured, nor those
    of a thread that was started without the context (`asyncio.to_thread` copies it,
    `threading.Thread` does not). A traceback is not sent. Other handlers get the same records as
    before: a logger that would not make records of `level` has its own level lowered meanwhile, but
    only this capture sees the additional ones.

    Raises:
        ValueError: `level` is no level of `logging`.
    """
    number = logging.getLevelNamesMapping().get(level, -1) if isinstance(level, str) else level
    if number < 0:
        raise ValueError(f"level {level!r} is none of {', '.join(logging.getLevelNamesMapping())}")
    capture = _Capture(tuple(map(_logger_name, loggers)) or ("",), number, current_run.get())
    before = _captures.get()
    _captures.set((*before, capture))
    _HANDLERS.add_capture(capture)
    try:
        yield
    finally:
        capture.is_over = True
        _HANDLERS.remove_capture(capture)
        _captures.set(before)


class _ToRun(logging.Handler):
    """Passes a record to the run that it was made for, if that run captures it."""

    only_listens = True
    """Read by code that checks whether a record is written anywhere."""

    def emit(self, record: logging.LogRecord) -> None:
        last = logging.lastResort
        if last is not None and record.levelno >= last.level and _is_alone(record):
            last.handle(record)
        captures, run = _captures.get(), current_run.get()
        if not any(each.run is run and _wants_record(each, record) for each in captures):
            return
        _captures.set(())  # records that `log` itself makes are not captured
        try:
            log(_message_text(record), _level_of(record.levelno), logger=record.name)
        except Exception:  # noqa: BLE001 - as logging has it: a record breaks nothing
            self.handleError(record)
        finally:
            _captures.set(captures)


def _logger_name(logger: str | logging.Logger) -> str:
    if isinstance(logger, str):
        return logger
    return "" if logger is logging.getLogger() else logger.name


def _message_text(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - arguments that do not fit are its author's mistake
        return str(record.msg)


def _wants_record(capture: _Capture, record: logging.LogRecord) -> bool:
    if capture.is_over or record.levelno < capture.level:
        return False
    if any(name and _is_below(record.name, name) for name in capture.names):
        return True
    return "" in capture.names and not any(_is_below(record.name, name) for name in OWN_LOGGERS)


def _is_below(name: str, parent: str) -> bool:
    return name == parent or name.startswith(f"{parent}.")


def _level_of(number: int) -> str:
    return next((level for least, level in _LEVELS if number >= least), "debug")


def _loggers_of(name: str) -> Iterator[logging.Logger]:
    """Return the loggers whose handlers get a record of `name`."""
    logger = logging.getLogger(name)
    while logger is not None:
        yield logger
        logger = logger.parent if logger.propagate else None


def _is_alone(record: logging.LogRecord) -> bool:
    """Return whether no other handler takes the record: `logging` would print it on stderr then."""
    return not any(
        handler for each in _loggers_of(record.name) for handler in each.handlers
        if not isinstance(handler, _ToRun)
    )  # fmt: skip


class _Handlers:
    """The handler on each logger that is captured, and the levels that the loggers had before."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._levels: dict[str, tuple[int, int]] = {}
        """For each logger, its level before and the one that it was given."""
        self._handler = _ToRun()

    def add_capture(self, capture: _Capture) -> None:
        with self._lock:
            for handler in _all_handlers():
                handler.addFilter(self._was_heard)
            for name in capture.names:
                logger = logging.getLogger(name)
                self._counts[name] += 1
                if self._counts[name] == 1:
                    logger.addHandler(self._handler)
                if logger.getEffectiveLevel() > capture.level:
                    before, _ = self._levels.get(logger.name, (logger.level, 0))
                    given = max(capture.level, 1)  # level 0 would mean: as the logger above
                    self._levels[logger.name] = before, given
                    logger.setLevel(given)

    def remove_capture(self, capture: _Capture) -> None:
        with self._lock:
            for name in capture.names:
                self._counts[name] -= 1
                if not self._counts[name]:
                    del self._counts[name]
                    logger = logging.getLogger(name)
                    logger.removeHandler(self._handler)
                    before, given = self._levels.pop(logger.name, (0, -1))
                    if logger.level == given:  # otherwise other code has set it meanwhile
                        logger.setLevel(before)
            if not self._counts:
                for handler in _all_handlers():
                    handler.removeFilter(self._was_heard)

    def _was_heard(self, record: logging.LogRecord) -> bool:
        """Return whether the record would have been made without a lowered level."""
        logger: logging.Logger | None = logging.getLogger(record.name)
        while logger is not None:
            level, given = self._levels.get(logger.name, (logger.level, logger.level))
            level = level if logger.level == given else logger.level
            if level:
                return record.levelno >= level
            logger = logger.parent
        return True


def _all_handlers() -> list[logging.Handler]:
    """Return all handlers of all loggers, except our own."""
    return [handler for handler in every_handler() if not isinstance(handler, _ToRun)]


_HANDLERS = _Handlers()


# Bars


class _Bars:
    """The bars of one capture."""

    def __init__(self, run: ToolRun) -> None:
        self.run = run
        self.nodes: dict[int, _Bar] = {}
        """The bars that are open."""
        self.is_over = False


_bars: ContextVar[_Bars | None] = ContextVar("headway_bars", default=None)


@contextmanager
def capture_tqdm() -> Generator[None]:
    """Turn bars of `tqdm` into progress of the run, while inside; nothing is drawn.

    A bar is a track like any other: bars one after the other add up, one inside another shares its
    item, and stages around them count. Its description is the message. Bars that are switched off
    (`disable=True`), bars of other runs, and bars that a thread makes without the context are drawn
    as ever. Without tqdm, and outside a run, nothing happens.

    A sync tool that was cancelled stops at the next step of a bar.
    """
    run = current_run.get()
    try:
        kind = importlib.import_module("tqdm.std").tqdm
    except ImportError:
        kind = None
    if run is None or kind is None:
        yield
        return
    bars, before, outside = _Bars(run), _bars.get(), current_node.get()
    _PATCH.patch_class(kind)
    _bars.set(bars)
    try:
        yield
    finally:
        bars.is_over = True
        _bars.set(before)
        current_node.set(outside)
        for node in list(bars.nodes.values()):
            node.close(full=False)
        _PATCH.restore_class(kind)


class _Bar(Items):
    """A bar of tqdm as a track of the run."""

    __slots__ = ("bars", "words")

    def __init__(self, parent: Node, bars: _Bars, size: object) -> None:
        super().__init__(parent, None, None, as_finite(size))
        self.bars = bars
        self.words = ""
        # Not the bar itself: it closes when nothing refers to it any more.

    @property
    def is_full(self) -> bool:
        """True when all its items are done; some bars are never closed."""
        return self.size is not None and self.done >= self.size

    def own_message(self) -> str | None:
        """Return the text of the bar without its description, which is the name of the track."""
        return self.words or None

    def take_state(self, bar: Any) -> None:
        """Take over the state of the bar; never raise, since tqdm holds a lock for all bars."""
        with suppress(Exception, RunCancelled):
            self.size = as_finite(bar.total)
            done = as_finite(bar.n) or 0
            if done != self.done:
                self.done = done
                self.begin_item(None)
            self.name = bar.desc.removesuffix(": ") or None
            self.words = " · ".join(filter(None, (_bar_amount(bar), str(bar.postfix or ""))))
            self.root.newest = self
            if not self.root.pending:
                self.bars.run.output.write_sample()


class _Nowhere:
    """The file that a captured bar is drawn to: it drops everything."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        pass


class _Patch:
    """A patch of methods of tqdm's class while anything captures bars.

    The class itself is patched, so that it does not matter how tqdm was imported.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._original: dict[str, Any] = {}

    def patch_class(self, kind: Any) -> None:
        ours = {
            "__init__": _init_bar,
            "display": _display_bar,
            "update": _update_bar,
            "close": _close_bar,
        }
        with self._lock:
            self._count += 1
            if self._count == 1:
                # As they are in the class: its `__init__` is more than a function there.
                self._original = {name: vars(kind)[name] for name in ours}
                for name, method in ours.items():
                    setattr(kind, name, _wrap_method(method, getattr(kind, name)))

    def restore_class(self, kind: Any) -> None:
        with self._lock:
            self._count -= 1
            if not self._count:
                for name, method in self._original.items():
                    setattr(kind, name, method)


_PATCH = _Patch()


def _wrap_method(ours: Any, original: Any) -> Any:
    def method(bar: Any, *args: Any, **kwargs: Any) -> Any:
        return ours(original, bar, *args, **kwargs)

    return method


def _init_bar(original: Any, bar: Any, *args: Any, **kwargs: Any) -> None:
    bars = _bars.get()
    if bars is None or bars.is_over or bars.run is not current_run.get():
        original(bar, *args, **kwargs)
        return
    given = inspect.signature(original).bind_partial(bar, *args, **kwargs)
    given.arguments["file"] = _Nowhere()
    # None is: not where nobody looks at the terminal.
    given.arguments["disable"] = bool(given.arguments.get("disable"))
    original(*given.args, **given.kwargs)
    if bar.disable:
        return
    root = bars.run.output.open_stages()
    parent: Node = innermost_node(root) or root
    while isinstance(parent, _Bar) and parent.is_full and parent.parent is not None:
        parent = parent.parent
    node = bar.headway_node = _Bar(parent, bars, bar.total)
    bars.nodes[id(node)] = node
    node.open()
    current_node.set(node)
    node.take_state(bar)


def _display_bar(original: Any, bar: Any, *args: Any, **kwargs: Any) -> Any:
    node: _Bar | None = getattr(bar, "headway_node", None)
    if node is None:
        return original(bar, *args, **kwargs)
    if not node.closed:
        node.take_state(bar)
    return True


def _update_bar(original: Any, bar: Any, *args: Any, **kwargs: Any) -> Any:
    shown = original(bar, *args, **kwargs)
    node: _Bar | None = getattr(bar, "headway_node", None)
    if node is not None and not node.bars.is_over:
        node.bars.run.output.check_not_stopped()
    return shown


def _close_bar(original: Any, bar: Any, *args: Any, **kwargs: Any) -> Any:
    node: _Bar | None = getattr(bar, "headway_node", None)
    if node is not None and not node.closed:
        node.take_state(bar)
        node.close(full=node.size is None or node.is_full)
        node.bars.nodes.pop(id(node), None)
        if current_node.get() is node:
            current_node.set(node.parent)
        with suppress(RunCancelled):
            node.bars.run.output.write_sample()
    return original(bar, *args, **kwargs)


def _bar_amount(bar: Any) -> str:
    def shown(number: Any) -> str:
        if bar.unit_scale:
            return str(bar.format_sizeof(number, bar.unit.strip(), bar.unit_divisor))
        return f"{number:,}"

    return shown(bar.n) if bar.total is None else f"{shown(bar.n)} of {shown(bar.total)}"
