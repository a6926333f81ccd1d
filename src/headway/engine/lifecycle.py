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

    __slots__ = ("phase",)

    def __init__(self) -> None:
        self.phase = Phase.NEW

    def move_to(self, phase: Phase) -> None:
        """Enter a phase; nothing happens where `TRANSITIONS` does not lead there."""
        if phase in TRANSITIONS[self.phase]:
            self.phase = phase

    @property
    def is_serving(self) -> bool:
        """True when the start is complete and nobody has said that the end is near."""
        return self.phase is Phase.SERVING

    @property
    def is_draining(self) -> bool:
        """True when no more tool calls are accepted; also when all is over."""
        return self.phase is Phase.DRAINING or self.phase is Phase.OVER

    @property
    def is_over(self) -> bool:
        """True when nothing is started any more."""
        return self.phase is Phase.OVER
