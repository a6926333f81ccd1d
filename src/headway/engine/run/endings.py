"""How a run ends: by what its handler returned or raised, by its limit, or by a stop."""

import logging
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import anyio
from mcp_types import INTERNAL_ERROR
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from headway.engine.failures import Failure, Kind, log_failure
from headway.engine.remote.mirror import MirroredFailed
from headway.engine.run.large_results import completed_event, message_of
from headway.engine.run.run import Run
from headway.errors import ToolTimeout
from headway.events import Completed, Event, Failed, Interrupted, encode_json
from headway.protocol.methods import TOOL_CALL

logger = logging.getLogger(__name__)

REQUEST_TIMEOUT = -32001
"""JSON-RPC code of a run that hit its time limit; the number the TypeScript SDK uses."""

End = tuple[Event, dict[str, Any] | None]
"""The terminal event, and the result in it where it has one."""


@contextmanager
def run_stoppable(run: Run) -> Generator[None]:
    """Let a stop of the run reach what is awaited inside, as a cancel; `run.scope` carries it.

    An author's code may enter scopes of anyio and leave them open: an `AsyncExitStack` that keeps
    a connection for the next call, a generator that is not closed. They are no failure of this
    run, whose result is kept.
    """
    scope = run.scope = anyio.CancelScope()
    scope.__enter__()
    try:
        if run.stop_event is not None:
            scope.cancel()
        yield
    except BaseException as error:
        if not _leave(run, scope, error):
            raise
    else:
        _leave(run, scope, None)
    finally:
        run.scope = None


def _leave(run: Run, scope: anyio.CancelScope, error: BaseException | None) -> bool:
    """Leave the scope; whether the cancel that came through it ends here."""
    try:
        kind = None if error is None else type(error)
        return bool(scope.__exit__(kind, error, None if error is None else error.__traceback__))
    except RuntimeError as trouble:
        text = "run %s: %s left a cancel scope open that it had entered (%s)"
        logger.warning(text, run.reference, run.target or run.method, trouble)
        return False


def end_of_result(run: Run, result: dict[str, Any] | None, *, most: float) -> End:
    """The end of a run whose handler returned; None where a stop ended it.

    A result that is there when somebody asks for a stop is kept. An error is not: it comes of
    the stop, and what the caller has to know is who stopped the call.
    """
    is_error = result is None or result.get("isError") is True
    if run.stop_event is not None and is_error:
        return run.stop_event, None
    assert result is not None
    return completed_event(run, result, most=most), result


def end_of_failure(run: Run, failure: Failure, error: BaseException) -> End:
    """The end of a run whose handler raised; what is the author's to mend is in the log."""
    match failure.kind:
        case Kind.PASSING:
            stopped = Interrupted("the server stopped before the run was done")
            return run.stop_event or stopped, None
        case Kind.STOPPED:
            assert run.stop_event is not None
            return run.stop_event, None
        case Kind.REFUSED:
            return error.end if isinstance(error, MirroredFailed) else _refusal(failure), None
        case Kind.CRASHED | Kind.ENDED:
            who = f"tool {run.target!r}" if run.method == TOOL_CALL else run.method
            log_failure(failure, error, f"run {run.reference}: {who}")
            return _failure(run, failure, error)


def _refusal(failure: Failure) -> Event:
    known = failure.refusal
    assert known is not None
    data = None if known.data is None else encode_json(known.data)
    return Failed(known.code, known.message, data)


def _failure(run: Run, failure: Failure, error: BaseException) -> End:
    """What is told of it: of a crash its own text too, to the readers who are to have it."""
    reference = f"(reference {run.reference})"
    if failure.kind is Kind.CRASHED:
        text = f"Internal server error {reference}"
        return Failed(INTERNAL_ERROR, text, raised=message_of(error)), None
    if run.method != TOOL_CALL:
        return Failed(INTERNAL_ERROR, f"{run.method} {failure.words} {reference}"), None
    text = f"Error executing tool {run.target}: the tool {failure.words} {reference}"
    result: dict[str, Any] = {"content": [{"type": "text", "text": text}], "isError": True}
    if run.version in MODERN_PROTOCOL_VERSIONS:
        result["resultType"] = "complete"
    return Completed(encode_json(result)), result


def end_in_queue(run: Run) -> Event:
    """The end of a run that was stopped before its handler was called."""
    return run.stop_event or Interrupted("the server stopped before the run began")


def end_of_time(run: Run, limit: float) -> Event:
    """The end of a run that takes longer than it may."""
    error = ToolTimeout(limit)
    return Failed(REQUEST_TIMEOUT, f"{run.target or run.method} {error} and was stopped")
