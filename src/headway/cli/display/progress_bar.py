"""The live bar of a call, drawn with Rich on stderr."""

import asyncio
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.text import Text

from headway.cli.display.part_lines import PartLines, cut_line, fold_lines
from headway.cli.display.printable import one_line
from headway.cli.display.progress_line import ASCII, UNICODE, CallProgress, Ending, ProgressLine
from headway.cli.exit_codes import Cancelled, Left

REDRAWS = 10
"""Redraws a second: smooth to the eye, and nothing to a slow terminal."""


class _Drawing(Live):
    """A live picture that is not drawn anew in the middle of a print.

    Rich draws it in a thread of its own. A print first says how many rows the picture has that it
    takes away: one that is drawn between that and the print would stay on the screen.
    """

    def __init__(self, renderable: RenderableType, lock: threading.RLock, console: Console) -> None:
        self._printing = lock
        super().__init__(
            renderable,
            console=console,
            refresh_per_second=REDRAWS,
            redirect_stdout=False,
            vertical_overflow="crop",
        )

    def refresh(self) -> None:
        """Draw the picture anew, unless a print is under way: that draws it itself."""
        # Never wait here: Rich's thread has a lock of Rich's, for which the print may wait.
        if self._printing.acquire(blocking=False):
            try:
                super().refresh()
            finally:
                self._printing.release()


class Bar:
    """One line for the progress, below the parts and the log messages."""

    def __init__(
        self,
        title: str,
        console: Console | None = None,
        *,
        shows_all: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`shows_all`: parts are neither cut nor left out."""
        self._console = console or Console(stderr=True)
        self._clock = clock
        self._shows_all = shows_all
        now = clock()
        self._progress = CallProgress(self._writable(one_line(title)), now)
        self._parts = PartLines(now)
        self._glyphs = ASCII if self._console.options.ascii_only else UNICODE
        self._line = ProgressLine(self._glyphs)
        self._drawing = threading.RLock()
        self._live = self._new_live()
        self._lines: list[str] = []
        self._printing: asyncio.TimerHandle | None = None

    def _new_live(self) -> Live:
        return _Drawing(self, self._drawing, self._console)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the bar, and the newest of the parts that are left out."""
        width = options.max_width
        left_out = [] if self._progress.ending else self._parts.pending()
        rows = [Text(self._cut(text, width), style="dim", no_wrap=True) for text in left_out]
        yield Group(*rows, self._line.draw(self._progress, width, self._clock()))

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lines += [self._cut(line, self._console.width) for line in self._parts.flush()]
        self._print_lines()
        self.end(_ending_of(error))
        # A bar that never moved says nothing worth keeping on the screen.
        self._live.transient = not self._progress.is_seen
        self._live.stop()

    def progress(self, progress: float, total: float | None, message: str | None) -> None:
        """Move the bar; a message stays until the next one."""
        text = self._writable(one_line(message)) if message else None
        self._progress.advance(progress, total, text, self._clock())

    def end(self, ending: Ending) -> None:
        """Show how the call ended."""
        self._progress.end(ending, self._clock())

    def line(self, text: str) -> None:
        """Print `text` above the bar, with the next redraw.

        Each print draws the bar anew: a print for each of thousands of parts would leave the
        progress far behind.
        """
        self._lines += fold_lines(self._writable(text), self._console.width)
        self._print_soon()

    def part(self, text: str) -> None:
        """Print a part above the bar: cut to the width, and left out where there are too many."""
        if self._shows_all:
            self.line(text)
            return
        lines = self._parts.offer(self._writable(text), self._clock())
        self._lines += [self._cut(line, self._console.width) for line in lines]
        self._print_soon()

    def _cut(self, text: str, width: int) -> str:
        return cut_line(self._writable(text), width, self._glyphs.more)

    def _writable(self, text: str) -> str:
        """Return a text with an escape for what the terminal's encoding lacks, as it is written."""
        encoding = self._console.encoding
        return text.encode(encoding, "backslashreplace").decode(encoding)

    def _print_soon(self) -> None:
        if self._lines and self._printing is None:
            loop = asyncio.get_running_loop()
            self._printing = loop.call_later(1 / REDRAWS, self._print_lines)

    def _print_lines(self) -> None:
        if self._printing is not None:
            self._printing.cancel()
            self._printing = None
        if self._lines:
            text = "\n".join(self._lines)
            self._lines.clear()
            with self._drawing:
                self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def aside(self) -> Generator[None]:
        """Take the bar off the screen while other output uses it."""
        self._print_lines()
        self._live.stop()
        try:
            yield
        finally:
            self._live = self._new_live()
            self._live.start()


def _ending_of(error: BaseException | None) -> Ending:
    match error:
        case None:
            return Ending.DONE
        case Left():
            return Ending.LEFT
        case Cancelled() | asyncio.CancelledError() | KeyboardInterrupt():
            return Ending.CANCELLED
        case _:
            return Ending.FAILED
