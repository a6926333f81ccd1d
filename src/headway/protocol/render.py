"""Entries of a run, rendered for one request of one client.

A journal's entry knows no JSON-RPC id, no progress token and no era; a `Reader` does. The same
entry for the same reader gives the same bytes: a stream that is read again after a cut is
unchanged.
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec
from mcp.shared.subscriptions import SUBSCRIPTION_ID_META_KEY
from mcp_types.jsonrpc import INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST
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
from headway.protocol.methods import LISTEN
from headway.protocol.run_uris import META_KEY, uri_of

REQUEST_CANCELLED: Final = -32800
"""The code 2025 streams end with after a cancel, as in the official SDK (and LSP)."""

PART_LOGGER: Final = "headway.part"
"""The logger name under which parts reach a client: the protocol has no message for them."""

RAISED: Final = 0
"""The code of an exception that a handler lets out, where its text goes to the client. It is the
official SDK's; JSON-RPC neither reserves nor defines it."""

RELATED: Final = "io.modelcontextprotocol/related-task"
"""The key in `_meta` of messages that belong to a task of 2025-11-25."""

EXPIRED: Final = (
    "The access token has expired while the call went on, and it goes on; with the idempotency key "
    "of the call, if it has one, its result can be had with a fresh token"
)

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
    """Return JSON with U+2028, U+2029 and U+0085 escaped: no reader sees a line end in it."""
    if b"\xe2\x80" in data or b"\xc2\x85" in data:
        for raw, escaped in _SEPARATORS:
            data = data.replace(raw, escaped)
    return data


class Reader(Struct, frozen=True):
    """The reader of a run: the request to answer, and what its client may be sent."""

    id: str | int
    token: str | int | None
    era: Era
    log_rank: Callable[[], int]
    """The lowest level the client wants at the moment, as `rank_of` counts."""
    run: str = ""
    """The id of the run, for a client that wants to read it as a resource."""
    method: str = ""
    """The method of the request; empty for a session's own stream."""
    task: str = ""
    """The task of 2025-11-25 that is waited for: all messages on the way belong to it."""


def render_event(event: Event, reader: Reader) -> bytes | None:
    """Return the JSON-RPC message of `event` for `reader`, or None where it gets none."""
    renderer = _RENDERERS.get(type(event))
    if renderer is None:
        return None
    try:
        data = renderer(event, reader)
    except UnicodeEncodeError:  # a lone surrogate, as file names can hold
        data = renderer(as_encodable(event), reader)
    return data if data is None or data.isascii() else escape_lines(data)


def response_bytes(identity: object, result: Raw) -> bytes:
    """Return a JSON-RPC response."""
    return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (_encode(identity), bytes(result))


def error_bytes(identity: object, code: int, message: str, data: object = None) -> bytes:
    """Return a JSON-RPC error; `identity` is None where the request's id is not known."""
    body = _encode(_ErrorBody(code, message, data))
    return escape_lines(b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (_encode(identity), body))


def notification_bytes(method: str, params: Raw | None) -> bytes:
    """Return a JSON-RPC notification."""
    if params is None:
        return b'{"jsonrpc":"2.0","method":%b}' % _encode(method)
    return b'{"jsonrpc":"2.0","method":%b,"params":%b}' % (_encode(method), bytes(params))


def request_bytes(key: str, method: str, params: Raw | None) -> bytes:
    """Return a JSON-RPC request of the server; the answer comes back under `key`."""
    tail = b"" if params is None else b',"params":%b' % bytes(params)
    return b'{"jsonrpc":"2.0","id":%b,"method":%b%b}' % (_encode(key), _encode(method), tail)


def error_code(event: Event) -> int | None:
    """Return the JSON-RPC error code of a terminal event, or None if it is no error."""
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
    """Return the text for a client of a terminal event that is no result."""
    match event:
        case Failed():
            return event.message
        case Interrupted():
            return f"The call was interrupted: {event.reason}"
        case Cancelled():
            return f"Request cancelled: {event.reason}" if event.reason else "Request cancelled"
        case _:
            return ""


def _render_progress(event: Progress, reader: Reader) -> bytes | None:
    if reader.token is None:
        return None
    params = _ProgressParams(reader.token, event.progress, event.total, event.message)
    return _NOTIFY_PROGRESS + _encode(params) + b"}"


