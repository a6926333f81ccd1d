"""The live bar of a call, drawn with Rich on stderr."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Column
from rich.text import Text

from headway.cli.display.call_display import count
from headway.cli.display.printable import one_line, plain

REDRAWS = 10
"""Redraws a second: smooth to the eye, and nothing to a slow terminal."""


class _Amount(ProgressColumn):
    def render(self, task: Task) -> Text:
        if not task.fields["seen"]:
            return Text("")
        of = f"/{count(task.total)}" if task.total is not None else ""
        return Text(f"{count(task.completed)}{of}", style="progress.download")


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f}/s" if speed else "", style="progress.data.speed")


class _Left(ProgressColumn):
    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        left = task.time_remaining
        if task.finished or left is None:
            return Text("")
        minutes, seconds = divmod(int(left), 60)
        hours, minutes = divmod(minutes, 60)
        return Text(f"{hours}:{minutes:02}:{seconds:02} left", style="progress.remaining")


class Bar:
    """Message, bar, amount, rate, time so far and time left; it pulses without a total."""

    def __init__(self, title: str, console: Console | None = None) -> None:
        self._progress = Progress(
            SpinnerColumn(finished_text="✓"),
            TextColumn(
                "{task.description}",
                markup=False,
                table_column=Column(ratio=2, no_wrap=True, overflow="ellipsis"),
            ),
            BarColumn(bar_width=None, table_column=Column(ratio=1)),
            _Amount(),
            _Rate(),
            TimeElapsedColumn(),
            _Left(),
            console=console or Console(stderr=True),
            refresh_per_second=REDRAWS,
            redirect_stdout=False,
            expand=True,
        )
        self._task = self._progress.add_task(plain(title), total=None, seen=False)
        self._lines: list[str] = []
        self._printing: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._print_line()
        if not self._progress.tasks[0].fields["seen"]:
            # A bar that never moved says nothing worth keeping on the screen.
            self._progress.live.transient = True
        self._progress.stop()

    def progress(self, progress: float, total: float | None, message: str | None) -> None:
        """Move the bar; a message stays until the next one."""
        self._progress.update(self._task, total=total, completed=progress, seen=True)
        if message:
            self._progress.update(self._task, description=one_line(message))

    def line(self, text: str) -> None:
        """Print `text` above the bar, with the next redraw.

        Each print draws the bar anew: a print for each of thousands of parts would leave the
        progress far behind.
        """
        self._lines.append(text)
        if self._printing is None:
            loop = asyncio.get_running_loop()
            self._printing = loop.call_later(1 / REDRAWS, self._print_line)

    def _print_line(self) -> None:
        if self._printing is not None:
            self._printing.cancel()
            self._printing = None
        if self._lines:
            text = "\n".join(self._lines)
            self._lines.clear()
            self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def aside(self) -> Generator[None]:
        """Take the bar off the screen while somebody else uses it."""
        self._print_line()
        self._progress.stop()
        try:
            yield
        finally:
            self._progress.start()
