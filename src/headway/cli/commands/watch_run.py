"""`headway watch`, `result` and `logs`: a run from any terminal, over its journal, to its end."""

import asyncio
import json
from collections.abc import Coroutine
from time import time
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from headway.cli.commands.list_tools import Output
from headway.cli.display.result_text import call_result, check_result, print_kept_result
from headway.cli.exit_codes import Cancelled, ToolFailed
from headway.cli.journal_access.find_run import RunId, find_run
from headway.cli.journal_access.run_table import progress_text, time_text
from headway.cli.journal_access.user_journals import JournalUrl, opened_journal
from headway.errors import StreamNotFound

if TYPE_CHECKING:
    from headway.cli.display.call_display import Display
    from headway.events import Entry, Event
    from headway.journal import Journal

T = TypeVar("T")


def watch(run: RunId, journal: JournalUrl = None) -> None:
    """Show the progress of a run as `headway call` does, until it ends.

    It ends as that call ends: 0 with a result, which `headway result RUN` prints; 1 without.
    Ctrl+C stops the watching, and not the run.
    """
    _to_its_end(_watch_run(journal, run))


def result(
    run: RunId,
    journal: JournalUrl = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for the end of a run that goes on.")
    ] = False,
    output: Output = "text",
) -> None:
    """Print the result of a run on stdout, as `headway call` would have."""
    print_kept_result(_to_its_end(_read_result(journal, run, wait=wait)), output)


def logs(
    run: RunId,
    journal: JournalUrl = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the run ends.")
    ] = False,
    output: Output = "text",
) -> None:
    """Print the log messages of a run."""
    _to_its_end(_print_logs(journal, run, follow=follow, output=output))


def _to_its_end(work: Coroutine[Any, Any, T]) -> T:
    try:
        return asyncio.run(work)
    except KeyboardInterrupt as error:
        raise Cancelled("stopped watching; the run is left as it is") from error


async def _watch_run(url: str | None, wanted: str) -> None:
    from headway.cli.display.call_display import display
    from headway.cli.journal_access.read_runs import read_summary
    from headway.cli.journal_access.whole_run import (
        check_ended_well,
        follow_entries,
        read_result,
    )

    found = await find_run(url, wanted)
    async with opened_journal(found.url) as journal:
        run = await read_summary(journal, found.stream)
        with display(f"{run.tool or run.method} {run.reference}") as screen:
            end: Event | None = None
            async for entry in follow_entries(journal, found.stream):
                end = entry.event
                _show_entry(screen, entry)
            if end is None:
                raise StreamNotFound(found.stream)
            check_ended_well(end)
            kept = call_result(await read_result(journal, found.stream, end) or {})
            if kept is not None:
                check_result(kept)


def _show_entry(screen: "Display", entry: "Entry") -> None:
    from headway.cli.display.call_display import PART, log_line
    from headway.events import Log, Part, Progress, decode_json
    from headway.protocol.run_for_people import without_nudges

    match entry.event:
        case Progress(progress, total, message):
            screen.progress(without_nudges(progress), total, message)
        case Log(level, data, logger):
            screen.line(log_line(logger, level, decode_json(data)))
        case Part(value):
            screen.part(log_line(PART, "info", decode_json(value)))
        case _:
            pass


async def _read_result(url: str | None, wanted: str, *, wait: bool) -> dict[str, Any]:
    from headway.cli.journal_access.whole_run import check_ended_well, read_result

    found = await find_run(url, wanted)
    async with opened_journal(found.url) as journal:
        end = await _end_of(journal, found.stream, wait=wait)
        check_ended_well(end)
        return await read_result(journal, found.stream, end) or {}


async def _end_of(journal: "Journal", stream: str, *, wait: bool) -> "Event":
    from headway.cli.journal_access.read_runs import read_summary
    from headway.cli.journal_access.whole_run import follow_entries

    run = await read_summary(journal, stream)
    if run.times.ended is None and not wait:
        progress = progress_text(run)
        how = f"{run.state.value}, {progress}" if progress else run.state.value
        raise ToolFailed(f"{run.reference} has not ended ({how}); --wait waits for it")
    head, end = await journal.head(stream), None
    async for entry in follow_entries(journal, stream, after=head.last - 1 if head else 0):
        end = entry.event
    if end is None:
        raise StreamNotFound(stream)
    return end


async def _print_logs(url: str | None, wanted: str, *, follow: bool, output: str) -> None:
    from headway.cli.journal_access.whole_run import follow_entries
    from headway.events import Log

    found = await find_run(url, wanted)
    async with opened_journal(found.url) as journal:
        last = await journal.head(found.stream)
        async for entry in follow_entries(journal, found.stream):
            if isinstance(entry.event, Log):
                print(_log_text(entry, output), flush=True)
            if not follow and last is not None and entry.seq >= last.last:
                return


def _log_text(entry: "Entry", output: str) -> str:
    from headway.cli.display.call_display import log_line
    from headway.cli.journal_access.whole_run import logged_message
    from headway.protocol.tasks import iso_time

    message = logged_message(entry)
    if output == "json":
        moment = {"time": iso_time(message.time)}
        known = {"level": message.level, "logger": message.logger, "data": message.data}
        return json.dumps(moment | known)
    text = log_line(message.logger, message.level, message.data)
    return f"{time_text(message.time, time())} {text}"
