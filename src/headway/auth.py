"""The caller of a request, as the SDK's auth layer found out. Headway checks no tokens itself."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec
from mcp.server.auth.middleware.auth_context import auth_context_var, get_access_token
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser, authorization_context
from mcp.server.auth.provider import AccessToken
from msgspec import Raw

from headway.events import decode_json, encode_json


def principal_of(scope: Mapping[str, Any]) -> str:
    """Return the caller of an ASGI request as a stable text; empty for an anonymous one.

    Client, issuer and subject together: a fresh token of the same caller is the same
    principal, so work may outlive the token that started it.
    """
    user = scope.get("user")
    if not isinstance(user, AuthenticatedUser):
        return ""
    who = authorization_context(user)
    return msgspec.json.encode([who["client_id"], who["issuer"], who["subject"]]).decode()


def known_of_caller() -> Raw | None:
    """Return the claims of the current request's access token, without the token itself."""
    token = get_access_token()
    if token is None:
        return None
    return encode_json(token.model_dump(mode="json", exclude={"token"}, exclude_none=True))


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
