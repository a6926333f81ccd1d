"""`headway show`: one run, with all that its journal says of it."""

import asyncio
import json
import sys
from collections.abc import Iterator
from time import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headway.cli.commands.list_tools import Output
from headway.cli.display.call_display import PART, log_line
from headway.cli.display.printable import one_line, plain
from headway.cli.display.quantities import time_taken
from headway.cli.display.result_text import asks_for_input
from headway.cli.journal_access.find_run import FoundRun, RunId, find_run
from headway.cli.journal_access.run_table import (
    ListedRun,
    progress_text,
    row_of,
    server_of,
    time_text,
    who_of,
)
from headway.cli.journal_access.user_journals import JournalUrl, opened_journal, shown_journal

if TYPE_CHECKING:
    from headway.cli.journal_access.whole_run import WholeRun

SHOWN_PARTS = 10
"""Parts that a person is shown, the newest; likewise log messages."""


def show(
    run: RunId,
    journal: JournalUrl = None,
    arguments: Annotated[
        bool,
        typer.Option(
            "--arguments",
            help="Also the values of the arguments, where the journal has them: of calls that may "
            "be executed again, and of those for workers.",
        ),
    ] = False,
    output: Output = "text",
) -> None:
    """Show a run: state, times, caller, progress, parts, logs, error and result.

    With --output json all of its parts and log messages.
    """
    found, whole = asyncio.run(_read_run(journal, run))
    if output == "json":
        print(json.dumps(_as_json(found, whole, with_values=arguments)))
    else:
        print("\n".join(_lines(found, whole, with_values=arguments)))


async def _read_run(url: str | None, wanted: str) -> "tuple[FoundRun, WholeRun]":
    from headway.cli.journal_access.whole_run import read_whole_run

    found = await find_run(url, wanted)
    async with opened_journal(found.url) as journal:
        return found, await read_whole_run(journal, found.stream)


def _as_json(found: FoundRun, whole: "WholeRun", *, with_values: bool) -> dict[str, Any]:
    from headway.protocol.tasks import iso_time

    row = row_of(ListedRun(whole.summary, found.url), time())
    if with_values:
        row["arguments"] = whole.arguments
    logs = [
        {
            "time": iso_time(each.time),
            "level": each.level,
            "logger": each.logger,
            "data": each.data,
        }
        for each in whole.logs
    ]
    return {**row, "error": whole.error, "parts": whole.parts, "logs": logs, "result": whole.result}


def _lines(found: FoundRun, whole: "WholeRun", *, with_values: bool) -> Iterator[str]:
    facts = dict(facts_of(found, whole))
    width = max(map(len, facts))
    for name, text in facts.items():
        yield f"{name:<{width}}  {one_line(text)}"
    if with_values:
        yield from _argument_lines(whole)
    yield from _newest("Parts", [log_line(PART, "", part) for part in whole.parts])
    now = time()
    yield from _newest(
        "Logs",
        [f"{time_text(m.time, now)} {log_line(m.logger, m.level, m.data)}" for m in whole.logs],
    )
    if whole.error is not None:
        yield from ("Error", _indented(whole.error))
    elif whole.result is not None:
        title = "Asks for input" if asks_for_input(whole.result) else "Result"
        yield from (title, _indented(text_of_result(whole.result)))


def facts_of(found: FoundRun, whole: "WholeRun") -> Iterator[tuple[str, str]]:
    """Yield what is known of a run, each with its name, for people."""
    run, now = whole.summary, time()
    listed = ListedRun(run, found.url)
    yield "Run", f"{run.reference}  {run.run}"
    yield "Tool", run.tool or run.method or "-"
    yield "State", run.state.value
    yield "Caller", who_of(run)
    yield "Server", f"{server_of(listed)}, journal {shown_journal(found.url)}"
    yield "Accepted", _moment(run.times.accepted, now)
    yield "Started", _moment(run.times.started, now)
    yield "Ended", _moment(run.times.ended, now)
    yield "Took", time_taken(run.seconds_at(now)) + ("" if run.times.ended else " so far")
    if run.attempt not in (None, 1):
        yield "Attempt", str(run.attempt)
    yield "Progress", progress_text(run) or "-"
    yield "Arguments", ", ".join(run.arguments) or "-"


def _moment(seconds: float | None, now: float) -> str:
    if seconds is None:
        return "-"
    return f"{time_text(seconds, now)}, {time_taken(max(0.0, now - seconds))} ago"


def _argument_lines(whole: "WholeRun") -> Iterator[str]:
    yield "Values of the arguments"
    if whole.arguments is None:
        yield "  not in the journal: it has those of calls that may be executed again"
    else:
        yield _indented(json.dumps(whole.arguments, indent=2))


def _newest(title: str, lines: list[str]) -> Iterator[str]:
    if lines:
        left_out = len(lines) - SHOWN_PARTS
        more = f", the newest {SHOWN_PARTS}" if left_out > 0 else ""
        yield f"{title} ({len(lines)}{more})"
        yield from map(_indented, lines[-SHOWN_PARTS:])


def text_of_result(result: dict[str, Any]) -> str:
    """Return what a result says: its text, else its structured content, else all of it.

    One that asks for input has no content, and neither have those of other methods than calls.
    """
    content: list[Any] | None = result.get("content")
    if not isinstance(content, list):
        return json.dumps(result.get("inputRequests", result), indent=2)
    texts = [block["text"] for block in content if block.get("type") == "text"]
    if texts and len(texts) == len(content):
        return "\n".join(texts)
    return json.dumps(result.get("structuredContent", content), indent=2)


def _indented(text: str) -> str:
    shown = plain(text) if sys.stdout.isatty() else text
    return "\n".join(f"  {line}" for line in shown.splitlines())
