"""One HTTP request and the way back: what both eras' handlers hold."""

from contextlib import suppress
from ipaddress import ip_network
from typing import Final

from mcp_types.jsonrpc import INVALID_REQUEST
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from headway.auth import expiry_of, principal_of, scopes_of
from headway.errors import ProtocolError
from headway.protocol import render
from headway.protocol.header_lines import read_headers
from headway.protocol.idempotency_key import HEADER as KEY_HEADER
from headway.protocol.jsonrpc_message import VERSION_HEADER
from headway.transport.http.bearer_challenge import BearerChallenge
from headway.transport.http.reply import send_json


class Exchange:
    """One HTTP request: its headers, its caller, and how to answer."""

    __slots__ = (
        "headers", "key", "method", "owner", "receive", "request", "scope", "scopes", "send",
        "until", "version",
    )  # fmt: skip

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.receive = receive
        self.send = send
        self.method: str = scope["method"]
        self.headers = headers = read_headers(scope["headers"])
        self.version = headers.get(VERSION_HEADER)
        """The protocol version in the request's header, or None."""
        self.key = headers.get(KEY_HEADER)
        """The idempotency key in the request's header, or None."""
        self.owner = ""
        self.scopes = frozenset[str]()
        """The scopes of its token; none without one."""
        self.until: float | None = None
        """When its token expires, in seconds since 1970; None: never."""
        if "user" in scope:
            self.owner, self.scopes = principal_of(scope), scopes_of(scope)
            self.until = expiry_of(scope)
        self.request = Request(scope)
        """The request as Starlette's object, which handlers may look at."""

    def rate_name(self) -> str:
        """Return the caller that rates are counted for: its principal, or else its address."""
        return _rate_name(self.owner, self.scope)


IPV6_PREFIX: Final = 64
"""Bits of an IPv6 address that tell subscribers apart: one of them has all addresses below."""


def _rate_name(owner: str, scope: Scope) -> str:
    if owner:
        return f"principal {owner}"
    client = scope.get("client")
    address = str(client[0]) if client else ""
    if ":" in address:
        with suppress(ValueError):  # a server may name clients otherwise
            address = str(ip_network((address.partition("%")[0], IPV6_PREFIX), strict=False))
    return f"address {address}"


class Refusal(ProtocolError):
    """A refusal that knows the id of the request it refuses."""

    def __init__(self, error: ProtocolError, identity: str | int | None) -> None:
        super().__init__(
            error.code,
            error.message,
            status=error.status,
            data=error.data,
            retry_after=error.retry_after,
            limit=error.limit,
            challenge=error.challenge,
        )
        self.identity = identity


class NotAllowed(ProtocolError):
    """A method that the endpoint does not take: 405."""

    def __init__(self, text: str, allow: str) -> None:
        super().__init__(INVALID_REQUEST, text, status=405)
        self.allow = allow


async def send_refusal(send: Send, error: ProtocolError, bearer: BearerChallenge) -> None:
    """Answer with a refusal: its status, and a JSON-RPC error that says what to do."""
    headers: list[tuple[bytes, bytes]] = []
    if isinstance(error, NotAllowed):
        headers.append((b"allow", error.allow.encode()))
    if error.retry_after is not None:
        headers.append((b"retry-after", b"%d" % error.retry_after))
    if error.challenge is not None:
        error_name, more = error.challenge
        value = bearer.header_value(error_name, error.message, more)
        headers.append((b"www-authenticate", value))
    identity = error.identity if isinstance(error, Refusal) else None
    body = render.error_bytes(identity, error.code, error.message, error.data)
    await send_json(send, error.status, body, headers)
