"""Servers whose callers are known, and the callers: a token is its bearer's name."""

from typing import Any

from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from pydantic import AnyHttpUrl
from tests.kit.peers import Client, Modern, Session, Wire

from headway import Headway


class Names:
    """Takes every token for the name of whoever brings it."""

    async def verify_token(self, token: str) -> AccessToken | None:
        return AccessToken(token=token, client_id="app", subject=token, scopes=[])


def known_server(name: str = "known") -> Headway:
    """A server that takes nobody without a token."""
    auth = AuthSettings(
        issuer_url=AnyHttpUrl("https://issuer.example"),
        resource_server_url=AnyHttpUrl("http://127.0.0.1/mcp"),
        validate_token_resource=False,
    )
    return Headway(name, auth=auth, token_verifier=Names())


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {name}"}


class KnownModern(Modern):
    """A 2026-07-28 client with a token."""

    def __init__(self, wire: Wire, name: str, capabilities: dict[str, Any] | None = None) -> None:
        super().__init__(wire, capabilities)
        self._name = name

    def headers(self, body: dict[str, Any], extra: Any = None) -> dict[str, str]:
        return super().headers(body, {**bearer(self._name), **(extra or {})})


async def connect_as(
    wire: Wire, era: str, name: str, capabilities: dict[str, Any] | None = None
) -> Client:
    """A client of the newest revision of an era, which is known by its name."""
    if era == "2025":
        return await Session.open(wire, extra=bearer(name), capabilities=capabilities)
    return KnownModern(wire, name, capabilities)
