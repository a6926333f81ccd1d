"""The display of a running call: on stderr, so that stdout has only the result.

A `Display` is told facts in the order they arrive. `Bar` draws them on a terminal, `Lines`
writes each on a line of its own for logs and pipes.
"""

import json
import sys
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TextIO

from headway.cli.display.printable import one_line, plain

if TYPE_CHECKING:
    from collections.abc import Generator

PART = "headway.part"
"""The logger name under which Headway sends partial results."""


def count(value: float) -> str:
    """Return a progress value as people write it: `37`, `37.5`."""
    return f"{value:.1f}".removesuffix(".0")


def log_line(logger: str | None, level: str, data: Any) -> str:
    """Return one log message or part as a line: `+ {…}` for a part, `warning: …` for a log."""
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    # What follows a line end of its own is not to look like another message.
    text = plain(text).replace("\n", "\n  ")
    return f"+ {text}" if logger == PART else f"{level}: {text}"


class Display(Protocol):
    """Somewhere to show a call; a context manager, shown while inside."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def progress(self, progress: float, total: float | None, message: str | None) -> None:
        """The newest progress."""
        ...

    def line(self, text: str) -> None:
        """A log message or a part, above the progress."""
        ...

    def aside(self) -> AbstractContextManager[None]:
        """While inside, the terminal is somebody else's: a question is being asked."""
        ...


class Lines:
    """A line for every fact that says something new: `[ 37/120] Hashing setup.py`."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._last = ""

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
        """Write the progress, unless it reads like the last: heartbeats change nothing."""
        of = count(total) if total is not None else ""
        number = f"{count(progress):>{len(of)}}/{of}" if of else count(progress)
        text = f"[{number}] {one_line(message or '')}".rstrip()
        if text != self._last:
            self._last = text
            self.line(text)

    def line(self, text: str) -> None:
        """Write `text`."""
        print(text, file=self._out, flush=True)

    @contextmanager
    def aside(self) -> "Generator[None]":
        """Nothing to put aside."""
        yield


def display(title: str) -> Display:
    """Return the display that fits stderr: a bar on a terminal, lines elsewhere."""
    if not sys.stderr.isatty():
        return Lines(sys.stderr)
    from headway.cli.display.bar import Bar

    return Bar(title)
