"""The counts of a process since it started: plain numbers, read by `observability/metrics.py`.

Code that does something worth counting adds one here, on the event loop; `metrics` puts it into
Prometheus' format. Nothing is counted for each event of a run.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from math import inf
from typing import Final

CALL_SECONDS: Final = (0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0, 28800.0, inf)
ANSWER_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, inf)

MOST_TOOLS: Final = 200
"""Names of tools that are told apart: each is a dozen numbers in every monitoring system."""

OTHER: Final = "(other)"
"""In place of a name that no tool has: clients may call whatever they like."""


def _is_no_tool(_name: str) -> bool:
    return False


class Histogram:
    """How many values were up to each of `bounds`, and their sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * len(bounds)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class Counters:
    """The counts of one app."""

    def __init__(self) -> None:
        self.reached = Counter[str]()  # by the setting of the limit
        self.refused = Counter[int]()  # by HTTP status
        self.ends = Counter[tuple[str, str]]()  # of calls, by tool and how they ended
        self.call_seconds: dict[str, Histogram] = {}
        self.answer_seconds = Histogram(ANSWER_SECONDS)
        self.merged = 0  # progress reports that a newer one replaced
        self.resumed = 0  # streams that were read on from an event id
        self.repeated = 0  # calls that followed one with the same key
        self.restarted = 0  # runs begun anew here
        self.handed_over = 0  # calls answered with a handle
        self.audit_lost = 0  # records that the audit log does not have
        self.connections: int | None = None  # None: another server listens
        self.most_connections = 0
        self._tools: set[str] = set()
        self.is_tool: Callable[[str], bool] = _is_no_tool
        """Returns whether a name that was not listed yet is a tool's."""

    def register_tools(self, tools: Iterable[str]) -> None:
        """Add names of tools; calls of other names are counted together."""
        for tool in tools:
            if len(self._tools) < MOST_TOOLS:
                self._tools.add(tool)

    @property
    def tool_count(self) -> int:
        """The number of tools that are known, up to `MOST_TOOLS`."""
        return len(self._tools)

    def limit_hit(self, setting: str | None, times: int = 1) -> None:
        """Count that something was refused, cut, dropped or delayed for the limit of a setting."""
        if setting is not None and times:
            self.reached[setting] += times

    def count_refusal(self, status: int, setting: str | None) -> None:
        """Count a refused request, for the limit with this setting if it was for one."""
        self.refused[status] += 1
        self.limit_hit(setting)

    def lose_audit_records(self, number: int) -> None:
        """Count records that are not written into the audit log."""
        self.audit_lost += number

    def by_tool(self, counts: Mapping[str, int]) -> dict[str, int]:
        """Return counts by tool, those of names that no tool has together."""
        known = Counter[str]()
        for name, count in counts.items():
            known[name if name in self._tools else OTHER] += count
        return dict(known)

    def end_call(self, tool: str | None, end: str, seconds: float) -> None:
        """Count a call that has ended."""
        if tool is not None and tool not in self._tools and self.is_tool(tool):
            self.register_tools([tool])
        name = tool if tool in self._tools else OTHER
        assert name is not None
        self.ends[name, end] += 1
        if name not in self.call_seconds:
            self.call_seconds[name] = Histogram(CALL_SECONDS)
        self.call_seconds[name].observe(seconds)
