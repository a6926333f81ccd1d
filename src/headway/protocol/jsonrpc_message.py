"""From a request's bytes to messages, or to the reason why a body is refused.

Pure functions; a refusal is a `ProtocolError` that carries its JSON-RPC code, its HTTP status
and a sentence that says what to do.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeGuard, cast

import msgspec
from mcp.shared.inbound import (
    ERROR_CODE_HTTP_STATUS,
    MCP_NAME_HEADER,
    InboundLadderRejection,
    InboundModernRoute,
    classify_inbound_request,
    decode_header_value,
    find_duplicated_routing_header,
)
from mcp_types import PROTOCOL_VERSION_META_KEY
from mcp_types.jsonrpc import HEADER_MISMATCH, INVALID_PARAMS, INVALID_REQUEST, PARSE_ERROR
from msgspec import Struct

from headway.errors import ProtocolError
from headway.protocol.eras import ERAS
from headway.protocol.json_text import SCALARS, explain_no_json, may_exceed, measure_json
from headway.protocol.line_buffer import BOM
from headway.protocol.methods import LISTEN, TOOL_CALL
from headway.protocol.tasks import METHODS as TASK_METHODS

VERSION_HEADER: Final = "mcp-protocol-version"
SESSION_HEADER: Final = "mcp-session-id"
LAST_EVENT_HEADER: Final = "last-event-id"

LONGEST_ID: Final = 512
"""Characters of a request id or progress token; both come back in every event id."""

TARGETS: Final[Mapping[str, str]] = {
    TOOL_CALL: "name",
    "prompts/get": "name",
    "resources/read": "uri",
    "resources/subscribe": "uri",
    "resources/unsubscribe": "uri",
}
"""The parameter that names the object of a method."""


class Message(Struct, frozen=True):
    """One JSON-RPC message.

    A request has `id` and `method`, a notification only `method`, an answer only `id` (and `body`
    with its result or error).
    """

    body: dict[str, Any]
    method: str | None
    id: str | int | None
    params: dict[str, Any] | None
    target: str | None = None
    """The object of the method: a tool's or prompt's name, a resource's URI."""
    meta: dict[str, Any] = {}
    """The `_meta` of the message, empty where there is none."""
    token: str | int | None = None
    """The progress token, when the client gave one."""

    @property
    def is_request(self) -> bool:
        """True when the message wants an answer."""
        return self.method is not None and self.id is not None


def is_id(value: object) -> TypeGuard[str | int]:
    """Return whether a JSON value can be a request id or a progress token."""
    if isinstance(value, str):
        return len(value) <= LONGEST_ID
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def as_id(value: object) -> str | int | None:
    """Return a JSON value as a request id or a progress token; None where it can be neither.

    Where a language has one type for all numbers, 3 is sent as `3.0`: that is 3.
    """
    if value is None:
        return None
    if type(value) is int and -(2**63) < value < 2**63:  # as most are
        return value
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if is_id(value) else None


def parse_body(body: bytes, max_depth: int, max_values: int) -> object:
    """Return the JSON value of a body, a byte order mark ignored.

    Its values are counted before any of them is built.

    Raises:
        ProtocolError: It holds more than `max_values` arrays and objects or `SCALARS` times as many
            values (413), nests deeper than `max_depth`, or is no JSON in UTF-8.
    """
    body = body.removeprefix(BOM)
    # There are no more levels than containers, so most bodies pass here.
    if may_exceed(body, min(max_depth, max_values), max_values * SCALARS):
        found = measure_json(body, max_values)
        if found.containers > max_values or found.values > max_values * SCALARS:
            raise _too_many_values(max_values)
        if found.depth > max_depth:
            raise _too_deep(max_depth)
    try:
        return msgspec.json.decode(body)
    except RecursionError:
        raise _too_deep(max_depth) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        reason = explain_no_json(body) or str(error)
        raise ProtocolError(PARSE_ERROR, f"The body is not valid JSON: {reason}") from None


def _too_many_values(max_values: int) -> ProtocolError:
    return ProtocolError(
        INVALID_REQUEST,
        f"The JSON holds more than {max_values} arrays and objects, or {max_values * SCALARS} "
        "values in all; send less at once, or have the operator raise max_values",
        status=413,
        limit="max_values",
    )


def _too_deep(max_depth: int) -> ProtocolError:
    return ProtocolError(
        PARSE_ERROR,
        f"The JSON is nested too deeply; {max_depth} levels are accepted (max_depth)",
        limit="max_depth",
    )


