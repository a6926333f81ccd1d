"""Entries of a run, rendered for one request of one client.

A journal's entry knows no JSON-RPC id, no progress token and no era; a `Reader` does. Same
entry and same reader, same bytes: a stream read again after a cut is the stream it was.
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec
from mcp.shared.subscriptions import SUBSCRIPTION_ID_META_KEY
from mcp_types.jsonrpc import INTERNAL_ERROR, INVALID_PARAMS
from msgspec import Raw, Struct

from headway.events import (
    Cancelled,
    Completed,
    Event,
    Failed,
    InputReceived,
    InputRequested,
    Interrupted,
    Log,
    Notified,
    Part,
    Progress,
    Restarted,
    as_encodable,
    decode_json,
    encode_json,
)
from headway.jsonable import as_base_type
from headway.protocol.eras import Era, rank_of
from headway.protocol.idempotency_key import GONE, GONE_DATA
from headway.protocol.run_uris import META_KEY, uri_of

REQUEST_CANCELLED: Final = -32800
"""The code 2025 streams end with after a cancel, as in the official SDK (and LSP)."""

PART_LOGGER: Final = "headway.part"
"""The logger name under which parts reach a client: the protocol has no message for them."""

RAISED: Final = 0
"""The code of an exception that a handler lets out, where its text is told: as the official SDK
has it. JSON-RPC neither reserves nor defines it."""

LISTEN: Final = "subscriptions/listen"

RELATED: Final = "io.modelcontextprotocol/related-task"
"""In `_meta` of what belongs to a task of 2025-11-25."""

_INFO: Final = rank_of("info")


class _ProgressParams(Struct, omit_defaults=True, gc=False):
    progressToken: str | int
    progress: int | float
    total: int | float | None = None
    message: str | None = None


class _LogParams(Struct, omit_defaults=True):
    level: str
    data: Raw
    logger: str | None = None
    meta: dict[str, Any] | None = msgspec.field(name="_meta", default=None)


class _ErrorBody(Struct, omit_defaults=True):
    code: int
    message: str
    data: Any = None


_encode = msgspec.json.Encoder(enc_hook=as_base_type).encode
_NOTIFY_PROGRESS: Final = b'{"jsonrpc":"2.0","method":"notifications/progress","params":'
_NOTIFY_LOG: Final = b'{"jsonrpc":"2.0","method":"notifications/message","params":'

_SEPARATORS: Final = (
    ("\u2028".encode(), b"\\u2028"),
    ("\u2029".encode(), b"\\u2029"),
    ("\u0085".encode(), b"\\u0085"),
)


def escape_lines(data: bytes) -> bytes:
    """JSON in which no reader can see a line end: U+2028, U+2029 and U+0085 as escapes."""
    if b"\xe2\x80" in data or b"\xc2\x85" in data:
        for raw, escaped in _SEPARATORS:
            data = data.replace(raw, escaped)
    return data


class Reader(Struct, frozen=True):
    """Who reads a run: the request to answer and what its client may be sent."""

    id: str | int
    token: str | int | None
    era: Era
    log_rank: Callable[[], int]
    """The lowest level the client wants at the moment, as `rank_of` counts."""
    run: str = ""
    """The id of the run, for a client that wants to read it as a resource."""
    method: str = ""
    """What the request is; empty for a session's own stream."""
    task: str = ""
    """The task of 2025-11-25 that is waited for: all that is said on the way belongs to it."""


def render(event: Event, reader: Reader) -> bytes | None:
    """The JSON-RPC message that `event` is for `reader`, or None where it is none of its."""
    renderer = _RENDERERS.get(type(event))
    if renderer is None:
        return None
    try:
        data = renderer(event, reader)
    except UnicodeEncodeError:  # a lone surrogate, as file names can hold
        data = renderer(as_encodable(event), reader)
    return data if data is None or data.isascii() else escape_lines(data)


def response(identity: object, result: Raw) -> bytes:
    """A JSON-RPC response."""
    return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (_encode(identity), bytes(result))


def error(identity: object, code: int, message: str, data: object = None) -> bytes:
    """A JSON-RPC error; `identity` is None where the request's id is not known."""
    body = _encode(_ErrorBody(code, message, data))
    return escape_lines(b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (_encode(identity), body))


def notification(method: str, params: Raw | None) -> bytes:
    """A JSON-RPC notification."""
    if params is None:
        return b'{"jsonrpc":"2.0","method":%b}' % _encode(method)
    return b'{"jsonrpc":"2.0","method":%b,"params":%b}' % (_encode(method), bytes(params))


def request(key: str, method: str, params: Raw | None) -> bytes:
    """A JSON-RPC request of the server; the answer comes back under `key`."""
    tail = b"" if params is None else b',"params":%b' % bytes(params)
    return b'{"jsonrpc":"2.0","id":%b,"method":%b%b}' % (_encode(key), _encode(method), tail)


