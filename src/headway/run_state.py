"""The states of a run: the transition table, and the fold of entries to a state."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from msgspec import Raw, structs

from headway.errors import HeadwayError
from headway.events import (
    Accepted,
    Cancelled,
    Completed,
    Entry,
    Event,
    Failed,
    GivenBack,
    InputReceived,
    InputRequested,
    Interrupted,
    Log,
    Notified,
    Part,
    Progress,
    Restarted,
    RunDescription,
    Started,
)


class State(StrEnum):
    """Where a run stands."""

    NEW = "new"
    QUEUED = "queued"
    WORKING = "working"
    INPUT_REQUIRED = "input_required"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"


_ENDS: dict[type, State] = {
    Failed: State.FAILED,
    Cancelled: State.CANCELLED,
    Interrupted: State.INTERRUPTED,
}
_ALIVE: dict[type, State] = {
    Progress: State.WORKING,
    Log: State.WORKING,
    Part: State.WORKING,
    Notified: State.WORKING,
    InputRequested: State.INPUT_REQUIRED,
    InputReceived: State.WORKING,
    Completed: State.COMPLETED,
    Restarted: State.QUEUED,
    GivenBack: State.QUEUED,
    **_ENDS,
}

TRANSITIONS: dict[State, dict[type, State]] = {
    State.NEW: {Accepted: State.QUEUED},
    State.QUEUED: {
        Progress: State.QUEUED,
        Started: State.WORKING,
        Restarted: State.QUEUED,
        GivenBack: State.QUEUED,
        **_ENDS,
    },
    State.WORKING: _ALIVE,
    # While one part of a tool waits for an answer, the others go on.
    State.INPUT_REQUIRED: {
        **_ALIVE,
        Progress: State.INPUT_REQUIRED,
        Log: State.INPUT_REQUIRED,
        Part: State.INPUT_REQUIRED,
        Notified: State.INPUT_REQUIRED,
    },
    State.COMPLETED: {},
    State.FAILED: {},
    State.CANCELLED: {},
    State.INTERRUPTED: {},
}
"""The transition table. A step that is not in it cannot happen."""


class IllegalTransition(HeadwayError):
    """An event that cannot happen in the run's state: a bug in Headway."""


def advance(state: State, event: Event) -> State:
    """Return the state after `event`.

    Raises:
        IllegalTransition: The table has no such step.
    """
    try:
        return TRANSITIONS[state][type(event)]
    except KeyError:
        name = type(event).__name__
        raise IllegalTransition(f"{name} cannot happen to a run that is {state}") from None


@dataclass(frozen=True, slots=True)
class RunView:
    """The state of a run and its latest values, folded from its entries."""

    state: State = State.NEW
    method: str = ""
    target: str | None = None
    progress: float | None = None
    total: float | None = None
    message: str | None = None
    parts: int = 0
    attempt: int = 1
    last: int = 0
    end: Event | None = None
    """The terminal event, once there is one."""
    about: RunDescription | None = field(default=None, compare=False)
    """The newest description of the run, where these entries have one."""


def fold(entries: Iterable[Entry], view: RunView | None = None) -> RunView:
    """Return the run after `entries`, starting from `view` or from nothing."""
    view = view or RunView()
    state, progress, total, message = view.state, view.progress, view.total, view.message
    method, target, parts, last, end = view.method, view.target, view.parts, view.last, view.end
    attempt, about = view.attempt, view.about
    waiting = 1 if state is State.INPUT_REQUIRED else 0
    for entry in entries:
        event, last = entry.event, entry.seq
        state = advance(state, event)
        match event:
            case Accepted():
                method, target = event.method, event.target
                about = describe(event, entry.time, about)
            case Started():
                about = describe(event, entry.time, about)
            case Progress():
                about = event.about or about
                progress, total = event.progress, event.total
                message = event.message if event.message is not None else message
            case Part():
                parts += 1
            case InputRequested():
                waiting += 1
            case Restarted():
                waiting, attempt = 0, event.attempt
            case GivenBack():
                waiting = 0  # the attempt that asked is gone
            case InputReceived():
                waiting = max(0, waiting - 1)
                state = State.INPUT_REQUIRED if waiting else state
            case Completed() | Failed() | Cancelled() | Interrupted():
                end = event
            case _:
                pass
    return RunView(
        state, method, target, progress, total, message, parts, attempt, last, end, about
    )


def describe(
    event: Accepted | Started, time: float, about: RunDescription | None
) -> RunDescription | None:
    """Return the description of a run after one of the events that it is made of."""
    match event:
        case Accepted():
            return RunDescription(event, time)
        case Started() if about is not None and about.started is None:
            return structs.replace(about, started=time)
        case Started():
            return about


def view_of(entries: Sequence[Entry]) -> RunView:
    """Return the run after these entries; of a very long one the oldest may be missing."""
    is_whole = not entries or entries[0].seq == 1
    return fold(entries, None if is_whole else RunView(State.WORKING))


def parts_of(entries: Iterable[Entry]) -> list[Raw]:
    """Return the parts among these entries, without those that a restarted run repeats."""
    parts: list[tuple[int, Raw]] = []
    for entry in entries:
        match entry.event:
            case Part(value):
                parts.append((entry.seq, value))
            case Restarted(at=at):
                while parts and parts[-1][0] > at:
                    parts.pop()
            case _:
                pass
    return [value for _, value in parts]
