"""Finding the run that a person means: by its id, the beginning of it, or its reference."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from headway.cli.exit_codes import Refused, report_line
from headway.cli.journal_access.read_runs import read_summary
from headway.cli.journal_access.user_journals import journal_urls, opened_journal
from headway.errors import HeadwayError
from headway.stream_names import RUN_STREAMS, call_of, is_for_workers, reference_of, run_id_of

if TYPE_CHECKING:
    from headway.journal import Journal

RunId = Annotated[
    str, typer.Argument(metavar="RUN", help="The id of a run, or its beginning, or its reference.")
]

SHORTEST = 4
"""Characters that name a run, at least."""


class FoundRun(NamedTuple):
    """A run, and the journal that it is in."""

    url: str
    stream: str


async def find_run(url: str | None, wanted: str, *, unfinished: bool = False) -> FoundRun:
    """Return the one run that `wanted` names, of those in the journal at `url` or in all.

    A run that only mirrors another one names that one. Of all the user's journals each is reported
    that cannot be read: the run may be in another one.

    Raises:
        Refused: There is none, or there are several.
        SetupError, JournalError: There is no journal at `url`, or it cannot be read.
    """
    found: set[FoundRun] = set()
    for place in journal_urls(url):
        try:
            async with opened_journal(place) as journal:
                found |= await _runs_in(journal, place, wanted, unfinished=unfinished)
        except HeadwayError as error:
            if url is not None:
                raise
            report_line(str(error))
    if len(found) != 1:
        raise Refused(_why_not_one(wanted, found, unfinished=unfinished))
    return found.pop()


async def _runs_in(
    journal: "Journal", place: str, wanted: str, *, unfinished: bool
) -> set[FoundRun]:
    streams = await journal.streams(RUN_STREAMS, unfinished=unfinished)
    meant = [stream for stream in streams if _is_meant(stream, wanted)]
    # Of the two runs of a call for a worker the other one only repeats the worker's.
    calls = {call_of(stream): stream for stream in sorted(meant, key=is_for_workers)}
    known = set(streams)
    return {FoundRun(place, await _mirrored(journal, each, known)) for each in calls.values()}


def _is_meant(stream: str, wanted: str) -> bool:
    run = run_id_of(stream)
    return len(wanted) >= SHORTEST and (run.startswith(wanted) or reference_of(stream) == wanted)


async def _mirrored(journal: "Journal", stream: str, known: set[str]) -> str:
    """Return the run that a run only mirrors, where it is there; else the run itself."""
    try:
        follows = (await read_summary(journal, stream)).follows
    except HeadwayError:  # whoever wants to show it says what is wrong with it
        return stream
    return follows if follows in known else stream


def _why_not_one(wanted: str, found: Iterable[FoundRun], *, unfinished: bool) -> str:
    names = ", ".join(sorted(run_id_of(run.stream)[:16] for run in found))
    if names:
        return f"{wanted!r} names several runs ({names}); write more of one's id"
    what = "no run that goes on" if unfinished else "no run"
    everything = "" if unfinished else " --all"
    return f"{wanted!r} names {what}; see headway runs{everything}"
