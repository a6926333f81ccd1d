"""An OAuth 2.1 authorization server: the SDK's, with PKCE and registration, and an `Issuer`'s keys.

It has one user, who agrees to everything at once, unless `is_denied`.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from mcp.server.auth.provider import (
    AccessToken,
    AuthorizationCode,
    AuthorizationParams,
    OAuthAuthorizationServerProvider,
    RefreshToken,
    construct_redirect_uri,
)
from mcp.server.auth.routes import create_auth_routes
from mcp.server.auth.settings import ClientRegistrationOptions
from mcp.shared.auth import OAuthClientInformationFull, OAuthToken
from pydantic import AnyHttpUrl
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from tests.auth.issuer import Issuer

from headway.cli.server.listener import listening

Provider = OAuthAuthorizationServerProvider[AuthorizationCode, RefreshToken, AccessToken]


class AuthorizationServer(Provider):
    """Its users' one is alice. What it has given out is in memory."""

    def __init__(self, url: str, scopes: list[str]) -> None:
        self.issuer = Issuer(url)
        self.scopes = scopes
        self.clients: dict[str, OAuthClientInformationFull] = {}
        self.logins: list[list[str]] = []
        """The scopes that were asked for, each time somebody logged in."""
        self.renewals = 0
        self.lifetime = 600
        """Seconds for which its tokens are good, as clients are told."""
        self.margin = 60
        """Seconds for which they are good besides, so that no client has to be quick."""
        self.has_refresh = True
        """Whether clients get what renews a token."""
        self.is_denied = False
        self._codes: dict[str, AuthorizationCode] = {}
        self._renewals: dict[str, RefreshToken] = {}

    @property
    def url(self) -> str:
        return self.issuer.url

    async def get_client(self, client_id: str) -> OAuthClientInformationFull | None:
        return self.clients.get(client_id)

    async def register_client(self, client_info: OAuthClientInformationFull) -> None:
        assert client_info.client_id is not None
        # A client may ask for more later than what it registered for.
        client_info.scope = " ".join(self.scopes)
        self.clients[client_info.client_id] = client_info

    async def authorize(
        self, client: OAuthClientInformationFull, params: AuthorizationParams
    ) -> str:
        back = str(params.redirect_uri)
        if self.is_denied:
            why = "alice does not want it"
            return construct_redirect_uri(
                back, error="access_denied", error_description=why, state=params.state
            )
        self.logins.append(params.scopes or [])
        code = secrets.token_urlsafe(24)
        self._codes[code] = AuthorizationCode(
            code=code, scopes=params.scopes or [], expires_at=time.time() + 60,
            client_id=client.client_id or "", code_challenge=params.code_challenge,
            redirect_uri=params.redirect_uri, resource=params.resource, subject="alice",
            redirect_uri_provided_explicitly=params.redirect_uri_provided_explicitly,
        )  # fmt: skip
        return construct_redirect_uri(back, code=code, state=params.state)

    async def load_authorization_code(
        self, client: OAuthClientInformationFull, authorization_code: str
    ) -> AuthorizationCode | None:
        return self._codes.get(authorization_code)

    async def exchange_authorization_code(
        self, client: OAuthClientInformationFull, authorization_code: AuthorizationCode
    ) -> OAuthToken:
        del self._codes[authorization_code.code]
        return self._give(client, authorization_code.scopes, authorization_code.resource)

    async def load_refresh_token(
        self, client: OAuthClientInformationFull, refresh_token: str
    ) -> RefreshToken | None:
        return self._renewals.get(refresh_token)

    async def exchange_refresh_token(
        self, client: OAuthClientInformationFull, refresh_token: RefreshToken, scopes: list[str]
    ) -> OAuthToken:
        del self._renewals[refresh_token.token]
        self.renewals += 1
        return self._give(client, scopes, refresh_token.resource)

    async def load_access_token(self, token: str) -> AccessToken | None:
        return None

    async def revoke_token(self, token: AccessToken | RefreshToken) -> None:
        pass

    def _give(
        self, client: OAuthClientInformationFull, scopes: list[str], resource: str | None
    ) -> OAuthToken:
        renewal = RefreshToken(
            token=secrets.token_urlsafe(24), client_id=client.client_id or "", scopes=scopes,
            resource=resource,
        )  # fmt: skip
        self._renewals[renewal.token] = renewal
        said = " ".join(scopes)
        token = self.issuer.token(
            aud=resource, client_id=client.client_id, scope=said,
            exp=int(time.time()) + self.lifetime + self.margin,
        )  # fmt: skip
        return OAuthToken(
            access_token=token, expires_in=self.lifetime, scope=said,
            refresh_token=renewal.token if self.has_refresh else None,
        )  # fmt: skip

    def app(self) -> Starlette:
        """The server, for clients that register themselves."""

        async def keys(_request: Request) -> JSONResponse:
            return JSONResponse({"keys": self.issuer.keys})

        options = ClientRegistrationOptions(
            enabled=True, valid_scopes=self.scopes, default_scopes=self.scopes
        )
        routes = create_auth_routes(self, AnyHttpUrl(self.url), client_registration_options=options)
        return Starlette(routes=[*routes, Route("/keys", keys)])


@asynccontextmanager
async def authorizing(*scopes: str) -> AsyncGenerator[AuthorizationServer]:
    """An authorization server that listens; its clients may ask for these scopes."""
    with listening("127.0.0.1", 0) as listener:
        server = AuthorizationServer(f"http://127.0.0.1:{listener.port}/", list(scopes))
        config: Any = uvicorn.Config(
            server.app(), log_level="warning", lifespan="off", access_log=False
        )
        running = uvicorn.Server(config)
        serving = asyncio.create_task(running.serve(sockets=listener.sockets))
        try:
            yield server
        finally:
            running.should_exit = True
            await serving
