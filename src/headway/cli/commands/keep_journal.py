"""`headway journal info`, `backup` and `prune`: a journal as something to be looked after."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import unquote

import typer

from headway.cli.commands import journal_key
from headway.cli.commands.list_tools import Output
from headway.cli.exit_codes import Refused, report_line
from headway.cli.journal_access.user_journals import (
    JournalUrl,
    journal_urls,
    opened_journal,
    shown_journal,
)
from headway.cli.options import DURATION, duration_or_zero
from headway.errors import HeadwayError
from headway.stream_names import (
    KEY_STREAMS,
    RUN_STREAMS,
    SESSION_STREAMS,
    checkpoint_stream,
    inbox_stream,
    result_stream,
)

if TYPE_CHECKING:
    from headway.journal import Journal

DROPPED_AT_ONCE = 200
"""Runs that are dropped with one question."""

app = typer.Typer(
    help="Look after journals: what is in them, a copy, room, keys.", no_args_is_help=True
)
app.command("key")(journal_key.key)


@app.command()
def info(journal: JournalUrl = None, output: Output = "text") -> None:
    """Say where journals are, how large, and what is in them."""
    facts: list[dict[str, Any]] = []
    for url in journal_urls(journal):
        try:
            facts.append(asyncio.run(_facts_of(url)))
        except HeadwayError as error:
            if journal is not None:
                raise
            report_line(str(error))  # the others are told all the same
    if output == "json":
        print(json.dumps(facts))
    elif facts:
        print("\n\n".join("\n".join(_fact_lines(each)) for each in facts))
    else:
        report_line("no journals")


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The new file to write.")],
    journal: JournalUrl = None,
) -> None:
    """Copy a SQLite journal to FILE, also while servers write it."""
    from headway.journal.sqlite.backup import back_up_file

    path = _path_of(_the_journal(journal))
    if path is None:
        raise Refused("a journal in Redis is backed up with Redis: BGSAVE, or its append-only file")
    print(f"{file}: {size_text(back_up_file(path, file))}")


@app.command()
def prune(
    journal: JournalUrl = None,
    older_than: Annotated[
        float | None,
        typer.Option(
            parser=duration_or_zero,
            metavar=DURATION,
            help="Also drop runs that ended longer ago than this: 1h, 24h. Default: what has "
            "expired.",
        ),
    ] = None,
) -> None:
    """Drop what has expired, and give the disk back what is not used; keys are kept."""
    url = _the_journal(journal)
    dropped = asyncio.run(_prune_journal(url, older_than))
    print(f"{shown_journal(url)}: {dropped} runs dropped")
    path = _path_of(url)
    if path is not None:
        from headway.journal.sqlite.backup import shrink_file

        if not shrink_file(path):
            report_line("others use the file: it gets smaller when none does")


def _the_journal(url: str | None) -> str:
    """Return the one journal that is meant.

    Raises:
        Refused: There are several, or none.
    """
    urls = journal_urls(url)
    if len(urls) != 1:
        names = "".join(f"\n  --journal {each}" for each in urls)
        what = f"there are several journals; say which:{names}" if urls else "there is no journal"
        raise Refused(what)
    return urls[0]


def _path_of(url: str) -> Path | None:
    scheme, _, path = url.partition(":///")
    return Path(unquote(path)) if scheme == "sqlite" else None


async def _facts_of(url: str) -> dict[str, Any]:
    from headway.journal.sqlite.backup import size_on_disk
    from headway.protocol.tasks import iso_time

    path = _path_of(url)
    async with opened_journal(url) as journal:
        runs = await journal.streams(RUN_STREAMS)
        oldest = await _oldest_of(journal, runs)
        facts: dict[str, Any] = {
            "journal": shown_journal(url),
            "bytes": await journal.count_bytes(),
            "runs": len(runs),
            "unfinished": len(await journal.streams(RUN_STREAMS, unfinished=True)),
            "sessions": len(await journal.streams(SESSION_STREAMS, unfinished=True)),
            "keys": await journal.count_streams(KEY_STREAMS),
            "oldest": None if oldest is None else iso_time(oldest),
        }
    if path is not None:
        facts["file_bytes"], facts["log_bytes"] = size_on_disk(path)
    return facts


async def _oldest_of(journal: "Journal", runs: Sequence[str]) -> float | None:
    """Return when the oldest run began; the first ones may expire now, or have lost their start."""
    from headway.cli.journal_access.read_runs import READ_AT_ONCE, read_or_report

    for stream in runs[:READ_AT_ONCE]:
        run = await read_or_report(journal, stream)
        if run is not None and run.times.accepted is not None:
            return run.times.accepted
    return None


def _fact_lines(facts: dict[str, Any]) -> list[str]:
    lines = [f"Journal   {facts['journal']}"]
    if "file_bytes" in facts:
        size, log = size_text(facts["file_bytes"]), size_text(facts["log_bytes"])
        lines.append(f"On disk   {size}, and {log} of write-ahead log")
    oldest = f", the oldest from {facts['oldest']}" if facts["oldest"] else ""
    return [
        *lines,
        f"Held      {size_text(facts['bytes'])}",
        f"Runs      {facts['runs']}, of which {facts['unfinished']} go on{oldest}",
        f"Sessions  {facts['sessions']}",
        f"Keys      {facts['keys']}",
    ]


def size_text(size: float) -> str:
    """Return a number of bytes as people write it."""
    for unit in ("B", "kB", "MB"):
        if round(size, 1) < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


async def _prune_journal(url: str, older_than: float | None) -> int:
    """Return how many runs were dropped: by their names, for others begin meanwhile."""
    now = time()
    async with opened_journal(url) as journal:
        before = set(await journal.streams(RUN_STREAMS))
        await journal.prune()
        if older_than is not None:
            async for streams in _ended_before(journal, now - older_than):
                await journal.prune(streams)
        return len(before.difference(await journal.streams(RUN_STREAMS)))


async def _ended_before(journal: "Journal", moment: float) -> AsyncIterator[list[str]]:
    """Yield the streams of the runs that ended before, some at a time, with those beside them."""
    from headway.cli.journal_access.read_runs import read_rows

    beside = (inbox_stream, checkpoint_stream, result_stream)
    streams = await journal.streams(RUN_STREAMS)
    for start in range(0, len(streams), DROPPED_AT_ONCE):
        rows = await read_rows(journal, streams[start : start + DROPPED_AT_ONCE])
        over = [row.stream for row in rows if row.times.ended and row.times.ended < moment]
        if over:
            yield over + [name(stream) for stream in over for name in beside]
