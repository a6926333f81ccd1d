"""The runs of a journal as rows, newest first, read no further than is needed.

A row takes the first and the last entries of a run's stream, whatever lies between.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from headway.cli.exit_codes import report_line
from headway.errors import EntriesTrimmed, HeadwayError, JournalUnavailable, StreamNotFound
from headway.run_state import State
from headway.stream_names import RUN_STREAMS, is_for_workers

if TYPE_CHECKING:
    from headway.events import Entry
    from headway.journal import Journal
    from headway.protocol.run_for_people import RunSummary

READ_AT_ONCE = 64
"""Runs that are asked for together."""

TAIL_ENTRIES = 256
"""Entries at the end of a long run that are read: its end, and its newest progress."""

FAILURES = (State.FAILED, State.INTERRUPTED)


@dataclass(frozen=True, slots=True)
class RunFilter:
    """The runs that are wanted."""

    every: bool = False
    """Also those that have ended."""
    is_failed: bool = False
    tool: str | None = None
    since: float | None = None
    """Seconds since 1970."""
    who: str | None = None
    """Part of the name of a caller or a client."""
    limit: int = 50

    def wants(self, run: "RunSummary") -> bool:
        """Return whether a run is among those that are wanted."""
        return (
            (not self.is_failed or run.state in FAILURES)
            and (self.tool is None or run.tool == self.tool)
            and not self.is_older(run)
            and (self.who is None or self.who.lower() in f"{run.caller} {run.client}".lower())
        )

    def is_older(self, run: "RunSummary") -> bool:
        """Return whether a run is from before the time that is asked about."""
        return (
            self.since is not None
            and run.times.accepted is not None
            and run.times.accepted < self.since
        )


async def newest_runs(journal: "Journal", wanted: RunFilter) -> "list[RunSummary]":
    """Return the newest runs that are wanted, as many as `limit` says.

    A run that only mirrors another one, which is there too, is left out: they are one call.

    Raises:
        JournalUnavailable: The journal cannot be read.
    """
    streams = await journal.streams(RUN_STREAMS, unfinished=not wanted.every)
    known, found = set(streams), list["RunSummary"]()
    for end in range(len(streams), 0, -READ_AT_ONCE):
        batch = reversed(streams[max(0, end - READ_AT_ONCE) : end])
        rows = await asyncio.gather(*(read_or_report(journal, stream) for stream in batch))
        runs = [row for row in rows if row is not None]
        found += [run for run in runs if wanted.wants(run) and not _is_shown_elsewhere(run, known)]
        # Streams are listed in the order in which they began.
        if len(found) >= wanted.limit or (runs and all(map(wanted.is_older, runs))):
            break
    return found[: wanted.limit]


def with_beginnings(runs: "Sequence[RunSummary]") -> "list[tuple[float, RunSummary]]":
    """Return the runs of one journal, newest first, each with when it began, to sort them by.

    A run that has more entries than are kept has lost its first one, which says so. It stands where
    its stream does: it began after the run below it.
    """
    moments = [run.times.accepted for run in reversed(runs)]
    began = next((each for each in moments if each is not None), 0.0)
    found: list[tuple[float, RunSummary]] = []
    for moment, run in zip(moments, reversed(runs), strict=True):
        began = began if moment is None else moment
        found.append((began, run))
    return found[::-1]


class RunChanges:
    """Tells the runs of a journal that began, or got another state, since the last look.

    Every look goes through the names of all runs. Of those that began since, and of those that went
    on and have new entries, the row is read: so no end is missed, however many runs there are, and
    none is told twice.
    """

    def __init__(self, wanted: RunFilter) -> None:
        self._wanted = wanted
        self._known: set[str] | None = None
        self._going: dict[str, RunSummary] = {}
        """The runs that went on at the last look, as they were then."""
        self._last: dict[str, int] = {}
        """The last entry of each of these."""

    async def look(self, journal: "Journal") -> "list[RunSummary]":
        """Return the runs that are wanted and new, or in another state than at the last look.

        The first look returns those that `newest_runs` does, the oldest first.

        Raises:
            JournalUnavailable: The journal cannot be read.
        """
        streams = await journal.streams(RUN_STREAMS)
        known, before = set(streams), self._known
        if before is None:
            asked = await journal.streams(RUN_STREAMS, unfinished=True)
        else:
            asked = [each for each in streams if each not in before or each in self._going]
        rows = map(self._keep, await self._read_changed(journal, asked))
        changed = [row for row in rows if row is not None]
        self._known = known
        self._going = {each: row for each, row in self._going.items() if each in known}
        self._last = {each: self._last[each] for each in self._going if each in self._last}
        if before is None:
            first = await newest_runs(journal, self._wanted)
            for row in first:  # they were read later: they are not told again for that
                self._keep(row)
            return first[::-1]
        return [
            row
            for row in changed
            if self._wanted.wants(row) and not _is_shown_elsewhere(row, known)
        ]

    async def _read_changed(self, journal: "Journal", streams: list[str]) -> "list[RunSummary]":
        heads = await journal.head_of_each(streams)
        changed = [each for each, head in heads.items() if head.last != self._last.get(each)]
        self._last |= {each: heads[each].last for each in changed}
        return await read_rows(journal, changed)

    def _keep(self, row: "RunSummary") -> "RunSummary | None":
        """Keep a run as it is now; return it where its state is another than before."""
        before = self._going.pop(row.stream, None)
        if before is not None and not row.method:  # its first entry is gone meanwhile
            row = _with_beginning_of(row, before)
        if row.times.ended is None:
            self._going[row.stream] = row
        return row if before is None or before.state is not row.state else None


def _with_beginning_of(run: "RunSummary", earlier: "RunSummary") -> "RunSummary":
    """Return a run with what its first entries said when they were still there."""
    return replace(
        earlier,
        state=run.state,
        times=earlier.times._replace(ended=run.times.ended),
        progress=run.progress,
        total=run.total,
        message=run.message,
        attempt=run.attempt or earlier.attempt,
        error=run.error,
    )


async def read_rows(journal: "Journal", streams: Sequence[str]) -> "list[RunSummary]":
    """Return the rows of these runs that can be read, some at a time."""
    found: list[RunSummary] = []
    for start in range(0, len(streams), READ_AT_ONCE):
        some = streams[start : start + READ_AT_ONCE]
        rows = await asyncio.gather(*(read_or_report(journal, stream) for stream in some))
        found += [row for row in rows if row is not None]
    return found


def _is_shown_elsewhere(run: "RunSummary", known: set[str]) -> bool:
    return run.follows in known or is_for_workers(run.follows)


async def read_or_report(journal: "Journal", stream: str) -> "RunSummary | None":
    """Return a run in a row; None, and a sentence on stderr, where it cannot be read.

    Raises:
        JournalUnavailable: The journal cannot be read.
    """
    try:
        return await read_summary(journal, stream)
    except StreamNotFound:  # it expired in this moment
        return None
    except JournalUnavailable:
        raise
    except HeadwayError as error:  # of one run: the others are listed all the same
        report_line(f"a run cannot be listed: {error}")
        return None


async def read_summary(journal: "Journal", stream: str) -> "RunSummary":
    """Return a run in a row.

    Raises:
        StreamNotFound: There is no such run.
        JournalError: It cannot be read.
    """
    from headway.protocol.run_for_people import summarize_run

    head = await _first_entries(journal, stream)
    known = await journal.head(stream) if len(head) >= TAIL_ENTRIES else None
    if known is None or known.last == head[-1].seq:
        return summarize_run(stream, head)
    after = max(head[-1].seq, known.last - TAIL_ENTRIES)
    tail = await journal.read(stream, after=after, limit=TAIL_ENTRIES)
    return summarize_run(stream, head, tail)


async def _first_entries(journal: "Journal", stream: str) -> "list[Entry]":
    try:
        head = await journal.read(stream, limit=TAIL_ENTRIES)
    except EntriesTrimmed as error:
        head = await journal.read(stream, after=error.first - 1, limit=TAIL_ENTRIES)
    if not head:
        raise StreamNotFound(stream)
    return head
