"""`headway runs`: the tool calls in a journal, whichever process executes or has executed them."""

import asyncio
import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from time import time
from typing import TYPE_CHECKING, Annotated

import typer

from headway.cli.commands.list_tools import Output
from headway.cli.exit_codes import report_line
from headway.cli.journal_access.read_runs import (
    RunChanges,
    RunFilter,
    newest_runs,
    with_beginnings,
)
from headway.cli.journal_access.run_table import ListedRun, row_of, stdout_width, table_lines
from headway.cli.journal_access.user_journals import JournalUrl, OpenJournals
from headway.cli.options import DURATION, duration

if TYPE_CHECKING:
    from headway.journal import Journal

LOOK_INTERVAL = 1.0
"""Seconds between two looks with `--follow`."""


def runs(
    journal: JournalUrl = None,
    every: Annotated[bool, typer.Option("--all", help="Also those that have ended.")] = False,
    failed: Annotated[
        bool, typer.Option("--failed", help="Those that failed or were interrupted.")
    ] = False,
    tool: Annotated[str | None, typer.Option(metavar="NAME", help="Calls of this tool.")] = None,
    since: Annotated[
        float | None,
        typer.Option(
            parser=duration,
            metavar=DURATION,
            help="Those that began within this time, also where they have ended: 90s, 2h, 24h.",
        ),
    ] = None,
    who: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Calls of callers or clients with this in their name."),
    ] = None,
    limit: Annotated[
        int,
        typer.Option(
            min=1, help="How many, the newest first; with --follow in a pipe, how many at first."
        ),
    ] = 50,
    follow: Annotated[
        bool,
        typer.Option(
            "--follow",
            "--watch",
            "-f",
            help="Go on until Ctrl+C: on a terminal the list is kept up to date, elsewhere a run "
            "is printed again whenever its state is another.",
        ),
    ] = False,
    output: Output = "text",
) -> None:
    """List tool calls, newest first: when, how long, how they stand, whose, and why they failed.

    Those that go on, unless --all, --failed or --since asks for more.
    """
    wanted = RunFilter(
        every=every or failed or since is not None,
        is_failed=failed,
        tool=tool,
        since=None if since is None else time() - since,
        who=who,
        limit=limit,
    )
    if follow:
        asyncio.run(_follow(journal, wanted, output))
        return
    rows = asyncio.run(_list_once(journal, wanted))
    if output == "json":
        print(json.dumps([row_of(row, time()) for row in rows]))
    elif rows:
        print("\n".join(table_lines(rows, time(), stdout_width())))
    else:
        ended = "" if wanted.every else "; --all lists those that have ended, too"
        report_line(f"no runs{ended}")


async def _list_once(url: str | None, wanted: RunFilter) -> list[ListedRun]:
    async with OpenJournals(url) as journals:
        return await newest_in_all(journals, wanted)


async def newest_in_all(journals: OpenJournals, wanted: RunFilter) -> list[ListedRun]:
    """Return the rows of all journals, newest first."""

    async def look(place: str, journal: "Journal") -> list[tuple[float, ListedRun]]:
        runs = await newest_runs(journal, wanted)
        return [(began, ListedRun(run, place)) for began, run in with_beginnings(runs)]

    rows = [row for some in await journals.ask_each(look) for row in some]
    rows.sort(key=lambda row: row[0], reverse=True)
    return [row for _, row in rows[: wanted.limit]]


async def _follow(url: str | None, wanted: RunFilter, output: str) -> None:
    """Show the list again and again, until Ctrl+C."""
    async with OpenJournals(url) as journals:
        if output == "text" and sys.stdout.isatty():
            await _redraw(journals, wanted)
        else:
            await _print_changes(journals, wanted, output)


async def _print_changes(journals: OpenJournals, wanted: RunFilter, output: str) -> None:
    """Print each run when it begins, and whenever its state is another."""
    changes = defaultdict[str, RunChanges](lambda: RunChanges(wanted))

    async def look(place: str, journal: "Journal") -> list[ListedRun]:
        return [ListedRun(run, place) for run in await changes[place].look(journal)]

    while True:
        news = [row for some in await journals.ask_each(look) for row in some]
        for line in _lines_for(news, output):
            print(line, flush=True)
        await asyncio.sleep(LOOK_INTERVAL)


def _lines_for(rows: list[ListedRun], output: str) -> Iterator[str]:
    if output == "json":
        yield from (json.dumps(row_of(row, time())) for row in rows)
    elif rows:
        yield from table_lines(rows, time(), None)[1:]


async def _redraw(journals: OpenJournals, wanted: RunFilter) -> None:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console()
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            rows = (await newest_in_all(journals, wanted))[: max(1, console.height - 1)]
            lines = table_lines(rows, time(), console.width) if rows else ["no runs"]
            live.update(Text("\n".join(lines), no_wrap=True), refresh=True)
            await asyncio.sleep(LOOK_INTERVAL)
