"""The counts that are taken of a run at its end."""

from typing import TYPE_CHECKING, Any

from headway.counters import Counters
from headway.events import Cancelled, Completed, Event, Failed, Interrupted

if TYPE_CHECKING:
    from headway.engine.run.run import Run

_ENDS: dict[type, str] = {
    Failed: "failed", Cancelled: "cancelled", Interrupted: "interrupted",
}  # fmt: skip
ENDS = ("completed", "tool_error", "input_required", *_ENDS.values())
"""The ways in which a call may end.

`input_required`: the client has to call again, with answers (SEP-2322, in 2026-07-28).
"""


def lost_outputs(run: "Run") -> dict[str, int]:
    """Return how many outputs were cut, dropped or refused, by the setting that limits them."""
    said = run.said
    if said is None:
        return {}
    return {
        "log_rate": said.limits.left_out,
        "max_part": said.limits.too_large,
        "max_text": said.pacer.cut,
    }


def count_end(counters: Counters, run: "Run", event: Event, result: dict[str, Any] | None) -> None:
    """Count a run that ends with `event`; `result` is what its handler returned, if it did."""
    if (said := run.said) is not None:
        counters.merged += said.pacer.merged
        for setting, times in lost_outputs(run).items():
            if times:
                counters.limit_hit(setting, times)
    if type(event) is Failed and event is run.stop_event:
        counters.limit_hit("timeout")  # nothing else stops a run with a failure
    if run.request.kind.is_counted and run.request.follows is None:
        counters.end_call(
            run.request.target,
            outcome_of(event, result),
            run.services.clock.now() - run.execution.born,
        )


def outcome_of(event: Event, result: dict[str, Any] | None) -> str:
    """Return how a call with this end is counted: one of `ENDS`."""
    if type(event) is not Completed or result is None:
        return _ENDS.get(type(event), "completed")
    if result.get("resultType", "complete") != "complete":
        return "input_required"
    return "tool_error" if result.get("isError") is True else "completed"
