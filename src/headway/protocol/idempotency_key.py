"""Idempotency keys: a client's own name for a call, so that repeating it does not execute it again.

A key comes in the `Idempotency-Key` header (draft-ietf-httpapi-idempotency-key-header) or, on any
transport, in the request's `_meta`. It belongs to one tool and one set of arguments.
"""

import hashlib
from typing import Any, Final, cast

import msgspec
from mcp_types.jsonrpc import INVALID_PARAMS
from msgspec import Struct

from headway.errors import ProtocolError
from headway.protocol.jsonrpc_message import Message
from headway.protocol.methods import kind_of
from headway.stream_names import tag_of

HEADER: Final = "idempotency-key"
META_KEY: Final = "headway/idempotency-key"

DURABLE: Final = "durable"
"""In a server's declaration of keys: whether it knows them after it was started again."""

LONGEST_SILENCE: Final = "longestSilence"
"""In the same: seconds after which something comes on each stream; null where nothing has to."""

LONGEST_KEY: Final = 255

WRONG_KEY: Final = (
    f"An idempotency key is a text of 1 to {LONGEST_KEY} characters, a UUID for example"
)


def is_key(text: str) -> bool:
    """Return whether a text can be a key."""
    return 0 < len(text) <= LONGEST_KEY


class CallKey(Struct, frozen=True):
    """The key of one call."""

    name: str
    """A digest of the key, so that the stream's name does not reveal it."""
    fingerprint: str
    """A digest of the tool and its arguments."""


def key_of(message: Message, header: str | None = None) -> CallKey | None:
    """Return the key of a tool call; None for one without, and for all other requests.

    A call that goes on with answers to the tool's questions (the multi-round-trip requests of
    2026-07-28) is another step of the same work: key and answers together name it.

    Raises:
        ProtocolError: The key is no text of 1 to 255 characters, or header and body disagree.
    """
    said: object = message.meta.get(META_KEY)
    if (header is None and said is None) or not kind_of(message.method).is_recorded:
        return None
    if header is not None:
        header = _without_quotes(header)
        if said is not None and said != header:
            raise ProtocolError(
                INVALID_PARAMS,
                f"The Idempotency-Key header and {META_KEY!r} in _meta name two keys; send one",
            )
        said = header
    if not isinstance(said, str) or not is_key(said):
        raise ProtocolError(INVALID_PARAMS, WRONG_KEY)
    params = message.params or {}
    step = [params[name] for name in ("requestState", "inputResponses") if params.get(name)]
    asked: list[object] = [message.target, params.get("arguments") or None]
    return CallKey(tag_of(said + _digest_of(step) if step else said), _digest_of(asked))


GONE: Final = (
    "This call was executed, and what it said is no longer kept (keep.max_bytes). It is not "
    "executed again: look at what it did, and give a new call a key of its own"
)

GONE_DATA: Final = {"executed": True}


def result_gone() -> ProtocolError:
    """Return the refusal of a key whose call was executed, and whose result is gone."""
    return ProtocolError(INVALID_PARAMS, GONE, data=GONE_DATA)


def other_call() -> ProtocolError:
    """Return the refusal of a key that was used for something else."""
    return ProtocolError(
        INVALID_PARAMS,
        "This idempotency key was used for another tool or other arguments; repeat a call as it "
        "was, and give each new call a key of its own",
    )


def _without_quotes(header: str) -> str:
    """Return a key without quotes: the draft has a structured string, most clients do not."""
    is_quoted = len(header) > 1 and header[0] == header[-1] == '"'
    return header[1:-1] if is_quoted else header


def _digest_of(value: object) -> str:
    """Return a digest that is the same for the same JSON value, however it was written."""
    canonical = msgspec.json.encode(_canonical_value(value), order="deterministic")
    return hashlib.blake2b(canonical, digest_size=16).hexdigest()


def _canonical_value(value: object) -> object:
    """Return a JSON value with whole floats as integers (`1.0` is `1`) and encodable texts."""
    match value:
        case dict():
            items = cast("dict[str, Any]", value).items()
            return {_canonical_value(name): _canonical_value(item) for name, item in items}
        case list():
            return [_canonical_value(item) for item in cast("list[Any]", value)]
        case float() if value.is_integer():
            return int(value)
        case str():
            return value.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
        case _:
            return value
