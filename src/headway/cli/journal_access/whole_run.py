"""One run with all that its journal says of it, for a person and for a program."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from headway.cli.exit_codes import ToolFailed

if TYPE_CHECKING:
    from headway.events import Entry, Event
    from headway.journal import Journal
    from headway.protocol.run_for_people import RunSummary


@dataclass(frozen=True, slots=True)
class LoggedMessage:
    """A log message of a run."""

    time: float
    level: str
    logger: str | None
    data: Any


@dataclass(frozen=True, slots=True)
class WholeRun:
    """All that is known of a run."""

    summary: "RunSummary"
    parts: list[Any]
    logs: list[LoggedMessage]
    arguments: dict[str, Any] | None
    """The arguments with their values; None where the journal does not have them."""
    result: dict[str, Any] | None
    error: str | None
    """The whole text of why there is no result."""


async def read_whole_run(journal: "Journal", stream: str) -> WholeRun:
    """Return all that the journal says of a run.

    Raises:
        StreamNotFound: There is no such run any more.
        JournalError: It cannot be read.
    """
    from headway.events import Log, decode_json
    from headway.protocol.run_for_people import summarize_run
    from headway.run_state import parts_of

    entries = await journal.read_all_kept(stream)
    end = entries[-1].event
    result = await read_result(journal, stream, end)
    return WholeRun(
        summary=summarize_run(stream, entries),
        parts=[decode_json(value) for value in parts_of(entries)],
        logs=[logged_message(entry) for entry in entries if isinstance(entry.event, Log)],
        arguments=await _read_arguments(journal, stream),
        result=result,
        error=_whole_error(end, result),
    )


def logged_message(entry: "Entry") -> LoggedMessage:
    """Return the log message that an entry is."""
    from headway.events import Log, decode_json

    event = entry.event
    assert isinstance(event, Log)
    return LoggedMessage(entry.time, event.level, event.logger, decode_json(event.data))


async def read_result(journal: "Journal", stream: str, end: "Event") -> dict[str, Any] | None:
    """Return the result of a run that ends with `end`, also where that has only a link to it."""
    from headway.errors import StreamNotFound
    from headway.events import Completed, decode_json
    from headway.stream_names import result_stream

    if not isinstance(end, Completed):
        return None
    try:
        kept = (await journal.read_all_kept(result_stream(stream)))[-1].event
    except StreamNotFound:
        kept = end
    return decode_json(kept.result if isinstance(kept, Completed) else end.result)


def check_ended_well(end: "Event") -> None:
    """Raise for a run that ended without a result, with the words that its client got.

    Raises:
        ToolFailed: It failed, was cancelled or was interrupted.
    """
    from headway.events import Completed
    from headway.protocol.render import error_message

    if not isinstance(end, Completed):
        raise ToolFailed(error_message(end))


async def follow_entries(
    journal: "Journal", stream: str, *, after: int = 0
) -> "AsyncIterator[Entry]":
    """Yield the entries of a run until its end; those that are gone are passed over.

    Raises:
        StreamNotFound: There is no such run.
    """
    from headway.journal import next_available

    cursor = journal.open_cursor(stream, after=after)
    while not cursor.done:
        for entry in await next_available(journal, cursor):
            yield entry


async def _read_arguments(journal: "Journal", stream: str) -> dict[str, Any] | None:
    """Return the arguments of a run that may be executed again, or by a worker."""
    from headway.engine.recovery.restart_state import load_restart
    from headway.events import decode_json

    known = await load_restart(journal, stream)
    params: object = None if known is None else decode_json(known[0].request.params)
    arguments = cast("dict[str, Any]", params).get("arguments") if isinstance(params, dict) else 0
    return cast("dict[str, Any]", arguments) if isinstance(arguments, dict) else None


def _whole_error(end: "Event", result: dict[str, Any] | None) -> str | None:
    from headway.events import TERMINAL, Completed
    from headway.protocol.render import error_message

    if type(end) not in TERMINAL:
        return None
    if not isinstance(end, Completed):
        return error_message(end)
    if result is None or result.get("isError") is not True:
        return None
    texts = (block.get("text", "") for block in result.get("content", ()))
    return "\n".join(filter(None, texts)) or "the tool reported an error"
