"""Event ids: a reader's place as text, so that any process can go on where another stopped.

An id of a run's stream is `<run>.<address>.<seq>`. The address holds the request's JSON-RPC id and
progress token: the journal does not know them, and the client that resumes does not send them. The
address is the client's own data, so a forged one gains nothing. The stream's name, which holds the
session's tag, decides which run the client may read.

An id of a session's own stream (GET) is `get.<tag>.<seq>-<changes>-<listener>`: the position in the
session's stream, the position in the changes, and the name of the GET stream.
"""

import base64
import binascii
import secrets
from dataclasses import dataclass
from typing import cast

import msgspec
from mcp_types.jsonrpc import INVALID_REQUEST

from headway.errors import ProtocolError
from headway.protocol.jsonrpc_message import is_id

LONGEST_EVENT_ID = 10_000
"""Characters of an event id that is looked at. The longest one made here has about 8,300: id
and token of `LONGEST_ID` characters each, every one written as `\\u0001`, in Base64."""


@dataclass(frozen=True, slots=True)
class RunCursor:
    """A place in a run's stream, and how its reader is addressed."""

    run: str
    id: str | int
    token: str | int | None
    seq: int


@dataclass(frozen=True, slots=True)
class SessionCursor:
    """A place in a session's own stream."""

    tag: str
    seq: int
    changes: int = 0
    listener: str = ""


def run_prefix(run: str, identity: str | int, token: str | int | None) -> bytes:
    """Return an event id of a run's stream, up to its `seq`."""
    address = base64.urlsafe_b64encode(msgspec.json.encode([identity, token])).rstrip(b"=")
    return b"%b.%b." % (run.encode(), address)


def session_prefix(tag: str) -> bytes:
    """Return an event id of a session's own stream, up to its `seq`."""
    return b"get.%b." % tag.encode()


def parse_event_id(text: str) -> RunCursor | SessionCursor:
    """Return the position that a `Last-Event-ID` names.

    Raises:
        ProtocolError: It is no event id of this server.
    """
    first, _, rest = text[:LONGEST_EVENT_ID].partition(".")
    middle, _, last = rest.partition(".")
    if first == "get":
        seq, _, others = last.partition("-")
        changes, _, listener = others.partition("-")
        if not is_listener(listener):
            raise unknown_event()
        return SessionCursor(middle, _parse_seq(seq), _parse_seq(changes or "0"), listener)
    if not (first and middle):
        raise unknown_event()
    seq = _parse_seq(last)
    try:
        padded = middle + "=" * (-len(middle) % 4)
        address = msgspec.json.decode(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (binascii.Error, msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError):
        raise unknown_event() from None
    if not isinstance(address, list) or len(cast("list[object]", address)) != 2:
        raise unknown_event()
    identity, token = cast("list[object]", address)
    if not is_id(identity) or not (token is None or is_id(token)):
        raise unknown_event()
    return RunCursor(first, identity, token, seq)


def new_listener() -> str:
    """Return a name for a GET stream that no other one of its session has."""
    return secrets.token_hex(4)


def is_listener(text: str) -> bool:
    """Return whether this may be the name of a GET stream of a session, or is empty."""
    return len(text) <= 8 and all(sign in "0123456789abcdef" for sign in text)


def _parse_seq(text: str) -> int:
    """Return the number of an entry.

    Raises:
        ProtocolError: It is none.
    """
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise unknown_event()
    return int(text)


def unknown_event() -> ProtocolError:
    """Return the one error for a garbled, an expired and a foreign event id."""
    return ProtocolError(
        INVALID_REQUEST,
        "Last-Event-ID names no event of this session (it may have expired); "
        "open the stream without it, or send the request again",
    )
