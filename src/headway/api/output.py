"""The output of a tool while it works: `part` and `log`."""

from headway.encoding import as_loggable, encode_value
from headway.engine import current_run, warn_unheard
from headway.events import Log, Part, encode_json
from headway.jsonable import exact_text
from headway.protocol.eras import LOG_LEVELS


def log(data: object, level: str = "info", *, logger: str | None = None) -> None:
    """Send a log message to the client, if it wants messages of this level.

    `data` is anything that `part` takes; what JSON cannot hold is sent as its `str`.

    Raises:
        ValueError: `level` is none of MCP's eight levels.
        RunCancelled: In a thread, when the run was cancelled. Let it pass.
    """
    if level not in LOG_LEVELS:
        raise ValueError(f"level {level!r} is none of {', '.join(LOG_LEVELS)}")
    run = current_run.get()
    if run is None:
        warn_unheard("log()")
        return
    name = None if logger is None else exact_text(logger)
    run.output.emit_event(Log(exact_text(level), encode_json(as_loggable(data)), name))


def part(value: object) -> None:
    """Give out a partial result: every reader of the run gets it at once.

    `value` is anything that JSON has a form for: text, numbers, dicts, lists and other collections,
    iterators, dataclasses, pydantic models, msgspec structs, dates, paths, enums, numbers and
    arrays of libraries; a content block of MCP (a text, an image, a resource link …), an `Image`
    or `Audio` of the SDK or FastMCP; also one inside the other. Bytes are base64, NaN is null.
    Results and checkpoints take the same. The tool's return value stands for itself: parts are
    not added to it.

    Raises:
        TypeError: JSON cannot hold the value.
        RunCancelled: In a thread, when the run was cancelled. Let it pass.
    """
    run = current_run.get()
    if run is None:
        warn_unheard("part()")
        return
    run.output.emit_event(Part(encode_value(value, "part")))
