"""The one line that the log has for each call, at its end.

    call XsGj0T_U work by alice (claude-code 2.1) failed after 2.1 s, streamed: disk is full

The logger is `headway.calls`. The values of arguments are never in it; the first line of an error
is the tool's own. Names are cut: a client may call a tool whose name is as long as a request, and
say of itself what it wants.

The commands write it; an app of `headway.asgi` does when its program gives this logger or `headway`
a level. The root logger's level is not enough: an `MCPServer` sets that up unasked, with a handler
that takes longer for a line than Headway for the whole call.
"""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from headway.engine.run.end_counts import outcome_of
from headway.events import Completed, Event
from headway.log_lines import quiet_logger, report_lost_line
from headway.protocol.methods import kind_of
from headway.protocol.run_for_people import cut_name, error_in_result, error_of, who_text
from headway.stream_names import reference_of

if TYPE_CHECKING:
    from headway.engine.run.run import Run

logger = quiet_logger("headway.calls")

ANSWERED: Final[Mapping[str, str]] = {
    "json": "answered as JSON",
    "stream": "streamed",
    "task": "as a task",
    "handle": "with a handle",
    "pipe": "over the pipe",
}
"""How a request is answered, in words."""

_OUTCOMES: Final[Mapping[str, str]] = {
    "tool_error": "failed",
    "input_required": "asked for input",
}

_HAS_LEFT: Final = ("task", "handle")


_is_asked_for = False


def log_calls() -> None:
    """Log calls at the level that all else is logged at: this process is for serving them."""
    global _is_asked_for
    _is_asked_for = True


def _is_wanted() -> bool:
    own = logger.logger
    if not own.isEnabledFor(logging.INFO):
        return False
    named = own if own.level or own.parent is None else own.parent
    return _is_asked_for or (bool(named.level) and not isinstance(named, logging.RootLogger))


def log_end(run: "Run", event: Event, result: dict[str, Any] | None) -> None:
    """Log the end of a call with `event`; `result` is what its handler returned, if it did."""
    if not _is_wanted() or not kind_of(run.request.method).is_counted:
        return
    try:
        facts = facts_of(run, event, result)
    except Exception as error:  # noqa: BLE001 - the end is not to be lost for its line
        report_lost_line(error)
        return
    answered = ANSWERED.get(facts["answered"], "")
    logger.info(
        "call %s %s%s by %s %s after %s s%s%s",
        facts["reference"],
        facts["tool"],
        f", which repeats {facts['repeats']}," if facts["repeats"] else "",
        who_text(facts["caller"], facts["client"]),
        facts["end"],
        _seconds_text(facts["seconds"]),
        f", {answered}" if answered else "",
        f": {facts['error']}" if facts["error"] else "",
        extra={"headway_call": facts},
    )


def facts_of(run: "Run", event: Event, result: dict[str, Any] | None) -> dict[str, Any]:
    """Return what the log tells of a call that ends with `event`; all texts are printable."""
    request, answered = run.request, run.hooks.answered()
    outcome = outcome_of(event, result)
    end, error = _OUTCOMES.get(outcome, outcome), None
    if request.follows is not None and answered in _HAS_LEFT:
        end = "left to its worker" if request.owns else "left to the first call"
    elif isinstance(event, Completed):
        error = error_in_result(result) if outcome == "tool_error" else None
    else:
        error = error_of(event)
    return {
        "reference": run.reference,
        "tool": printable(cut_name(request.name)),
        "repeats": reference_of(request.follows) if request.follows and not request.owns else "",
        "caller": printable(cut_name(request.caller)),
        "client": printable(cut_name(request.client_name)),
        "end": end,
        "seconds": round(run.services.clock.now() - run.execution.born, 3),
        "answered": answered,
        "error": None if error is None else printable(error),
    }


def _seconds_text(seconds: float) -> str:
    return f"{seconds:.3f}" if seconds < 1 else f"{seconds:.1f}"


def printable(text: str) -> str:
    """Return a text of a client or a tool without what could forge a line, whoever writes it."""
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