def _render_log(event: Log, reader: Reader) -> bytes | None:
    if rank_of(event.level) < reader.log_rank():
        return None
    params = _LogParams(event.level, event.data, event.logger, _task_meta(reader) or None)
    return _NOTIFY_LOG + _encode(params) + b"}"


def _render_part(event: Part, reader: Reader) -> bytes | None:
    if reader.log_rank() > _INFO:
        return None
    meta = {META_KEY: uri_of(reader.run), **_task_meta(reader)} if reader.run else None
    return _NOTIFY_LOG + _encode(_LogParams("info", event.value, PART_LOGGER, meta)) + b"}"


def _render_restarted(event: Restarted, reader: Reader) -> bytes | None:
    if rank_of("warning") < reader.log_rank():
        return None
    text = f"The server process went away; the call is begun anew, attempt {event.attempt}"
    params = _LogParams("warning", Raw(_encode(text)), "headway", _task_meta(reader) or None)
    return _NOTIFY_LOG + _encode(params) + b"}"


def _render_question(event: InputRequested, reader: Reader) -> bytes | None:
    if not reader.era.asks_on_streams:
        return None
    return request_bytes(event.key, event.method, _with_task_meta(event.params, reader))


def _render_given_up(event: InputReceived, reader: Reader) -> bytes | None:
    """Return the cancellation of a question that the server has given up."""
    if not event.given_up or not reader.era.asks_on_streams:
        return None
    params = {"requestId": event.key, "reason": "The server does not wait for the answer any more"}
    return notification_bytes(
        "notifications/cancelled", _with_task_meta(encode_json(params), reader)
    )


def _render_notified(event: Notified, reader: Reader) -> bytes:
    return notification_bytes(event.method, _with_task_meta(event.params, reader))


def _task_meta(reader: Reader) -> dict[str, Any]:
    return {RELATED: {"taskId": reader.task}} if reader.task else {}


def _with_task_meta(params: Raw | None, reader: Reader) -> Raw | None:
    """Return params that name the task they belong to, where there is one."""
    if not reader.task:
        return params
    said: dict[str, Any] = {} if params is None else decode_json(params)
    return encode_json({**said, "_meta": {**said.get("_meta", {}), **_task_meta(reader)}})


def _render_cancelled(event: Cancelled, reader: Reader) -> bytes:
    """Return the end of a cancelled request, for a reader that is still there."""
    if reader.method == LISTEN:  # no work was lost: the run ends as it would anyway
        meta = {SUBSCRIPTION_ID_META_KEY: reader.id}
        return response_bytes(reader.id, encode_json({"resultType": "complete", "_meta": meta}))
    return error_bytes(reader.id, REQUEST_CANCELLED, error_message(event))


def _render_failed(event: Failed, reader: Reader) -> bytes:
    if event.raised and reader.era.tells_errors:
        return error_bytes(reader.id, RAISED, event.raised)
    return error_bytes(reader.id, event.code, event.message, event.data)


def _render_interrupted(event: Interrupted, reader: Reader) -> bytes:
    return error_bytes(reader.id, INTERNAL_ERROR, error_message(event))


_RENDERERS: Final[dict[type, Callable[[Any, Reader], bytes | None]]] = {
    Progress: _render_progress,
    Log: _render_log,
    Part: _render_part,
    Notified: _render_notified,
    InputRequested: _render_question,
    InputReceived: _render_given_up,
    Restarted: _render_restarted,
    Completed: lambda event, reader: response_bytes(reader.id, event.result),
    Failed: _render_failed,
    Cancelled: _render_cancelled,
    Interrupted: _render_interrupted,
}


def result_gone(reader: Reader) -> bytes:
    """Return the response for a request whose run ended with an end that cannot be read."""
    return error_bytes(reader.id, INVALID_PARAMS, GONE, GONE_DATA)


def render_expired(reader: Reader) -> bytes:
    """Return the response for a request whose token has expired while it was answered."""
    return error_bytes(reader.id, INVALID_REQUEST, EXPIRED, {"error": "invalid_token"})


def lost_stream_error(count: int, reader: Reader) -> bytes | None:
    """Return a log message that says how many entries the reader came too late for."""
    if rank_of("warning") < reader.log_rank():
        return None
    text = f"{count} messages were dropped: this reader was too slow"
    params = _LogParams("warning", Raw(_encode(text)), "headway")
    return _NOTIFY_LOG + _encode(params) + b"}"
