"""What a person is told of a run, from its entries."""

from collections.abc import Sequence
from typing import Any

import pytest

from headway.engine.run.progress_pacing import smallest_increase
from headway.events import (
    Accepted,
    Cancelled,
    Completed,
    Entry,
    Event,
    Failed,
    Interrupted,
    Log,
    Part,
    Progress,
    Restarted,
    Started,
    decode_entries,
    encode_json,
)
from headway.protocol.run_for_people import (
    LONGEST_ERROR,
    RunSummary,
    first_line,
    summarize_run,
    without_nudges,
)
from headway.run_state import State

STREAM = "run/owner/process-callcall-and-the-rest-of-the-id1"


def entries(*events: Event, first: int = 1) -> list[Entry]:
    """The events of a run, a second apart."""
    return [Entry(first + at, 1000.0 + first + at, event) for at, event in enumerate(events)]


def summary(*events: Event) -> RunSummary:
    return summarize_run(STREAM, entries(Accepted("tools/call", "work"), Started(), *events))


def completed(**result: Any) -> Completed:
    return Completed(encode_json({"content": [], **result}))


@pytest.mark.parametrize(
    ("end", "state", "error"),
    [
        (completed(), State.COMPLETED, None),
        (completed(isError=False), State.COMPLETED, None),
        (completed(resultType="input_required"), State.INPUT_REQUIRED, None),
        (
            completed(isError=True, content=[{"type": "text", "text": "\n disk is full \nmore"}]),
            State.FAILED,
            "disk is full",
        ),
        (
            completed(isError=True, content=[{"type": "image", "data": "", "mimeType": "x"}]),
            State.FAILED,
            "the tool reported an error",
        ),
        (completed(isError=True, content="no list"), State.FAILED, "the tool reported an error"),
        (completed(isError="neither"), State.COMPLETED, None),
        (Failed(-32001, "too late\nby far"), State.FAILED, "too late"),
        (Cancelled("operator", "too slow"), State.CANCELLED, "too slow"),
        (Cancelled("client"), State.CANCELLED, "cancelled by the client"),
        (Interrupted("the process went away"), State.INTERRUPTED, "the process went away"),
    ],
)
def test_how_a_run_ended_is_told_in_one_word_and_one_line(
    end: Event, state: State, error: str | None
) -> None:
    told = summary(end)
    assert (told.state, told.error) == (state, error)


def test_times_are_those_of_the_entries() -> None:
    going = summary(Progress(1, 2, "half"))
    assert going.times == (1001.0, 1002.0, None)
    assert going.seconds_at(1011.0) == 10.0
    ended = summary(Progress(1, 2, "half"), completed())
    assert (ended.times.ended, ended.seconds_at(9999.0)) == (1004.0, 3.0)
    assert (ended.progress, ended.total, ended.message) == (1, 2, "half")


def test_a_run_of_a_journal_of_an_earlier_release_has_no_caller() -> None:
    stored = b'[[1,5.0,{"type":"accepted","method":"tools/call","target":"work"}]]'
    told = summarize_run(STREAM, decode_entries(stored))
    assert (told.state, told.tool, told.caller, told.client, told.server) == (
        State.QUEUED, "work", "", "", "",
    )  # fmt: skip


def test_of_a_run_whose_beginning_is_gone_only_the_end_is_told() -> None:
    told = summarize_run(STREAM, entries(Part(encode_json(1)), Progress(7, 9), first=500))
    assert (told.state, told.progress, told.total) == (State.WORKING, 7, 9)
    assert (told.times, told.attempt, told.tool) == ((None, None, None), None, None)
    assert told.seconds_at(2000.0) is None


def test_of_a_long_run_the_middle_need_not_be_read() -> None:
    head = entries(Accepted("tools/call", "work", caller="alice"), Started(), Progress(1, 9))
    tail = entries(Log("info", encode_json("x")), Progress(8, 9), completed(), first=5000)
    told = summarize_run(STREAM, head, tail)
    assert (told.tool, told.caller, told.progress, told.state) == (
        "work", "alice", 8, State.COMPLETED,
    )  # fmt: skip
    assert (told.times.accepted, told.times.ended) == (1001.0, 6002.0)
    assert told.attempt is None  # it may have been restarted where nobody looked
    again = summarize_run(STREAM, head, entries(Restarted("p", 3), Started(), first=5000))
    assert again.attempt == 3


@pytest.mark.parametrize(
    ("value", "beats"),
    [(0, 8640), (1, 8640), (7, 8640), (0.25, 8640), (12.5, 8640), (999.75, 8640), (1234567, 360)],
)
def test_the_nudges_of_hours_do_not_show(value: float, beats: int) -> None:
    nudged = float(value)
    for _ in range(beats):  # one each ten seconds
        nudged = smallest_increase(nudged, None)
    assert nudged > value
    assert without_nudges(nudged) == value


@pytest.mark.parametrize("value", [-3.5, 0.1234, 123.25, 98765.4, 1e300, 2**60])
def test_a_real_value_is_told_as_it_is_but_for_the_rounding(value: float) -> None:
    assert without_nudges(value) == pytest.approx(value, rel=1e-4)


def test_a_cancelled_run_shows_no_fraction_that_its_tool_did_not_report() -> None:
    told = summary(Progress(smallest_increase(0, 30), 30, "0 done"), Cancelled("client"))
    assert (told.progress, told.total) == (0, 30)


def test_a_first_line_has_a_bound() -> None:
    lines: Sequence[str] = ["", "  ", "x" * 10_000, "more"]
    assert first_line("\n".join(lines)) == "x" * (LONGEST_ERROR - 1) + "…"
    assert first_line(" \n ") == ""