def error_code(event: Event) -> int | None:
    """The JSON-RPC error code a terminal event ends with, if it is an error."""
    match event:
        case Failed():
            return event.code
        case Interrupted():
            return INTERNAL_ERROR
        case Cancelled():
            return REQUEST_CANCELLED
        case _:
            return None


def error_message(event: Event) -> str:
    """What a client is told of a terminal event that is no result."""
    match event:
        case Failed():
            return event.message
        case Interrupted():
            return f"The call was interrupted: {event.reason}"
        case Cancelled():
            return f"Request cancelled: {event.reason}" if event.reason else "Request cancelled"
        case _:
            return ""


def _progress(event: Progress, reader: Reader) -> bytes | None:
    if reader.token is None:
        return None
    params = _ProgressParams(reader.token, event.progress, event.total, event.message)
    return _NOTIFY_PROGRESS + _encode(params) + b"}"


def _log(event: Log, reader: Reader) -> bytes | None:
    if rank_of(event.level) < reader.log_rank():
        return None
    params = _LogParams(event.level, event.data, event.logger, _related(reader) or None)
    return _NOTIFY_LOG + _encode(params) + b"}"


def _part(event: Part, reader: Reader) -> bytes | None:
    if reader.log_rank() > _INFO:
        return None
    meta = {META_KEY: uri_of(reader.run), **_related(reader)} if reader.run else None
    return _NOTIFY_LOG + _encode(_LogParams("info", event.value, PART_LOGGER, meta)) + b"}"


def _restarted(event: Restarted, reader: Reader) -> bytes | None:
    if rank_of("warning") < reader.log_rank():
        return None
    text = f"The server process went away; the call is begun anew, attempt {event.attempt}"
    params = _LogParams("warning", Raw(_encode(text)), "headway", _related(reader) or None)
    return _NOTIFY_LOG + _encode(params) + b"}"


def _question(event: InputRequested, reader: Reader) -> bytes | None:
    if not reader.era.asks_on_streams:
        return None
    return request(event.key, event.method, _marked(event.params, reader))


def _received(event: InputReceived, reader: Reader) -> bytes | None:
    """A question that the server gives up is cancelled: its client need ask nobody any more."""
    if not event.given_up or not reader.era.asks_on_streams:
        return None
    params = {"requestId": event.key, "reason": "The server does not wait for the answer any more"}
    return notification("notifications/cancelled", _marked(encode_json(params), reader))


def _notified(event: Notified, reader: Reader) -> bytes:
    return notification(event.method, _marked(event.params, reader))


def _related(reader: Reader) -> dict[str, Any]:
    return {RELATED: {"taskId": reader.task}} if reader.task else {}


def _marked(params: Raw | None, reader: Reader) -> Raw | None:
    """Params that say to which task they belong, where they belong to one."""
    if not reader.task:
        return params
    said: dict[str, Any] = {} if params is None else decode_json(params)
    return encode_json({**said, "_meta": {**said.get("_meta", {}), **_related(reader)}})


def _cancelled(event: Cancelled, reader: Reader) -> bytes:
    """Who cancelled by word or by leaving is not here any more; whoever is has to be told."""
    if reader.method == LISTEN:  # nobody's work was lost: it is over as it would be anyway
        meta = {SUBSCRIPTION_ID_META_KEY: reader.id}
        return response(reader.id, encode_json({"resultType": "complete", "_meta": meta}))
    return error(reader.id, REQUEST_CANCELLED, error_message(event))


def _failed(event: Failed, reader: Reader) -> bytes:
    if event.raised and reader.era.tells_errors:
        return error(reader.id, RAISED, event.raised)
    return error(reader.id, event.code, event.message, event.data)


def _interrupted(event: Interrupted, reader: Reader) -> bytes:
    return error(reader.id, INTERNAL_ERROR, error_message(event))


_RENDERERS: Final[dict[type, Callable[[Any, Reader], bytes | None]]] = {
    Progress: _progress,
    Log: _log,
    Part: _part,
    Notified: _notified,
    InputRequested: _question,
    InputReceived: _received,
    Restarted: _restarted,
    Completed: lambda event, reader: response(reader.id, event.result),
    Failed: _failed,
    Cancelled: _cancelled,
    Interrupted: _interrupted,
}


def result_gone(reader: Reader) -> bytes:
    """The response for a request whose run is over, with an end that nobody can read any more."""
    return error(reader.id, INVALID_PARAMS, GONE, GONE_DATA)


def lost_stream_error(count: int, reader: Reader) -> bytes | None:
    """A log message that says how many entries the reader came too late for."""
    if rank_of("warning") < reader.log_rank():
        return None
    text = f"{count} messages were dropped: this reader was too slow"
    params = _LogParams("warning", Raw(_encode(text)), "headway")
    return _NOTIFY_LOG + _encode(params) + b"}"
