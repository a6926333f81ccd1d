"""The endpoint behind its tokens: nobody comes in without a good one (RFC 6750, RFC 9728).

The SDK reads the header, keeps the caller for handlers and describes the resource. The answer to
who has no token, or one that is not good or not enough, is made here: it names the scopes, so that
a client asks its user once.
"""

import json
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Final

from mcp.server.auth.middleware.auth_context import AuthContextMiddleware, auth_context_var
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser, BearerAuthBackend
from mcp.server.auth.routes import build_resource_metadata_url, create_protected_resource_routes
from pydantic import AnyHttpUrl
from starlette.authentication import AuthCredentials
from starlette.requests import HTTPConnection
from starlette.routing import BaseRoute
from starlette.types import Receive, Scope, Send

from headway.tokens import AuthConfig, KeysUnavailable, ProxyCallers, TokenCheck
from headway.transport.http.bearer_challenge import BearerChallenge
from headway.transport.http.reply import send_json

RETRY_AFTER: Final = 10
"""Seconds after which a token may be tried again that nobody could check."""

Endpoint = Callable[[Scope, Receive, Send], Awaitable[None]]


class TokenEndpoint:
    """An ASGI app that lets requests with good tokens through to another one."""

    def __init__(self, endpoint: Endpoint, auth: AuthConfig, check: TokenCheck) -> None:
        self._endpoint = AuthContextMiddleware(endpoint)
        self._backend = BearerAuthBackend(check)
        self._proxy = None if auth.proxy is None else ProxyCallers(auth.proxy, auth)
        has_tokens = bool(auth.issuer or auth.tokens)
        self._wanted = "A valid bearer token is needed" if has_tokens else "Come through the proxy"
        # Without an issuer there is nobody from whom a client could get a token.
        described = AnyHttpUrl(auth.resource) if auth.issuer and auth.resource else None
        metadata = "" if described is None else str(build_resource_metadata_url(described))
        self.challenge = BearerChallenge(auth.scopes, metadata)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request whose caller is known to be who it says; refuse all others."""
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        if len(given) > 1:
            await self._refuse(send, 400, "invalid_request", "Authorization is there twice")
            return
        try:
            proxied = self._find_proxied(scope)
        except ValueError as error:
            await self._refuse(send, 401, "", f"{error}")
            return
        try:
            found = proxied or await self._backend.authenticate(HTTPConnection(scope))
        except KeysUnavailable as error:
            body = _body("temporarily_unavailable", f"{error}; try again")
            await send_json(send, 503, body, [(b"retry-after", b"%d" % RETRY_AFTER)])
            return
        if found is None:
            await self._refuse(send, 401, "invalid_token" if given else "", self._wanted)
            return
        credentials, user = found
        missing = [each for each in self.challenge.scopes if each not in credentials.scopes]
        if missing:
            text = f"The token does not have the scope {' '.join(missing)}"
            with _known_as(user):
                await self._refuse(send, 403, "insufficient_scope", text)
            return
        scope["auth"], scope["user"] = credentials, user
        await self._endpoint(scope, receive, send)

    def _find_proxied(self, scope: Scope) -> tuple[AuthCredentials, AuthenticatedUser] | None:
        """Return who the proxy says sends a request; None where that has not come through one.

        The request has no header between the proxy and this server after it.

        Raises:
            ValueError: It says that it came through the proxy, and proves it not.
        """
        if self._proxy is None:
            return None
        caller = self._proxy.find_caller(scope["headers"])
        scope["headers"] = self._proxy.without_own(scope["headers"])
        if caller is None:
            return None
        return AuthCredentials(caller.scopes), AuthenticatedUser(caller)

    async def _refuse(self, send: Send, status: int, error: str, text: str) -> None:
        """Answer with a challenge; without a token it names no error (RFC 6750, 3.1)."""
        headers = [(b"www-authenticate", self.challenge.header_value(error, text))]
        await send_json(send, status, _body(error or "invalid_token", text), headers)


@contextmanager
def _known_as(user: AuthenticatedUser) -> Generator[None]:
    """Have the audit log know whose token is refused."""
    reset = auth_context_var.set(user)
    try:
        yield
    finally:
        auth_context_var.reset(reset)


def _body(error: str, text: str) -> bytes:
    return json.dumps({"error": error, "error_description": text}).encode()


def metadata_routes(auth: AuthConfig, name: str) -> list[BaseRoute]:
    """Return the route at which clients find the issuer; none where the file has all tokens."""
    if not auth.issuer or not auth.resource:
        return []
    return [
        *create_protected_resource_routes(
            AnyHttpUrl(auth.resource),
            [AnyHttpUrl(auth.issuer)],
            list(auth.scopes) or None,
            name,
        )
    ]
