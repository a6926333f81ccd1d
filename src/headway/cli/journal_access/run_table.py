"""Runs as a table, as wide as the terminal, and as rows for programs."""

import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from headway.cli.display.printable import one_line
from headway.cli.display.quantities import time_taken
from headway.cli.journal_access.user_journals import shown_journal

if TYPE_CHECKING:
    from headway.protocol.run_for_people import RunSummary

HEADER = ("RUN", "STARTED", "TOOK", "STATE", "TOOL", "WHO", "PROGRESS/ERROR")
SERVER_COLUMN = 5
GAP = "  "
LEAST_LAST = 20
"""Columns that the last cell has at least, however narrow the terminal is."""

WIDEST_CELL = 24
"""Columns of every other cell, where a person reads it."""


class ListedRun(NamedTuple):
    """A run, and where it is."""

    run: "RunSummary"
    url: str
    """The URL of its journal."""


def table_lines(rows: Sequence[ListedRun], now: float, width: int | None) -> list[str]:
    """Return a header and a line for each run; cut to `width` columns where it is given."""
    cells: list[list[str]] = [[*HEADER], *(_cells_of(row, now) for row in rows)]
    servers = [server_of(row) for row in rows]
    if len(set(servers)) > 1:
        for line, server in zip(cells, ["SERVER", *servers], strict=True):
            line.insert(SERVER_COLUMN, server)
    cells = [[one_line(cell) or "-" for cell in line[:-1]] + [one_line(line[-1])] for line in cells]
    return _aligned(cells, width)


def stdout_width() -> int | None:
    """Return the columns of the terminal that stdout is; None where a program reads it."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def row_of(listed: ListedRun, now: float) -> dict[str, Any]:
    """Return all that is known of a run, as JSON has it."""
    from headway.protocol.tasks import iso_time

    run = listed.run
    row: dict[str, Any] = {"run": run.run, "reference": run.reference, **asdict(run)}
    for name in ("stream", "follows", "times"):
        del row[name]
    for name, moment in run.times._asdict().items():
        row[name] = None if moment is None else iso_time(moment)
    seconds = run.seconds_at(now)
    row["state"] = run.state.value
    row["seconds"] = None if seconds is None else round(seconds, 3)
    row["server"], row["journal"] = server_of(listed), shown_journal(listed.url)
    return row


def server_of(listed: ListedRun) -> str:
    """Return the name of a run's server, as far as it is known."""
    own = Path(shown_journal(listed.url))
    # The directory is named after the target, and a digest of it.
    by_name = own.parent.name.rpartition("-")[0] if own.name == "journal.db" else ""
    return listed.run.server or by_name or "-"


def who_of(run: "RunSummary") -> str:
    """Return who called a run, for people."""
    from headway.protocol.run_for_people import who_text

    return who_text(run.caller, run.client)


def time_text(seconds: float | None, now: float) -> str:
    """Return a time as a clock on the wall shows it; with the date where that is another day."""
    if seconds is None:
        return "-"
    then, today = (datetime.fromtimestamp(each, UTC).astimezone() for each in (seconds, now))
    same_day = then.date() == today.date()
    return f"{then:%H:%M:%S}" if same_day else f"{then:%Y-%m-%d %H:%M}"


def progress_text(run: "RunSummary") -> str:
    """Return how far a run is: `3/6 Hashing setup.py`."""
    if run.progress is None:
        return run.message or ""
    total = "" if run.total is None else f"/{_number_text(run.total)}"
    return f"{_number_text(run.progress)}{total} {run.message or ''}".rstrip()


def _number_text(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else f"{value:g}"


def _cells_of(listed: ListedRun, now: float) -> list[str]:
    run = listed.run
    return [
        run.reference,
        time_text(run.times.accepted, now),
        time_taken(run.seconds_at(now)),
        run.state.value,
        run.tool or run.method,
        who_of(run),
        run.error or progress_text(run),
    ]


def _aligned(cells: Iterable[Sequence[str]], width: int | None) -> list[str]:
    from rich.cells import cell_len

    lines = [list(line) for line in cells]
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)][:-1]
    if width is not None:
        widths = [min(size, WIDEST_CELL) for size in widths]
    texts: list[str] = []
    for line in lines:
        start = GAP.join([*map(_fit_cell, line, widths), ""])
        last = line[-1]
        room = None if width is None else max(LEAST_LAST, width - cell_len(start))
        if room is not None and cell_len(last) > room:
            last = _fit_cell(last, room)
        texts.append((start + last).rstrip())
    return texts


def _fit_cell(text: str, size: int) -> str:
    """Return a text with spaces up to `size` columns, or cut to them."""
    from rich.cells import cell_len, set_cell_size

    return (
        set_cell_size(text, size) if cell_len(text) <= size else set_cell_size(text, size - 1) + "…"
    )
