"""What is counted of a run, at its end."""

from typing import TYPE_CHECKING, Any

from headway.counters import Counters
from headway.events import Cancelled, Completed, Event, Failed, Interrupted
from headway.protocol.methods import kind_of

if TYPE_CHECKING:
    from headway.engine.run.run import Run

_ENDS: dict[type, str] = {
    Failed: "failed", Cancelled: "cancelled", Interrupted: "interrupted",
}  # fmt: skip
ENDS = ("completed", "tool_error", "input_required", *_ENDS.values())
"""How a call may end. `input_required`: its client is to ask again, with answers (2026-07-28)."""


def lost_outputs(run: "Run") -> dict[str, int]:
    """How much of what a tool said was cut, left out or refused, by the setting of the limit."""
    voice = run.output_limits
    return {"log_rate": voice.left_out, "max_part": voice.too_large, "max_text": run.pacer.cut}


def count_end(tally: Counters, run: "Run", event: Event, result: dict[str, Any] | None) -> None:
    """Take a run into the counts as it ends with `event`; `result` is what its handler returned."""
    tally.merged += run.pacer.merged
    for setting, times in lost_outputs(run).items():
        tally.limit_hit(setting, times)
    if type(event) is Failed and event is run.stop_event:
        tally.limit_hit("timeout")  # nothing else stops a run with a failure
    if kind_of(run.method).is_counted and run.follows is None:
        tally.end_call(run.target, outcome_of(event, result), run.clock.now() - run.born)


def outcome_of(event: Event, result: dict[str, Any] | None) -> str:
    """One of `ENDS`."""
    if type(event) is not Completed or result is None:
        return _ENDS.get(type(event), "completed")
    if result.get("resultType", "complete") != "complete":
        return "input_required"
    return "tool_error" if result.get("isError") is True else "completed"
