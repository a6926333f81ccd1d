"""The life cycle of a served app in one process: one state, asked by everything that stops.

    NEW ──► SERVING ──► LEAVING ──► DRAINING ──► OVER

A step may leave states out, and none goes back: what would go back is ignored, so two that stop the
same app at once do no harm. An app that is started again gets a new life cycle.
"""

from collections.abc import Mapping
from enum import Enum, auto
from typing import Final


class Phase(Enum):
    """A state of the life cycle."""

    NEW = auto()
    """Made, and perhaps starting. An engine that is used without an app stays here."""
    SERVING = auto()
    LEAVING = auto()
    """The end is near: probes and headers say so, and calls are still accepted."""
    DRAINING = auto()
    """No more tool calls are accepted; those that go on may finish."""
    OVER = auto()
    """Nothing is accepted or started any more, and what still went on was stopped."""


TRANSITIONS: Final[Mapping[Phase, frozenset[Phase]]] = {
    Phase.NEW: frozenset({Phase.SERVING, Phase.DRAINING, Phase.OVER}),
    Phase.SERVING: frozenset({Phase.LEAVING, Phase.DRAINING, Phase.OVER}),
    Phase.LEAVING: frozenset({Phase.DRAINING, Phase.OVER}),
    Phase.DRAINING: frozenset({Phase.OVER}),
    Phase.OVER: frozenset(),
}
"""The states that each state may be left for."""


class Lifecycle:
    """The life cycle of one app, from its start to the stop that follows."""

    __slots__ = ("is_draining", "is_over", "is_serving", "phase")

    def __init__(self, phase: Phase = Phase.NEW) -> None:
        self._enter(phase)

    def move_to(self, phase: Phase) -> None:
        """Enter a phase; nothing happens where `TRANSITIONS` does not lead there."""
        if phase in TRANSITIONS[self.phase]:
            self._enter(phase)

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        self.is_serving = phase is Phase.SERVING
        """True when the start is complete and nobody has said that the end is near."""
        self.is_draining = phase in (Phase.DRAINING, Phase.OVER)
        """True when no more tool calls are accepted; also when all is over."""
        self.is_over = phase is Phase.OVER
        """True when nothing is started any more."""
