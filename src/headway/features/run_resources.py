"""Every run as a resource, `headway://runs/<id>`: its state, its progress and its parts so far.

This keeps incremental results inside the specification: any client can read them, and subscribe to
be notified of more. A caller sees only its own runs: reading is a run too, and the run that is read
must have the same owner.
"""

from typing import Any

import msgspec
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError
from mcp_types import (
    EmptyResult,
    ReadResourceResult,
    TextResourceContents,
)
from mcp_types.jsonrpc import INVALID_PARAMS
from msgspec import Raw, Struct

from headway.engine import executing_run
from headway.errors import ResultDropped, StreamNotFound
from headway.events import Completed, Entry
from headway.journal import Journal
from headway.protocol.idempotency_key import GONE, GONE_DATA
from headway.protocol.methods import LISTEN
from headway.protocol.run_for_people import summarize_run
from headway.protocol.run_uris import TEMPLATE, run_of, run_whose_result, uri_of
from headway.protocol.tasks import iso_time
from headway.run_state import parts_of
from headway.stream_names import result_stream
from headway.wrapped_handlers import Handler, wrap_handler

PARTS_BYTES = 1024 * 1024
"""Bytes of the parts that are shown; the newest parts are."""

JSON = "application/json"


class _Progress(Struct, omit_defaults=True):
    progress: float
    total: float | None = None
    message: str | None = None


class _Description(Struct, omit_defaults=True):
    uri: str
    state: str
    method: str = ""
    tool: str | None = None
    progress: _Progress | None = None
    attempt: int = 1
    parts: list[Raw] = []
    earlier_parts_left_out: bool = False
    error: str | None = None
    accepted: str | None = None
    started: str | None = None
    ended: str | None = None


async def describe_run(journal: Journal, stream: str) -> bytes:
    """Return a run as JSON: `state`, `tool`, `progress`, `parts` (newest last), `error`, its times.

    A tool's own error is the state `failed`, with its first line as `error`. `attempt` is there
    where it is not the first one.

    Raises:
        StreamNotFound: There is no such run, or it has been forgotten.
    """
    entries = await journal.read_all_kept(stream)
    is_whole = entries[0].seq == 1
    run = summarize_run(stream, entries)
    parts = parts_of(entries)
    shown = _newest_parts(parts)
    progress = None
    if run.progress is not None:
        progress = _Progress(run.progress, run.total, run.message)
    return msgspec.json.encode(
        _Description(
            uri=uri_of(run.run),
            state=run.state,
            method=run.method,
            tool=run.tool,
            progress=progress,
            attempt=run.attempt or 1,
            parts=shown,
            earlier_parts_left_out=not is_whole or len(shown) < len(parts),
            error=run.error,
            accepted=_time_text(run.times.accepted),
            started=_time_text(run.times.started),
            ended=_time_text(run.times.ended),
        )
    )


def _time_text(seconds: float | None) -> str | None:
    return None if seconds is None else iso_time(seconds)


def _newest_parts(parts: list[Raw]) -> list[Raw]:
    """Return the last parts, as many as fit."""
    room = PARTS_BYTES
    for count, value in enumerate(reversed(parts)):
        room -= len(bytes(value))
        if room < 0:
            return parts[len(parts) - count :]
    return parts


# What a server answers


def install_run_resources(low: Server[Any]) -> None:
    """Let a server that has resources answer for its runs too; all else stays as before."""
    wrap_handler(low, "resources/read", "runs", _read_runs)
    wrap_handler(low, "resources/subscribe", "runs", _subscribe_to_runs)
    wrap_handler(low, "resources/unsubscribe", "runs", _unsubscribe_from_runs)
    wrap_handler(low, LISTEN, "runs", _listen_to_runs)


def _read_runs(inner: Handler) -> Handler:
    async def read_resource(context: Any, params: Any) -> Any:
        whose = run_whose_result(params.uri)
        if whose is not None:
            return await _read_result(whose, params.uri)
        run_id = run_of(params.uri)
        if run_id is None:
            return await inner(context, params)
        try:
            text = (await describe_run(*await _find_run(run_id))).decode()
        except StreamNotFound as error:
            raise _missing_error(params.uri, error) from None
        content = TextResourceContents(uri=params.uri, mime_type=JSON, text=text)
        return ReadResourceResult(contents=[content])

    return read_resource