def read_message(value: object) -> Message:
    """Return a JSON value as one JSON-RPC message.

    Raises:
        ProtocolError: It is no message.
    """
    if not isinstance(value, dict):
        raise _no_message("The body must be one JSON-RPC message: an object")
    body = cast("dict[str, Any]", value)
    if body.get("jsonrpc") != "2.0":
        raise _no_message('The message lacks "jsonrpc": "2.0"')
    method, params, identity = body.get("method"), body.get("params"), as_id(body.get("id"))
    if "id" in body and identity is None:
        raise _no_message(
            f"The message's id must be an integer or a string of at most {LONGEST_ID} characters"
        )
    if method is None:
        if identity is None or ("result" in body) == ("error" in body):
            raise _no_message("The message has no method, and is no answer with a result or error")
        return Message(body, None, identity, None)
    if not isinstance(method, str):
        raise _no_message("The message's method must be a string")
    if params is not None and not isinstance(params, dict):
        raise _no_message("The message's params must be an object")
    message = make_message(body, method, identity, body.get("params") or {})
    if identity is not None and message.token is None and "progressToken" in message.meta:
        raise ProtocolError(
            INVALID_PARAMS,
            "params._meta.progressToken must be an integer or a string of at most "
            f"{LONGEST_ID} characters; leave it out to hear of no progress",
        )
    return message


def make_message(
    body: dict[str, Any], method: str, identity: str | int | None, params: dict[str, Any]
) -> Message:
    """Return a message that has a method, with what is asked of its params again and again."""
    target = params.get(TARGETS[method]) if method in TARGETS else None
    meta: dict[str, Any] = params["_meta"] if isinstance(params.get("_meta"), dict) else {}
    return Message(
        body,
        method,
        identity,
        body.get("params"),
        target if isinstance(target, str) else None,
        meta,
        as_id(meta.get("progressToken")),
    )


def _no_message(text: str) -> ProtocolError:
    return ProtocolError(INVALID_REQUEST, text)


def check_version(version: str | None) -> None:
    """Refuse a protocol version that no revision has.

    Raises:
        ProtocolError: The text names the versions that are served.
    """
    if version is not None and version not in ERAS:
        # Some clients look for the first words, and some for the code, if they do not know the
        # data.
        raise ProtocolError(
            INVALID_PARAMS,
            f"Unsupported protocol version: MCP-Protocol-Version {version[:32]!r} is not served; "
            f"use one of {', '.join(ERAS)}",
            data={"supported": list(ERAS), "requested": version[:32]},
        )


def classify_modern(
    message: Message, headers: dict[str, str], raw: Sequence[tuple[bytes, bytes]]
) -> InboundModernRoute:
    """Check a 2026-07-28 request, and its headers against it.

    Raises:
        ProtocolError: With the code and status of the first rule it breaks.
    """
    # A mapping folds duplicates; where none were folded there are none.
    if len(headers) != len(raw):
        duplicated = find_duplicated_routing_header((name.decode("latin-1"), "") for name, _ in raw)
        if duplicated is not None:
            raise ProtocolError(HEADER_MISMATCH, f"{duplicated} header appears more than once")
    verdict = classify_enveloped(message, headers)
    if message.method in TASK_METHODS:
        task = (message.params or {}).get("taskId")
        name = headers.get(MCP_NAME_HEADER)
        # Clients in the field leave it out (fastmcp-tasks 4.1): nothing is misrouted by that.
        if name is not None and decode_header_value(name) != task:
            raise ProtocolError(
                HEADER_MISMATCH,
                "mcp-name header does not match the request body's 'taskId' parameter",
            )
    return verdict


def classify_enveloped(
    message: Message, headers: dict[str, str] | None = None
) -> InboundModernRoute:
    """Check a 2026-07-28 request by itself, as it comes where there are no headers.

    Raises:
        ProtocolError: With the code and status of the first rule it breaks.
    """
    verdict = classify_inbound_request(message.body, headers=headers)
    if isinstance(verdict, InboundLadderRejection):
        raise refusal_of(verdict)
    return verdict


def has_envelope(value: object) -> bool:
    """Return whether a message speaks 2026-07-28: its `_meta` names a version.

    An `initialize` does not, whatever its `_meta` says: 2026-07-28 has no handshake.
    """
    match value:
        case {"method": str() as method, "params": {"_meta": {}}}:
            meta = cast("dict[str, dict[str, dict[str, object]]]", value)["params"]["_meta"]
            return method != "initialize" and PROTOCOL_VERSION_META_KEY in meta
        case _:
            return False


def identity_of(value: object) -> str | int | None:
    """Return the id that a refusal of this value can name; None where no request is seen."""
    body = cast("dict[str, object]", value) if isinstance(value, dict) else {}
    return as_id(body.get("id")) if "method" in body else None


def refusal_of(rejection: InboundLadderRejection) -> ProtocolError:
    """Return a rejection of the SDK's rules as a `ProtocolError`."""
    status = ERROR_CODE_HTTP_STATUS.get(rejection.code, 400)
    return ProtocolError(rejection.code, rejection.message, status=status, data=rejection.data)


def subscribed_resources(message: Message) -> list[object]:
    """Return the resources that a `subscriptions/listen` names, however malformed it is."""
    if message.method != LISTEN:
        return []
    wanted = (message.params or {}).get("notifications")
    uris = cast("dict[str, object]", wanted if isinstance(wanted, dict) else {}).get(
        "resourceSubscriptions"
    )
    return cast("list[object]", uris) if isinstance(uris, list) else []
