"""Requests on disk: what another process needs to execute a call, written and read back."""

import msgspec
from mcp.shared.message import ServerMessageMetadata
from mcp.shared.transport_context import TransportContext
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from headway.auth import RequestSource, known_of_caller, name_in
from headway.engine.request import Execute, Request
from headway.engine.run.context import RunContext
from headway.engine.run.run import Run
from headway.events import RequestStored, decode_json, encode_json
from headway.protocol.client_introduction import name_of_client, name_of_introduced


def stored_request(request: Request, *, can_ask: bool = False) -> RequestStored:
    """Return all that it takes to execute a request anew, or in a worker.

    With `can_ask` the client may be asked questions there, where it may be asked here.
    """
    params = encode_json(request.context.body.get("params"))
    return RequestStored(
        request.method,
        request.target,
        request.owner,
        request.version,
        params,
        request.principal,
        request.follows or "",
        owns=request.owns,
        client=request.client,
        access=known_of_caller(),
        can_ask=can_ask and request.context.transport.can_send_request,
        source=None if request.source is None else encode_json(request.source),
    )


def request_from(stored: RequestStored, execute: Execute) -> Request:
    """Return the request of a run that another process accepted; `execute` is its handler."""
    transport = TransportContext(kind="restart", can_send_request=stored.can_ask)
    body = {"method": stored.method, "params": decode_json(stored.params)}
    return Request(
        stored.method,
        stored.target,
        stored.owner,
        RunContext(0, transport, ServerMessageMetadata(), _token_of(stored), body),
        execute,
        stored.version,
        stored.principal,
        stored.follows or None,
        stored.owns,
        caller=name_in(stored.access),
        client_name=_client_name_of(stored),
        source=_source_of(stored),
    )


def _source_of(stored: RequestStored) -> RequestSource | None:
    """Return where a stored request came from, as far as this release can read it."""
    if stored.source is None:
        return None
    try:
        return msgspec.json.decode(stored.source, type=RequestSource)
    except msgspec.MsgspecError:
        return None


def _client_name_of(stored: RequestStored) -> str:
    """Return the name of a stored request's client: from its session, or from the request."""
    if stored.client is not None:
        return name_of_introduced(bytes(stored.client))
    match decode_json(stored.params):
        case {"_meta": {"io.modelcontextprotocol/clientInfo": info}}:
            return name_of_client(info)
        case _:
            return ""


def _token_of(stored: RequestStored) -> str | int | None:
    """Return the progress token of a stored request, or None: handlers name it in notifications."""
    match decode_json(stored.params):
        case {"_meta": {"progressToken": str() | int() as token}}:
            return token
        case _:
            return None


def is_found(run: Run) -> bool:
    """Return whether a client can find its run again without the connection it asked on."""
    has_way_back = run.hooks.has_handle or run.request.options.detached
    return has_way_back or run.request.version not in MODERN_PROTOCOL_VERSIONS
