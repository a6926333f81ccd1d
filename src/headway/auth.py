"""The caller of a request, as found by the SDK's auth layer. Nothing here checks tokens."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from hashlib import sha256
from typing import Any, Final

import msgspec
from mcp.server.auth.middleware.auth_context import auth_context_var, get_access_token
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser, authorization_context
from mcp.server.auth.provider import AccessToken
from msgspec import Raw, Struct
from msgspec.structs import replace

from headway.events import decode_json, encode_json
from headway.log_lines import quiet_logger

logger = quiet_logger(__name__)


_FOREIGN_USER: Final = (
    "the app around this one has users of its own, who are all one anonymous caller here: each may "
    "find the others' runs by their keys; give asgi(…, principal=…)"
)
_NO_SUBJECT: Final = (
    "the server's token verifier names no subject: each token is a caller of its own, and who "
    "comes with a fresh one finds none of its tasks and runs; have it set AccessToken.subject"
)

_warned: Final = set[str]()


def _warn_once(text: str) -> None:
    if text not in _warned:
        _warned.add(text)
        logger.warning(text)


def principal_of(scope: Mapping[str, Any]) -> str:
    """Return the caller of an ASGI request as a stable text; empty for an anonymous one.

    Client, issuer and subject together: a fresh token of the same caller is the same
    principal, so work may outlive the token that started it. A token that says nothing of whose it
    is stands for itself: a client may have many users, and none of them is to see another's.
    """
    user = scope.get("user")
    if not isinstance(user, AuthenticatedUser):
        if getattr(user, "is_authenticated", False):
            _warn_once(_FOREIGN_USER)
        return ""
    who = authorization_context(user)
    known = [who["client_id"], who["issuer"], who["subject"]]
    if who["subject"] is None and who["issuer"] is None:
        _warn_once(_NO_SUBJECT)
        known.append(sha256(user.access_token.token.encode("utf-8", "surrogatepass")).hexdigest())
    return msgspec.json.encode(known).decode()


def scopes_of(scope: Mapping[str, Any]) -> frozenset[str]:
    """Return the scopes of the token of an ASGI request; none for an anonymous one."""
    user = scope.get("user")
    return frozenset(user.scopes) if isinstance(user, AuthenticatedUser) else frozenset()


def expiry_of(scope: Mapping[str, Any]) -> float | None:
    """Return when the token of an ASGI request expires, in seconds since 1970; None: never."""
    user = scope.get("user")
    return user.access_token.expires_at if isinstance(user, AuthenticatedUser) else None


def scopes_of_caller() -> frozenset[str] | None:
    """Return the scopes of the current request's token, where the SDK knows one; else None."""
    token = get_access_token()
    return None if token is None else frozenset(token.scopes)


LONGEST_NAME = 200
"""Characters of a caller's name: a token may hold any text."""


def name_of_caller() -> str:
    """Return the name of the current request's caller, for people; empty for an anonymous one."""
    token = get_access_token()
    return "" if token is None else _name_of(token.subject, token.client_id)


def name_in(known: Raw | None) -> str:
    """Return the name of a caller from the claims that `known_of_caller` returned."""
    claims: dict[str, Any] = {} if known is None else decode_json(known)
    return _name_of(claims.get("subject"), claims.get("client_id"))


def _name_of(subject: str | None, client_id: str | None) -> str:
    return (subject or client_id or "")[:LONGEST_NAME]


def known_of_caller() -> Raw | None:
    """Return the claims of the current request's access token, without the token itself."""
    token = get_access_token()
    if token is None:
        return None
    return encode_json(token.model_dump(mode="json", exclude={"token"}, exclude_none=True))


class RequestSource(Struct, frozen=True, omit_defaults=True):
    """Where a request came from, for the audit log."""

    address: str = ""
    """The client's address; `pipe` over stdio."""
    caller: str = ""
    issuer: str = ""
    """The issuer of the access token."""
    trace: str = ""
    """The `traceparent` of the request (W3C Trace Context)."""
    key: str = ""
    """The digest of the call's idempotency key."""


class _Peer(Struct, frozen=True):
    address: str
    trace: str


_peer: ContextVar[_Peer | None] = ContextVar("headway_peer", default=None)

LONGEST_TRACE: Final = 100
"""Characters of a `traceparent`; version 00 has 55."""


@contextmanager
def noting_peer(scope: Mapping[str, Any]) -> Generator[None]:
    """Have `request_source` know where an ASGI request came from, while inside."""
    client = scope.get("client")
    trace = next((value for name, value in scope["headers"] if name == b"traceparent"), b"")
    reset = _peer.set(_Peer(str(client[0]) if client else "", trace.decode("latin-1")))
    try:
        yield
    finally:
        _peer.reset(reset)


def note_pipe() -> None:
    """Have `request_source` know, in this task, that requests come over a pipe."""
    _peer.set(_Peer("pipe", ""))


def request_source() -> RequestSource:
    """Return where the current request came from, as far as it is known."""
    peer, token, user = _peer.get(), get_access_token(), auth_context_var.get()
    return RequestSource(
        address="" if peer is None else peer.address,
        caller="" if token is None else _name_of(token.subject, token.client_id),
        issuer="" if user is None else (authorization_context(user)["issuer"] or ""),
        trace="" if peer is None else peer.trace[:LONGEST_TRACE],
    )


def source_to_keep(meta: Mapping[str, Any], key: str) -> RequestSource | None:
    """Return where a call came from; None where no audit log is kept, so that nothing is stored.

    `meta` is the request's `_meta`, whose `traceparent` counts (SEP-414), and `key` the digest of
    its idempotency key.
    """
    if _peer.get() is None:
        return None
    found, trace = request_source(), meta.get("traceparent")
    if isinstance(trace, str):
        found = replace(found, trace=trace[:LONGEST_TRACE])
    return replace(found, key=key)


@contextmanager
def acting_for(known: Raw | None) -> Generator[None]:
    """Make `get_access_token` return these claims while inside; its `token` is empty."""
    user = None
    if known is not None:
        user = AuthenticatedUser(AccessToken(token="", **decode_json(known)))
    reset = auth_context_var.set(user)
    try:
        yield
    finally:
        auth_context_var.reset(reset)