async def _read_result(run_id: str, uri: str) -> ReadResourceResult:
    """Return a result that was too large for an answer, as the JSON that the tool gave.

    Raises:
        MCPError: There is no such result, it has expired, or it is another caller's.
    """
    try:
        journal, stream = await _find_run(run_id)
        entry = await _find_result(journal, stream, uri)
    except StreamNotFound as error:
        raise _missing_error(uri, error) from None
    assert isinstance(entry.event, Completed)
    text = bytes(entry.event.result).decode()
    return ReadResourceResult(contents=[TextResourceContents(uri=uri, mime_type=JSON, text=text)])


async def _find_result(journal: Journal, stream: str, uri: str) -> Entry:
    """Return the one entry of a result that is kept apart from its run, linked as `uri`.

    Raises:
        StreamNotFound: It has none.
        ResultDropped: It had one, which is no longer kept.
    """
    try:
        return (await journal.read_all_kept(result_stream(stream)))[-1]
    except StreamNotFound:
        end = (await journal.read_all_kept(stream))[-1].event
        if isinstance(end, Completed) and uri.encode() in bytes(end.result):
            raise ResultDropped(stream) from None
        raise


def _subscribe_to_runs(inner: Handler) -> Handler:
    async def subscribe_resource(context: Any, params: Any) -> Any:
        if run_of(params.uri) is None:
            return await inner(context, params)
        if not await _is_known(params.uri):
            raise _unknown_error(params.uri)
        return EmptyResult()

    return subscribe_resource


def _unsubscribe_from_runs(inner: Handler) -> Handler:
    async def unsubscribe_resource(context: Any, params: Any) -> Any:
        return EmptyResult() if run_of(params.uri) is not None else await inner(context, params)

    return unsubscribe_resource


def _listen_to_runs(inner: Handler) -> Handler:
    async def listen_to_changes(context: Any, params: Any) -> Any:
        """Listen without the URIs of runs that are not the caller's."""
        wanted = params.notifications
        if wanted.resource_subscriptions:
            runs = {uri: run_of(uri) for uri in wanted.resource_subscriptions}
            known = await _known_of({run for run in runs.values() if run is not None})
            honored = [uri for uri, run in runs.items() if run is None or run in known]
            wanted.resource_subscriptions = honored
        return await inner(context, params)

    return listen_to_changes


def list_templates(_version: str, page: dict[str, Any]) -> dict[str, Any]:
    """Return a page of a server's resource templates, with that of the runs at its end."""
    if page.get("nextCursor") is not None:
        return page
    return {**page, "resourceTemplates": [*page.get("resourceTemplates", ()), _TEMPLATE]}


_TEMPLATE = {
    "name": "run",
    "title": "A run of a tool",
    "uriTemplate": TEMPLATE,
    "description": "State, progress and partial results of a tool call; the id is in `_meta` of "
    "each partial result. Can be subscribed to.",
    "mimeType": JSON,
}


async def _find_run(run_id: str) -> tuple[Journal, str]:
    """Return the journal and the stream of a run, if it is this caller's.

    Raises:
        StreamNotFound: It is unknown, expired or somebody else's.
    """
    asking = executing_run()
    if asking is None:
        raise StreamNotFound(run_id)
    return asking.journal, await asking.services.names.stream_of(asking, run_id)


async def _known_of(run_ids: set[str]) -> set[str]:
    """Return those of these runs that are the caller's and still kept."""
    asking = executing_run()
    if asking is None or not run_ids:
        return set()
    places = await asking.services.names.streams_of(asking, run_ids)
    return {name for name, place in places.items() if place is not None and not place.is_gone}


async def _is_known(uri: str) -> bool:
    try:
        await _find_run(run_of(uri) or "")
    except StreamNotFound:
        return False
    return True


def _missing_error(uri: str, error: StreamNotFound) -> MCPError:
    """Return why there is nothing to read: dropped, unknown, expired or somebody else's."""
    if isinstance(error, ResultDropped):
        return MCPError(INVALID_PARAMS, GONE, {**GONE_DATA, "uri": uri})
    return _unknown_error(uri)


def _unknown_error(uri: str) -> MCPError:
    shown = "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in uri)
    return MCPError(INVALID_PARAMS, f"Unknown resource: {shown}", {"uri": uri})
