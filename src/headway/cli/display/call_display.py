"""The display of a running call: on stderr, so that stdout has only the result.

A `Display` gets facts in the order in which they arrive. `Bar` draws them on a terminal, `Lines`
writes each on a line of its own for logs and pipes.
"""

import asyncio
import json
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TextIO

from headway.cli.display.printable import one_line, plain
from headway.cli.display.quantities import count

if TYPE_CHECKING:
    from collections.abc import Generator

    from mcp_types import LoggingMessageNotificationParams

    from headway.cli.display.progress_line import Ending

LINE_INTERVAL = 0.5
"""Seconds between two lines of progress."""

LONGEST_LINE = 160
"""Characters of a line of progress."""

PART = "headway.part"
"""The logger name under which Headway sends partial results."""


def log_line(logger: str | None, level: str, data: Any) -> str:
    """Return one log message or part as a line: `+ {…}` for a part, `warning: …` for a log."""
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    # What follows a line end of its own is not to look like another message.
    text = plain(text).replace("\n", "\n  ")
    return f"+ {text}" if logger == PART else f"{level}: {text}"


class Display(Protocol):
    """The display of one call; a context manager, shown while inside."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def progress(self, progress: float, total: float | None, message: str | None) -> None:
        """Show the newest progress."""
        ...

    def line(self, text: str) -> None:
        """Show a log message or a part, above the progress."""
        ...

    def part(self, text: str) -> None:
        """Show a part, above the progress."""
        ...

    def end(self, ending: "Ending") -> None:
        """Show how the call ended."""
        ...

    def aside(self) -> AbstractContextManager[None]:
        """Leave the terminal free while inside: a question is asked there."""
        ...


class CallObserver:
    """Shows a call on a display; its parts there, nowhere, or in a file."""

    def __init__(
        self,
        screen: Display,
        parts: str | None = None,
        write_part: Callable[[str], None] | None = None,
    ) -> None:
        """`parts` is `all`, `none`, None for what fits the display, or what `write_part` writes."""
        self.progress = screen.progress
        self._screen = screen
        self._is_shown = parts != "none" and write_part is None
        self._write_part = write_part

    def log(self, params: "LoggingMessageNotificationParams") -> None:
        """Show a log message or a part."""
        is_part = params.logger == PART
        if is_part and self._write_part is not None:
            self._write_part(json.dumps(params.data, ensure_ascii=False))
        elif not is_part:
            self._screen.line(log_line(params.logger, params.level, params.data))
        elif self._is_shown:
            self._screen.part(log_line(PART, params.level, params.data))


class Silence:
    """Shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    def progress(self, progress: float, total: float | None, message: str | None) -> None:
        """Show nothing of it."""

    def line(self, text: str) -> None:
        """Show nothing of it."""

    def part(self, text: str) -> None:
        """Show nothing of it."""

    def end(self, ending: "Ending") -> None:
        """Show nothing of it."""

    @contextmanager
    def aside(self) -> "Generator[None]":
        """Do nothing: lines need not be put aside."""
        yield


class Lines:
    """A line for every fact that says something new: `[ 37/120] Hashing setup.py`.

    Of the progress at most one line in `LINE_INTERVAL`, and always the last.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._last = ""
        self._waiting = ""
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._write_progress()

    def progress(self, progress: float, total: float | None, message: str | None) -> None:
        """Write the progress, unless it reads like the last: heartbeats change nothing."""
        of = count(total) if total is not None else ""
        number = f"{count(progress):>{len(of)}}/{of}" if of else count(progress)
        text = f"[{number}] {one_line(message or '')}".rstrip()
        self._waiting = text if len(text) <= LONGEST_LINE else f"{text[:LONGEST_LINE]}…"
        if self._timer is None:
            self._write_progress()
            with suppress(RuntimeError):  # without a loop nothing is put off
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(LINE_INTERVAL, self._write_late)

    def _write_late(self) -> None:
        self._timer = None
        self._write_progress()

    def _write_progress(self) -> None:
        if self._waiting and self._waiting != self._last:
            self._last = self._waiting
            self.line(self._waiting)

    def line(self, text: str) -> None:
        """Write `text`."""
        print(text, file=self._out, flush=True)

    part = line

    def end(self, ending: "Ending") -> None:
        """The result, or the reason why there is none, says it."""

    @contextmanager
    def aside(self) -> "Generator[None]":
        """Do nothing: lines need not be put aside."""
        yield


def display(
    title: str, *, quiet: bool = False, shows_all: bool = False, is_shared: bool = False
) -> Display:
    """Return the display that fits stderr: a bar on a terminal, lines elsewhere; or none.

    `shows_all`: a terminal shows all parts, and all of each. `is_shared`: something else is written
    to stderr too, and would tear a bar.
    """
    if quiet:
        return Silence()
    if is_shared or not sys.stderr.isatty() or os.environ.get("TERM") in ("dumb", "unknown"):
        return Lines(sys.stderr)
    from headway.cli.display.progress_bar import Bar

    return Bar(title, shows_all=shows_all)
