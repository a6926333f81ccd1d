"""The one writer of a run's stream: appends its events and keeps the state that they lead to."""

from typing import Final

from msgspec import structs

from headway.events import Accepted, Event, Progress, RunDescription, Started
from headway.journal import Journal
from headway.run_state import TRANSITIONS, RunView, State, advance

DESCRIBED_FROM: Final = 1000
"""Entries of a run after which its progress describes it again: most runs keep their first one."""

DESCRIBED_EVERY: Final = 200
"""Entries between two descriptions: fewer than those at the end that a list of runs reads."""


class EventWriter:
    """Appends the events of one run to its stream; on the event loop only.

    Every event is checked against the transition table of `headway.run_state` first.
    """

    __slots__ = (
        "_about",
        "_allowed",
        "_describes_at",
        "_journal",
        "_started",
        "_stream",
        "recorded",
        "seq",
        "state",
    )

    def __init__(self, journal: Journal, stream: str, *, recorded: bool) -> None:
        self._journal = journal
        self._stream = stream
        self.recorded = recorded
        """Whether the events are stored, and not only kept in memory for those who read now."""
        self.seq = 0
        """The number of the last event."""
        self.state = State.NEW
        self._allowed = TRANSITIONS[State.NEW]
        self._about: RunDescription | None = None
        self._started: float | None = None
        self._describes_at = DESCRIBED_FROM

    def resume_from(self, view: RunView) -> None:
        """Go on after what another process has written."""
        self.seq, self.state, self._allowed = view.last, view.state, TRANSITIONS[view.state]
        self._about = view.about

    @property
    def can_go_on(self) -> bool:
        """True while the state allows further events."""
        return bool(self._allowed)

    def append(self, event: Event) -> None:
        """Add an event.

        Raises:
            JournalError: The stream is another process's by now, or the journal is closed.
        """
        # A lookup in the row of the present state; `advance` is for what the row does not have.
        state = self._allowed.get(type(event)) or advance(self.state, event)
        if state is not self.state:
            self.state = state
            self._allowed = TRANSITIONS[state]
            if type(event) is Accepted:
                self._about = RunDescription(event, self._journal.clock.time())
            elif type(event) is Started:
                self._started = self._started or self._journal.clock.time()
        if self.seq >= self._describes_at and isinstance(event, Progress):
            self._describes_at = self.seq + DESCRIBED_EVERY
            event = structs.replace(event, about=self._describe_run())
        # The state is changed first. If the append is refused the stream is another process's, and
        # this state does not matter any more.
        self.seq = self._journal.append_nowait(
            self._stream, event, after=self.seq, recorded=self.recorded
        )

    def _describe_run(self) -> RunDescription | None:
        if self._about is not None and self._about.started is None:
            self._about = structs.replace(self._about, started=self._started)
        return self._about
