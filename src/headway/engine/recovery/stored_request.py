"""Requests on disk: what another process needs to execute a call, written and read back."""

from mcp.shared.message import ServerMessageMetadata
from mcp.shared.transport_context import TransportContext
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from headway.auth import known_of_caller
from headway.engine.request import Execute, Request
from headway.engine.run.context import RunContext
from headway.engine.run.run import Run
from headway.events import RequestStored, decode_json, encode_json


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
    )


def request_from(stored: RequestStored, execute: Execute) -> Request:
    """Return the request of a run that another process accepted; `execute` is its handler."""
    transport = TransportContext(kind="restart", can_send_request=stored.can_ask)
    return Request(
        stored.method,
        stored.target,
        stored.owner,
        RunContext(0, transport, ServerMessageMetadata(), _token_of(stored), {}),
        execute,
        stored.version,
        stored.principal,
        stored.follows or None,
        stored.owns,
    )


def _token_of(stored: RequestStored) -> str | int | None:
    """Return the progress token of a stored request, or None: handlers name it in notifications."""
    match decode_json(stored.params):
        case {"_meta": {"progressToken": str() | int() as token}}:
            return token
        case _:
            return None


def is_found(run: Run) -> bool:
    """Return whether a client can find its run again without the connection it asked on."""
    return (
        run.hooks.has_handle
        or run.hooks.detached
        or run.request.version not in MODERN_PROTOCOL_VERSIONS
    )
