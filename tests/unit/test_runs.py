"""A run's life: the table is complete, and folding in pieces is folding at once."""

from collections.abc import Sequence
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.broadcast_events import Changed, ReaderCame, RequestCancelled, SessionTold
from headway.events import (
    TERMINAL,
    Accepted,
    Alive,
    Cancelled,
    CancelRequested,
    Checkpointed,
    Claimed,
    Completed,
    ControlMessage,
    Entry,
    Event,
    Failed,
    Forgotten,
    GivenBack,
    HandedOver,
    InboxClosed,
    InputAnswered,
    InputReceived,
    InputRequested,
    Interrupted,
    ItemDone,
    LevelSet,
    Log,
    Notified,
    Part,
    ProcessLeft,
    Progress,
    Released,
    RequestStored,
    Restarted,
    RestartSummary,
    RetryRequested,
    SessionClosed,
    SessionOpened,
    SessionReady,
    Started,
    StreamPositionSent,
    Subscribed,
    TakenByWorker,
    Unsubscribed,
    decode_entries,
    encode_entries,
    encode_json,
)
from headway.run_state import TRANSITIONS, IllegalTransition, RunView, State, advance, fold

NULL = encode_json(None)
EXAMPLES: list[Event] = [
    Accepted("tools/call", "checksum"),
    Started(),
    Restarted("process", 2),
    Progress(1, 2, "half"),
    Log("info", NULL),
    Part(NULL),
    Notified("notifications/x"),
    InputRequested("q", "elicitation/create"),
    InputReceived("q"),
    Completed(NULL),
    Failed(-32000, "no"),
    Cancelled("client"),
    Interrupted("crash"),
    GivenBack(),
]
OF_OTHERS = {
    SessionOpened, SessionReady, LevelSet, Subscribed, Unsubscribed, SessionClosed,
    Alive, ProcessLeft, HandedOver, CancelRequested, InputAnswered, InboxClosed,
    Claimed, Released, ControlMessage, RetryRequested, RequestStored, TakenByWorker, ItemDone,
    Checkpointed, RestartSummary, Forgotten, StreamPositionSent, Changed, SessionTold,
    RequestCancelled, ReaderCame,
}  # fmt: skip
ENDS = {State.COMPLETED, State.FAILED, State.CANCELLED, State.INTERRUPTED}


def entries(events: Sequence[Event]) -> list[Entry]:
    return [Entry(number, 1.0, event) for number, event in enumerate(events, 1)]


@st.composite
def lives(draw: st.DrawFn) -> list[Event]:
    """Any life the table allows, from its beginning, ended or not."""
    state, events = State.NEW, list[Event]()
    for _ in range(draw(st.integers(0, 12))):
        allowed = [event for event in EXAMPLES if type(event) in TRANSITIONS[state]]
        if not allowed:
            break
        events.append(draw(st.sampled_from(allowed)))
        state = fold(entries(events)).state
    return events


def test_the_table_has_every_state_and_every_event_of_a_run() -> None:
    assert set(TRANSITIONS) == set(State)
    known = {kind for steps in TRANSITIONS.values() for kind in steps}
    assert known == set(get_args(Event)) - OF_OTHERS
    assert known == {type(event) for event in EXAMPLES}


def test_every_state_can_be_reached() -> None:
    reached = {state for steps in TRANSITIONS.values() for state in steps.values()}
    assert reached == set(State) - {State.NEW}


def test_the_terminal_events_lead_to_the_ends_and_nothing_leaves_them() -> None:
    for steps in TRANSITIONS.values():
        for kind, state in steps.items():
            assert (kind in TERMINAL) == (state in ENDS)
    assert all(not TRANSITIONS[end] for end in ENDS)


@pytest.mark.parametrize("state", set(State) - ENDS - {State.NEW})
def test_every_accepted_run_can_fail_be_cancelled_or_be_interrupted(state: State) -> None:
    assert {Failed, Cancelled, Interrupted} <= TRANSITIONS[state].keys()


def test_what_the_table_does_not_have_is_refused() -> None:
    for state in State:
        for event in EXAMPLES:
            if type(event) not in TRANSITIONS[state]:
                with pytest.raises(IllegalTransition, match=f"{type(event).__name__} cannot"):
                    advance(state, event)


def test_a_whole_life_adds_up() -> None:
    end = Completed(NULL)
    life = [Accepted("tools/call", "hash"), Started(), Progress(1, 3, "a"), Part(NULL)]
    view = fold(entries([*life, Progress(2, 3), Part(NULL), end]))
    assert view == RunView(
        State.COMPLETED, "tools/call", "hash", 2, 3, "a", parts=2, last=7, end=end
    )


def test_a_description_says_what_the_first_entries_did_and_can_be_stored() -> None:
    about = fold(entries([Accepted("tools/call", "a\ud800b"), Started()])).about
    assert about is not None
    (stored,) = decode_entries(encode_entries([Entry(1000, 2.0, Progress(1, about=about))]))
    view = fold([stored], RunView(State.WORKING))
    assert view.about is not None
    assert view.about.accepted.target == "a\ufffdb"
    assert (about.time, about.started) == (1.0, 1.0)


def test_a_run_waits_until_its_last_question_is_answered() -> None:
    asked = [Accepted("tools/call"), Started(), InputRequested("a", "m"), InputRequested("b", "m")]
    once = [*asked, InputReceived("a")]
    assert fold(entries(once)).state is State.INPUT_REQUIRED
    assert fold(entries([*once, InputReceived("b")])).state is State.WORKING


@settings(max_examples=100, database=None)
@given(lives(), st.integers(0, 12))
def test_folding_in_two_pieces_is_folding_at_once(life: list[Event], cut: int) -> None:
    whole = entries(life)
    assert fold(whole[cut:], fold(whole[:cut])) == fold(whole)


@settings(max_examples=100, database=None)
@given(lives(), st.integers(0, 12))
def test_the_fold_of_a_prefix_is_never_further_than_the_whole(life: list[Event], cut: int) -> None:
    part, whole = fold(entries(life)[:cut]), fold(entries(life))
    assert part.last <= whole.last
    assert part.parts <= whole.parts
    if part.end is not None:
        assert part == whole
