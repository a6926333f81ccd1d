"""Results too large for an answer: kept as a resource, with a link to it in their place.

A client has to hold an answer in memory in one piece, and many put it into a model's context: what
is too large for that breaks them, and they have waited for nothing.
"""

from typing import Any

from msgspec import Raw

from headway.encoding import Hook, to_json
from headway.engine.run.output_limits import size_of
from headway.engine.run.run import Run
from headway.events import Completed, encode_json
from headway.protocol.methods import TOOL_CALL
from headway.protocol.run_uris import result_uri_of
from headway.streams import result_stream


def completed_event(run: Run, result: dict[str, Any], *, most: float) -> Completed:
    """How a handler's result ends its run: as it is, or over `most` bytes with a link to it.

    Raises:
        TypeError: It is not JSON.
    """
    data = to_json(result, Hook())
    is_result = run.method == TOOL_CALL and result.get("resultType", "complete") == "complete"
    return Completed(_set_aside(run, result, data) if is_result and size_of(data) > most else data)


MOST_TEXT = 4000
"""Characters of an exception's text that are told: some libraries put whole documents into it."""


def message_of(error: BaseException) -> str | None:
    """What an exception says, as far as a client is told; None where it says nothing."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - the author's class
        return None
    return (text if len(text) <= MOST_TEXT else f"{text[: MOST_TEXT - 1]}…") or None


def is_success(result: dict[str, Any]) -> bool:
    """Whether a result says that the work is done: no tool error, no question back."""
    return result.get("isError") is not True and result.get("resultType", "complete") == "complete"


def _set_aside(run: Run, result: dict[str, Any], data: Raw) -> Raw:
    """Keep the result, and return one with a link to it.

    The result of a tool with structured content becomes an error: a client that knows the schema
    would refuse any other one.
    """
    run.journal.append_nowait(
        result_stream(run.stream), Completed(data), after=0, recorded=run.recorded
    )
    run.engine.tally.limit_hit("max_result")
    size, uri = size_of(data), result_uri_of(run.id)
    text = (
        f"The result has {size} bytes, more than an answer may have here. Read it as the resource "
        f"{uri}, or ask {run.target} for less."
    )
    link = {
        "type": "resource_link",
        "uri": uri,
        "name": f"result of {run.target}",
        "mimeType": "application/json",
        "size": size,
    }
    shown = {name: value for name, value in result.items() if name not in _LARGE}
    shown["content"] = [{"type": "text", "text": text}, link]
    shown["isError"] = bool(result.get("isError")) or "structuredContent" in result
    return encode_json(shown)


_LARGE = ("content", "structuredContent")
