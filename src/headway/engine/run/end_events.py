"""The terminal event of a run: from a result, an exception, its time limit or a stop."""

from functools import cache
from types import TracebackType
from typing import Any

import anyio
from mcp_types import INTERNAL_ERROR
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from headway.engine.remote.mirror import MirroredFailed
from headway.engine.run.large_results import completed_event, message_of
from headway.engine.run.run import Run
from headway.engine.tool_failures import Failure, Kind, log_failure
from headway.errors import ToolTimeout
from headway.events import Completed, Event, Failed, Interrupted, encode_json
from headway.log_lines import quiet_logger
from headway.protocol.methods import TOOL_CALL
from headway.protocol.run_uris import REFERENCE_KEY

logger = quiet_logger(__name__)

REQUEST_TIMEOUT = -32001
"""JSON-RPC code of a run that hit its time limit; the number the TypeScript SDK uses."""

End = tuple[Event, dict[str, Any] | None]
"""The terminal event, and the result that is in it, if there is one."""


@cache
def _scope_class() -> type[anyio.CancelScope]:
    """Return the loop's own class of scopes: anyio looks for it each time, which costs as much."""
    return type(anyio.CancelScope())


class RunScope:
    """Cancels what is awaited inside when the run is stopped, as the scope of its execution.

    An author's code may enter scopes of anyio and leave them open: an `AsyncExitStack` that keeps
    a connection for the next call, a generator that is not closed. That is logged and is no
    failure of this run: its result is kept.
    """

    __slots__ = ("_run", "_scope")

    def __init__(self, run: Run) -> None:
        self._run = run
        self._scope = _scope_class()()

    def __enter__(self) -> None:
        self._run.execution.scope = self._scope
        self._scope.__enter__()
        if self._run.stop_event is not None:
            self._scope.cancel()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        run = self._run
        run.execution.scope = None
        try:
            return bool(self._scope.__exit__(kind, error, trace))
        except RuntimeError as trouble:
            text = "run %s: %s left a cancel scope open that it had entered (%s)"
            logger.warning(text, run.reference, run.request.name, trouble)
            return False


def add_note(result: dict[str, Any], note: str) -> dict[str, Any]:
    """Return the result of a call with one more text for its caller.

    Structured content stays as it is: it has the tool's own schema.
    """
    if not isinstance(result.get("content"), list):
        return result
    return {**result, "content": [*result["content"], {"type": "text", "text": note}]}


def end_of_result(run: Run, result: dict[str, Any] | None, *, most: float) -> End:
    """Return the end of a run whose handler returned; `result` is None if a stop cancelled it.

    A result that was already there when the run was stopped is kept. An error is not: the stop
    has caused it, and the caller has to know who stopped the call.
    """
    is_error = result is None or result.get("isError") is True
    if run.stop_event is not None and is_error:
        return run.stop_event, None
    assert result is not None
    if is_error and run.request.method == TOOL_CALL:
        result = _with_reference(run, result)
    return completed_event(run, result, most=most), result


def _with_reference(run: Run, result: dict[str, Any]) -> dict[str, Any]:
    """Return an error with the run's reference in its `_meta`: the log and the lists name it so.

    The text is the author's, and stays as it is.
    """
    meta: dict[str, Any] = result.get("_meta") or {}
    return {**result, "_meta": {REFERENCE_KEY: run.reference, **meta}}


def end_of_failure(run: Run, failure: Failure, error: BaseException) -> End:
    """Return the end of a run whose handler raised; log what its author has to fix."""
    match failure.kind:
        case Kind.PASSING:
            stopped = Interrupted("the server stopped before the run was done")
            return run.stop_event or stopped, None
        case Kind.STOPPED:
            assert run.stop_event is not None
            return run.stop_event, None
        case Kind.REFUSED:
            return error.end if isinstance(error, MirroredFailed) else _refusal_event(failure), None
        case Kind.CRASHED | Kind.ENDED:
            method, target = run.request.method, run.request.target
            who = f"tool {target!r}" if method == TOOL_CALL else method
            log_failure(failure, error, f"run {run.reference}: {who}")
            return _failure_end(run, failure, error)


def _refusal_event(failure: Failure) -> Event:
    known = failure.refusal
    assert known is not None
    data = None if known.data is None else encode_json(known.data)
    return Failed(known.code, known.message, data)


def _failure_end(run: Run, failure: Failure, error: BaseException) -> End:
    """Return the end of a run that crashed or left its task.

    The text names no details. A crash's own text is in `raised`, for the readers that may have it.
    """
    reference = f"(reference {run.reference})"
    if failure.kind is Kind.CRASHED:
        text = f"Internal server error {reference}"
        return Failed(INTERNAL_ERROR, text, raised=message_of(error)), None
    if run.request.method != TOOL_CALL:
        return Failed(INTERNAL_ERROR, f"{run.request.method} {failure.words} {reference}"), None
    text = f"Error executing tool {run.request.target}: the tool {failure.words} {reference}"
    result: dict[str, Any] = {"content": [{"type": "text", "text": text}], "isError": True}
    if run.request.version in MODERN_PROTOCOL_VERSIONS:
        result["resultType"] = "complete"
    return Completed(encode_json(result)), result


def end_in_queue(run: Run) -> Event:
    """Return the end of a run that was stopped before its handler was called."""
    return run.stop_event or Interrupted("the server stopped before the run began")


def end_of_time(run: Run, limit: float) -> Event:
    """Return the end of a run that has taken longer than its limit."""
    error = ToolTimeout(limit)
    return Failed(REQUEST_TIMEOUT, f"{run.request.name} {error} and was stopped")
