"""Who is calling, as the SDK's auth layer found out. Headway checks no tokens itself."""

from collections.abc import Mapping
from typing import Any

import msgspec
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser, authorization_context


def principal_of(scope: Mapping[str, Any]) -> str:
    """The caller of an ASGI request as a stable text; empty for an anonymous one.

    Client, issuer and subject together: a fresh token of the same caller is the same
    principal, so work may outlive the token that started it.
    """
    user = scope.get("user")
    if not isinstance(user, AuthenticatedUser):
        return ""
    who = authorization_context(user)
    return msgspec.json.encode([who["client_id"], who["issuer"], who["subject"]]).decode()
