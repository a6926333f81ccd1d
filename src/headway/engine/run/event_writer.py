"""The one writer of a run's stream: appends its events and keeps the state that they lead to."""

from headway.events import Event
from headway.journal import Journal
from headway.run_state import TRANSITIONS, RunView, State, advance


class EventWriter:
    """Appends the events of one run to its stream; on the event loop only.

    Every event is checked against the transition table of `headway.run_state` first.
    """

    __slots__ = ("_allowed", "_journal", "_stream", "recorded", "seq", "state")

    def __init__(self, journal: Journal, stream: str, *, recorded: bool) -> None:
        self._journal = journal
        self._stream = stream
        self.recorded = recorded
        """Whether the events are stored, and not only kept in memory for those who read now."""
        self.seq = 0
        """The number of the last event."""
        self.state = State.NEW
        self._allowed = TRANSITIONS[State.NEW]

    def resume_from(self, view: RunView) -> None:
        """Go on after what another process has written."""
        self.seq, self.state, self._allowed = view.last, view.state, TRANSITIONS[view.state]

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
        self.seq = self._journal.append_nowait(
            self._stream, event, after=self.seq, recorded=self.recorded
        )
