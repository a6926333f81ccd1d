"""The endpoint of an app that finds its callers itself: an outer app knows who has logged in.

What it says of a request becomes a caller like any other: its sessions, runs, tasks and keys are
its own, and handlers, the log and the audit log know its name.
"""

from collections.abc import Awaitable, Callable
from typing import Final

from mcp.server.auth.middleware.auth_context import AuthContextMiddleware
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from starlette.types import Receive, Scope, Send

APP: Final = "headway:app"
"""The issuer of callers that an outer app names: no authorization server can have this name."""

FindCaller = Callable[[Scope], str | AccessToken | None]
"""Returns who sends an ASGI request: a name, or what a token would say; None: nobody knows."""

Endpoint = Callable[[Scope, Receive, Send], Awaitable[None]]


class CallerEndpoint:
    """An ASGI app that tells another one who calls."""

    def __init__(self, endpoint: Endpoint, find_caller: FindCaller) -> None:
        self._endpoint = AuthContextMiddleware(endpoint)
        self._find_caller = find_caller

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request in the name of its caller, and of nobody where none is known."""
        caller = self._find_caller(scope)
        token = _token_of(caller) if isinstance(caller, str) else caller
        # Never the outer app's own object: nothing here would know it.
        known = {} if token is None else {"user": AuthenticatedUser(token)}
        inner = {name: value for name, value in scope.items() if name not in ("user", "auth")}
        await self._endpoint(inner | known, receive, send)


def _token_of(name: str) -> AccessToken | None:
    if not name:
        return None
    return AccessToken(token="", client_id=APP, subject=name, scopes=[], claims={"iss": APP})
