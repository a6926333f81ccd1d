"""The official client's login, with a browser that agrees to everything."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
from mcp.client.auth import OAuthClientProvider
from mcp.shared.auth import (
    AuthorizationCodeResult,
    OAuthClientInformationFull,
    OAuthClientMetadata,
    OAuthToken,
)
from pydantic import AnyUrl


class Kept:
    """A `TokenStorage` in memory."""

    def __init__(self) -> None:
        self.tokens: OAuthToken | None = None
        self.client: OAuthClientInformationFull | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client = client_info


def official(url: str, kept: Kept) -> OAuthClientProvider:
    """The official client's provider, with a browser that is sent back at once."""
    returned: dict[str, Any] = {}

    async def go(address: str) -> None:
        async with httpx2.AsyncClient() as browser:
            answer = await browser.get(address)
        query = parse_qs(urlsplit(answer.headers["location"]).query)
        returned.clear()
        returned.update({name: values[0] for name, values in query.items()})

    async def come_back() -> AuthorizationCodeResult:
        return AuthorizationCodeResult(**returned)

    metadata = OAuthClientMetadata(
        client_name="official", redirect_uris=[AnyUrl("http://127.0.0.1:1/callback")],
        token_endpoint_auth_method="none",
    )  # fmt: skip
    return OAuthClientProvider(url, metadata, kept, redirect_handler=go, callback_handler=come_back)
