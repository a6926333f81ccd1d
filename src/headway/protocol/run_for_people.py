"""Runs as people are told of them: how a run stands, when, whose it is, and why it failed.

Two things are told otherwise than on the wire. A tool's own error is a result in MCP, so the run
completed; to a person the call *failed*. And progress of which only the nudges are left
(`engine/run/progress_pacing.py`) has not moved.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log10
from typing import Final, NamedTuple

import msgspec
from msgspec import Raw, Struct

from headway.events import (
    Accepted,
    Cancelled,
    Completed,
    Entry,
    Event,
    Failed,
    Interrupted,
    Restarted,
)
from headway.run_state import RunView, State, fold, view_of
from headway.stream_names import reference_of, run_id_of

LONGEST_ERROR: Final = 500
"""Characters of an error's first line."""

LONGEST_NAME: Final = 200
"""Characters of the name of a tool, a caller or a client: no log and no list gets longer ones."""

NO_WORDS: Final = "the tool reported an error"

DIGITS: Final = 5
"""Digits of a progress that are told: the nudges of a day do not reach them."""


class RunTimes(NamedTuple):
    """When a run was accepted, began and ended: seconds since 1970, or None."""

    accepted: float | None
    started: float | None
    ended: float | None


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run in a row: what is None, or '', its journal does not say."""

    stream: str
    state: State
    """As a person is told it: see `told_state`."""
    method: str
    tool: str | None
    caller: str
    client: str
    server: str
    times: RunTimes
    progress: float | None
    total: float | None
    message: str | None
    attempt: int | None
    arguments: list[str]
    """The names of its arguments."""
    follows: str
    """The stream of the run that it only mirrors, or ''."""
    error: str | None

    @property
    def run(self) -> str:
        """The run's id."""
        return run_id_of(self.stream)

    @property
    def reference(self) -> str:
        """The short name of the run; it gives no access."""
        return reference_of(self.stream)

    def seconds_at(self, now: float) -> float | None:
        """Return how long it took; of a run that goes on, how long it has taken at `now`."""
        times = self.times
        if times.accepted is None:
            return None
        return max(0.0, (now if times.ended is None else times.ended) - times.accepted)


def summarize_run(
    stream: str, head: Sequence[Entry], tail: Sequence[Entry] | None = None
) -> RunSummary:
    """Return the summary of a run.

    Args:
        stream: The run's.
        head: Its first entries that are kept, at least one; all of them where there is no `tail`.
        tail: Its last entries, where those between are not read.
    """
    view = view_of(head) if tail is None else fold(tail, RunView(State.WORKING))
    about = view_of(head).about or view.about
    accepted = Accepted("") if about is None else about.accepted
    every = [*head, *(tail or ())]
    restarts = [entry.event.attempt for entry in every if isinstance(entry.event, Restarted)]
    has_all = tail is None and head[0].seq == 1
    return RunSummary(
        stream=stream,
        state=told_state(view),
        method=accepted.method,
        tool=accepted.target,
        caller=accepted.caller,
        client=accepted.client,
        server=accepted.server,
        times=RunTimes(
            None if about is None else about.time,
            None if about is None else about.started,
            None if view.end is None else every[-1].time,
        ),
        progress=None if view.progress is None else without_nudges(view.progress),
        total=view.total,
        message=view.message,
        attempt=restarts[-1] if restarts else (1 if has_all else None),
        arguments=accepted.arguments,
        follows=accepted.follows,
        error=error_of(view.end),
    )


def told_state(view: RunView) -> State:
    """Return the state of a run as a person is told it: a tool's own error is a failure.

    A result that asks the client to call again, with answers, is `input_required` (SEP-2322).
    """
    if not isinstance(view.end, Completed):
        return view.state
    result = _ending_of(view.end.result)
    if result.isError:
        return State.FAILED
    return State.COMPLETED if result.resultType == "complete" else State.INPUT_REQUIRED


def error_of(end: Event | None) -> str | None:
    """Return why a run has no result, as one line; None where it has one, or no end yet."""
    match end:
        case Completed():
            return _tool_error(end.result)
        case Failed():
            return first_line(end.message)
        case Interrupted():
            return first_line(end.reason)
        case Cancelled():
            return first_line(end.reason or f"cancelled by the {end.by}")
        case _:
            return None


def first_line(text: str) -> str:
    """Return the first line of a text that says something, cut where it is very long."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return line if len(line) <= LONGEST_ERROR else f"{line[: LONGEST_ERROR - 1]}…"


def cut_name(name: str) -> str:
    """Return a name as people are told it, cut where it is very long."""
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def without_nudges(value: float) -> float:
    """Return a progress without the small increases that only say that there is news."""
    digits = DIGITS - 1 - int(log10(max(1.0, abs(value))))
    rounded = round(float(value), max(0, digits))
    return int(rounded) if rounded.is_integer() else rounded


class _Ending(Struct):
    isError: bool = False
    resultType: str = "complete"


class _Block(Struct):
    text: str = ""


class _Content(Struct):
    content: list[_Block] = []


_endings = msgspec.json.Decoder(_Ending)
_contents = msgspec.json.Decoder(_Content)


def _ending_of(result: Raw) -> _Ending:
    try:
        return _endings.decode(result)
    except msgspec.DecodeError:  # of a server's own making
        return _Ending()


def _tool_error(result: Raw) -> str | None:
    if not _ending_of(result).isError:
        return None
    try:
        return _first_text(_contents.decode(result))
    except msgspec.DecodeError:
        return NO_WORDS


def error_in_result(result: object) -> str:
    """Return the first line of the error that a tool's result is, as its handler returned it."""
    try:
        return _first_text(msgspec.convert(result, _Content))
    except msgspec.ValidationError:
        return NO_WORDS


def _first_text(content: _Content) -> str:
    return first_line("\n".join(block.text for block in content.content)) or NO_WORDS


def who_text(caller: str, client: str) -> str:
    """Return who called: `alice (claude-code 2.1)`, or what is known of it."""
    if caller and client:
        return f"{caller} ({client})"
    return caller or client or "-"
