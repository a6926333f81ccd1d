"""What a soak counts, and what it finds wrong."""

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

Ended = Literal["result", "interrupted", "cancelled", "gone"]
"""How a call ended for its caller: with its result; with the error that its server process went
away; with the error that it was cancelled; or with a lost connection that nothing leads back from
(2026 without a key: the cut was its cancel; 2025 without one, cut before the first event id)."""


@dataclass
class Call:
    """One call, however many requests its caller needed for it."""

    job: str
    kind: str
    tool: str
    steps: int
    arguments: dict[str, object]
    key: str | None = None
    ended: Ended | None = None
    nonce: str = ""
    """The execution whose result the caller has."""
    error: str = ""
    began: float = field(default_factory=time.time)
    over: float = 0.0

    def end(self, ended: Ended, nonce: str = "", error: str = "") -> None:
        self.ended, self.nonce, self.error = ended, nonce, error
        self.over = time.time()

    @property
    def outcome(self) -> tuple[str, str, str]:
        return str(self.ended), self.nonce, self.error


@dataclass
class Death:
    """The end of a server process."""

    pid: int
    how: Literal["KILL", "TERM"]
    at: float


class Tally:
    """Everything counted, and every violation, in one place."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.deaths: list[Death] = []
        self.counts: Counter[str] = Counter()
        self.violations: list[str] = []
        self.renumbered: list[str] = []

    def count(self, what: str, number: int = 1) -> None:
        self.counts[what] += number

    @property
    def kills(self) -> int:
        return sum(death.how == "KILL" for death in self.deaths)

    def violation(self, what: str, call: Call | None = None) -> None:
        where = "" if call is None else f" ({call.kind} {call.tool} {call.job})"
        self.violations.append(what + where)

    def unless_killed(self, kills_before: int, what: str, call: Call) -> None:
        """Wrong, unless a process was killed since: what it had not stored is said anew."""
        if self.kills > kills_before:
            self.renumbered.append(f"{what} ({call.kind} {call.tool} {call.job})")
        else:
            self.violation(what, call)
