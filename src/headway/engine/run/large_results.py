"""Results that are too large for a response: stored as a resource, which the response links to.

A client has to hold a response in memory in one piece, and many put it into a model's context. A
result that is too large breaks them after the work is done.
"""

from typing import Any

from msgspec import Raw

from headway.encoding import Hook, to_json
from headway.engine.run.output_limits import size_of
from headway.engine.run.run import Run
from headway.events import Completed, encode_json
from headway.protocol.methods import TOOL_CALL
from headway.protocol.run_uris import result_uri_of
from headway.stream_names import result_stream


def completed_event(run: Run, result: dict[str, Any], *, most: float) -> Completed:
    """Return the terminal event for a result; if it is over `most` bytes, with a link to it.

    Raises:
        TypeError: It is not JSON.
    """
    data = to_json(result, Hook())
    is_complete = result.get("resultType", "complete") == "complete"
    is_result = run.request.method == TOOL_CALL and is_complete
    return Completed(_set_aside(run, result, data) if is_result and size_of(data) > most else data)


MOST_TEXT = 4000
"""Characters of an exception's text that are kept: some libraries put whole documents into it."""


def message_of(error: BaseException) -> str | None:
    """Return an exception's text, shortened to `MOST_TEXT`; None if it has none."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - the author's class
        return None
    return (text if len(text) <= MOST_TEXT else f"{text[: MOST_TEXT - 1]}…") or None


def is_success(result: dict[str, Any]) -> bool:
    """Return whether a result means that the work is done: no tool error, no question back."""
    return result.get("isError") is not True and result.get("resultType", "complete") == "complete"


def _set_aside(run: Run, result: dict[str, Any], data: Raw) -> Raw:
    """Store the result in a stream of its own, and return one with a link to it.

    If it has structured content the returned one is an error: a client that checks it against the
    tool's output schema would refuse anything else.
    """
    run.journal.append_nowait(
        result_stream(run.stream), Completed(data), after=0, recorded=run.events.recorded
    )
    run.services.counters.limit_hit("max_result")
    size, uri = size_of(data), result_uri_of(run.id)
    text = (
        f"The result has {size} bytes, more than an answer may have here. Read it as the resource "
        f"{uri}, or ask {run.request.target} for less."
    )
    link = {
        "type": "resource_link",
        "uri": uri,
        "name": f"result of {run.request.target}",
        "mimeType": "application/json",
        "size": size,
    }
    shown = {name: value for name, value in result.items() if name not in _LARGE}
    shown["content"] = [{"type": "text", "text": text}, link]
    shown["isError"] = bool(result.get("isError")) or "structuredContent" in result
    return encode_json(shown)


_LARGE = ("content", "structuredContent")
