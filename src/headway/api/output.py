"""What a tool has to say while it works: `part` and `log`."""

from pydantic import BaseModel

from headway.engine import current_run
from headway.protocol.eras import LOG_LEVELS


def log(data: object, level: str = "info", *, logger: str | None = None) -> None:
    """Send a log message to the client, if it wants messages of this level.

    `data` is text or anything JSON can hold.

    Raises:
        ValueError: `level` is none of MCP's eight levels.
        RunCancelled: In a thread, when the run was cancelled. Let it pass.
    """
    if level not in LOG_LEVELS:
        raise ValueError(f"level {level!r} is none of {', '.join(LOG_LEVELS)}")
    run = current_run.get()
    if run is not None:
        run.log(level, _jsonable(data), logger)


def part(value: object) -> None:
    """Give out a partial result: text, or anything JSON can hold.

    It is an entry of the run at once, for whoever follows it. The tool's return value stands
    for itself: parts are not added to it.

    Raises:
        TypeError: JSON cannot hold the value.
        RunCancelled: In a thread, when the run was cancelled. Let it pass.
    """
    run = current_run.get()
    if run is not None:
        run.part(_jsonable(value))


def _jsonable(value: object) -> object:
    return value.model_dump(mode="json", by_alias=True) if isinstance(value, BaseModel) else value
