"""Every run as a resource, `headway://runs/<id>`: its state, its progress and its parts so far.

This is how incremental results stay inside the specification: any client can read them, and
subscribe to hear of more. A caller sees its own runs and nobody else's: reading is a run too, and
the run that is read has to be in the same place of the journal.
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
from headway.events import Cancelled, Completed, Entry, Event, Failed, Interrupted
from headway.handlers import Handler, wrap_handler
from headway.journal import Journal
from headway.protocol.idempotency_key import GONE, GONE_DATA
from headway.protocol.run_uris import TEMPLATE, run_of, run_whose_result, uri_of
from headway.run_state import parts_of, view_of
from headway.streams import result_stream, run_id_of

PARTS_BYTES = 1024 * 1024
"""Of a run's parts the newest are shown, of so many bytes together."""

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


async def describe(journal: Journal, stream: str) -> bytes:
    """A run as JSON: `state`, `tool`, `progress`, `parts` with the newest last, `error`.

    And `attempt`, where it is not the first one.

    Raises:
        StreamNotFound: There is no such run, or it has been forgotten.
    """
    entries = await journal.read_all_kept(stream)
    is_whole = entries[0].seq == 1
    view = view_of(entries)
    parts = parts_of(entries)
    shown = _newest(parts)
    progress = None
    if view.progress is not None:
        progress = _Progress(view.progress, view.total, view.message)
    return msgspec.json.encode(
        _Description(
            uri=uri_of(run_id_of(stream)),
            state=view.state,
            method=view.method,
            tool=view.target,
            progress=progress,
            attempt=view.attempt,
            parts=shown,
            earlier_parts_left_out=not is_whole or len(shown) < len(parts),
            error=_error(view.end),
        )
    )


def _newest(parts: list[Raw]) -> list[Raw]:
    """The last parts, as many as fit."""
    room = PARTS_BYTES
    for count, value in enumerate(reversed(parts)):
        room -= len(bytes(value))
        if room < 0:
            return parts[len(parts) - count :]
    return parts


def _error(end: Event | None) -> str | None:
    match end:
        case Failed():
            return end.message
        case Interrupted():
            return end.reason
        case Cancelled():
            return end.reason or f"cancelled by the {end.by}"
        case _:
            return None


# What a server answers


def install_run_resources(low: Server[Any]) -> None:
    """Have a server that has resources answer for its runs too; all else it answers as before."""
    wrap_handler(low, "resources/read", "runs", _read)
    wrap_handler(low, "resources/subscribe", "runs", _subscribe)
    wrap_handler(low, "resources/unsubscribe", "runs", _unsubscribe)
    wrap_handler(low, "subscriptions/listen", "runs", _listen)


def _read(inner: Handler) -> Handler:
    async def read(context: Any, params: Any) -> Any:
        whose = run_whose_result(params.uri)
        if whose is not None:
            return await _result(whose, params.uri)
        run_id = run_of(params.uri)
        if run_id is None:
            return await inner(context, params)
        try:
            text = (await describe(*await _place_of(run_id))).decode()
        except StreamNotFound as error:
            raise _missing(params.uri, error) from None
        content = TextResourceContents(uri=params.uri, mime_type=JSON, text=text)
        return ReadResourceResult(contents=[content])

    return read


async def _result(run_id: str, uri: str) -> ReadResourceResult:
    """A result that was too large for an answer: the one that the tool gave, as JSON.

    Raises:
        MCPError: There is none, it has expired, or it is somebody else's.
    """
    try:
        journal, stream = await _place_of(run_id)
        entry = await _result_apart(journal, stream, uri)
    except StreamNotFound as error:
        raise _missing(uri, error) from None
    assert isinstance(entry.event, Completed)
    text = bytes(entry.event.result).decode()
    return ReadResourceResult(contents=[TextResourceContents(uri=uri, mime_type=JSON, text=text)])


async def _result_apart(journal: Journal, stream: str, uri: str) -> Entry:
    """The one entry of a result that is kept apart from its run, which links to it as `uri`.

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


def _subscribe(inner: Handler) -> Handler:
    async def subscribe(context: Any, params: Any) -> Any:
        if run_of(params.uri) is None:
            return await inner(context, params)
        if not await _is_known(params.uri):
            raise _unknown(params.uri)
        return EmptyResult()

    return subscribe


def _unsubscribe(inner: Handler) -> Handler:
    async def unsubscribe(context: Any, params: Any) -> Any:
        return EmptyResult() if run_of(params.uri) is not None else await inner(context, params)

    return unsubscribe


def _listen(inner: Handler) -> Handler:
    async def listen(context: Any, params: Any) -> Any:
        """Of runs that are not the caller's nothing is heard."""
        wanted = params.notifications
        if wanted.resource_subscriptions:
            runs = {uri: run_of(uri) for uri in wanted.resource_subscriptions}
            known = await _known_of({run for run in runs.values() if run is not None})
            honored = [uri for uri, run in runs.items() if run is None or run in known]
            wanted.resource_subscriptions = honored
        return await inner(context, params)

    return listen


def list_templates(_version: str, page: dict[str, Any]) -> dict[str, Any]:
    """A page of a server's list of resource templates, with that of the runs at its end."""
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


async def _place_of(run_id: str) -> tuple[Journal, str]:
    """Where the run is, if it is this caller's.

    Raises:
        StreamNotFound: It is unknown, expired or somebody else's.
    """
    asking = executing_run()
    if asking is None:
        raise StreamNotFound(run_id)
    return asking.journal, await asking.engine.idempotency.stream_of(asking, run_id)


async def _known_of(run_ids: set[str]) -> set[str]:
    """Those of these runs that are the caller's and still kept."""
    asking = executing_run()
    if asking is None or not run_ids:
        return set()
    places = await asking.engine.idempotency.streams_of(asking, run_ids)
    return {name for name, place in places.items() if place is not None and not place.is_gone}


async def _is_known(uri: str) -> bool:
    try:
        await _place_of(run_of(uri) or "")
    except StreamNotFound:
        return False
    return True


def _missing(uri: str, error: StreamNotFound) -> MCPError:
    """Why there is nothing to read: it was dropped; or it is unknown, expired, somebody else's."""
    if isinstance(error, ResultDropped):
        return MCPError(INVALID_PARAMS, GONE, {**GONE_DATA, "uri": uri})
    return _unknown(uri)


def _unknown(uri: str) -> MCPError:
    shown = "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in uri)
    return MCPError(INVALID_PARAMS, f"Unknown resource: {shown}", {"uri": uri})
