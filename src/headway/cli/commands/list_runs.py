"""`headway runs` and `headway cancel`: what goes on in a journal, and stopping it.

Both work on the journal, so they reach the runs of every process that shares it.
"""

import asyncio
import json
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import unquote

import typer

from headway.cli.commands.list_tools import Output
from headway.cli.display.printable import one_line
from headway.cli.exit_codes import Refused, report_line
from headway.cli.options import own_directory
from headway.errors import HeadwayError, JournalUnavailable, SetupError
from headway.streams import RUN_STREAMS, call_of, is_for_workers, run_id_of

if TYPE_CHECKING:
    from headway.events import Entry
    from headway.journal import Journal

JournalUrl = Annotated[
    str | None,
    typer.Option(
        "--journal",
        envvar="HEADWAY_JOURNAL",
        metavar="URL",
        help="The journal to look into: sqlite:///relative.db, sqlite:////absolute.db or "
        "redis://host:6379. "
        "Default: those of all servers in the user's data directory.",
    ),
]
RunId = Annotated[
    str, typer.Argument(metavar="RUN", help="The id of a run, or its beginning, or its reference.")
]
Reason = Annotated[str, typer.Option(help="What the client is told.")]


def runs(
    journal: JournalUrl = None,
    every: Annotated[bool, typer.Option("--all", help="Also those that have ended.")] = False,
    output: Output = "text",
) -> None:
    """List the tool calls that go on, whichever process executes them."""
    rows = asyncio.run(_list_runs(journal, every=every))
    if output == "json":
        print(json.dumps(rows))
    elif rows:
        print("\n".join(_line(row) for row in rows))
    else:
        print("no runs", file=sys.stderr)


def cancel(
    run: RunId, journal: JournalUrl = None, reason: Reason = "cancelled by the operator"
) -> None:
    """Stop a run, whichever process executes it; its client is told."""
    asyncio.run(_cancel_run(journal, run, reason))
    print(f"{run}: asked to stop")


async def _list_runs(url: str | None, *, every: bool) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for place in _journal_urls(url):
        async with _opened_journal(place) as journal:
            for stream in await journal.streams(RUN_STREAMS, unfinished=not every):
                try:
                    entries = await _entries_of(journal, stream)
                    if entries and not _is_a_workers(entries):
                        rows.append(_make_row(stream, entries))
                except JournalUnavailable:
                    raise
                except HeadwayError as error:  # of one run: the others are listed all the same
                    report_line(f"a run cannot be listed: {error}")
    return rows


async def _cancel_run(url: str | None, wanted: str, reason: str) -> None:
    from headway.engine import send_control
    from headway.events import CancelRequested

    found: list[tuple[str, str]] = []
    for place in _journal_urls(url):
        async with _opened_journal(place) as journal:
            streams = await journal.streams(RUN_STREAMS, unfinished=True)
        meant = [stream for stream in streams if _is_meant(stream, wanted)]
        # Of the two runs of a call for a worker the other one only repeats the worker's.
        calls = {call_of(stream): stream for stream in sorted(meant, key=is_for_workers)}
        found += [(place, stream) for stream in calls.values()]
    if len(found) != 1:
        what = "no run that goes on" if not found else f"{len(found)} runs"
        raise Refused(f"{wanted!r} names {what}; see headway runs")
    ((place, stream),) = found
    async with _opened_journal(place) as journal:
        await send_control(journal, stream, CancelRequested("operator", reason))


def _is_meant(stream: str, wanted: str) -> bool:
    run = run_id_of(stream)
    return len(wanted) >= 4 and (run.startswith(wanted) or run[8:16] == wanted)


def _journal_urls(url: str | None) -> list[str]:
    """Return the journals to look into.

    Raises:
        SetupError: There is none.
    """
    if url is None:
        files = sorted(own_directory("").parent.glob("*/journal.db"))
        return [f"sqlite:///{file}" for file in files]
    scheme, _, path = url.partition(":///")
    if url.startswith("memory:"):
        raise SetupError("what is in a memory: journal only its own process can see")
    if scheme == "sqlite" and not Path(unquote(path)).exists():
        raise SetupError(f"there is no journal {path}")
    return [url]


@asynccontextmanager
async def _opened_journal(url: str) -> "AsyncGenerator[Journal]":
    from headway.journal import open_journal

    async with open_journal(url) as journal:
        yield journal


async def _entries_of(journal: "Journal", stream: str) -> "list[Entry]":
    from headway.errors import StreamNotFound

    try:
        return await journal.read_all_kept(stream)
    except StreamNotFound:  # it expired in this moment
        return []


def _is_a_workers(entries: "list[Entry]") -> bool:
    """Return whether it only repeats what a worker does, which is listed itself."""
    from headway.events import Accepted

    first = entries[0].event
    return isinstance(first, Accepted) and is_for_workers(first.follows)


def _make_row(stream: str, entries: "list[Entry]") -> dict[str, Any]:
    from headway.run_state import view_of

    view, run = view_of(entries), run_id_of(stream)
    return {
        "run": run,
        "reference": run[8:16],
        "state": view.state.value,
        "tool": view.target,
        "progress": view.progress,
        "total": view.total,
        "message": view.message,
        "attempt": view.attempt,
        "seconds": round(time() - entries[0].time, 1),
    }


def _line(row: dict[str, Any]) -> str:
    amount = ""
    if row["progress"] is not None:
        total = "" if row["total"] is None else f"/{row['total']:g}"
        amount = f"{row['progress']:g}{total}"
    words = [row["run"], row["state"], row["tool"] or "-", f"{row['seconds']:.0f} s", amount]
    # A name of a tool is what a client has asked for, a message what a tool has been told.
    return "  ".join(map(one_line, filter(None, [*words, row["message"]])))
