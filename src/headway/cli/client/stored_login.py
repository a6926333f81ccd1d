"""A login that is kept: the tokens of one server in a file that only its user can read.

It is beside the journals, in the user's data directory. With the tokens it has the client that was
registered for them, and where they are renewed: else a later process would ask the MCP server's own
host for that.
"""

import hashlib
import json
import time
from pathlib import Path
from typing import Any, Final, cast

from mcp.client.auth.oauth2 import OAuthContext
from mcp.shared.auth import OAuthClientInformationFull, OAuthMetadata, OAuthToken
from pydantic import BaseModel, ValidationError

from headway.cli.config_writer import replace_file
from headway.cli.journal_access.server_journal import own_directory

LARGEST: Final = 256 * 1024
"""Bytes of such a file that are read."""


class _Kept(BaseModel):
    url: str
    client: OAuthClientInformationFull | None = None
    tokens: OAuthToken | None = None
    expires_at: float | None = None
    """Seconds since 1970."""
    metadata: OAuthMetadata | None = None
    """Of the authorization server."""


def login_file(url: str) -> Path:
    """Return the file that a login at the server with this URL is kept in."""
    digest = hashlib.sha256(url.encode()).hexdigest()[:24]
    return own_directory("").parent / "logins" / f"{digest}.json"


class StoredLogin:
    """The SDK's `TokenStorage` for one server; `context` is that of the SDK's provider."""

    def __init__(self, url: str) -> None:
        self.file = login_file(url)
        self.context: OAuthContext | None = None
        self._kept = _read(self.file, url)

    @property
    def has_tokens(self) -> bool:
        """Return whether somebody has logged in before."""
        return self._kept.tokens is not None

    @property
    def redirect_port(self) -> int:
        """Return the port that the registered client comes back to; 0 where there is none."""
        client = self._kept.client
        uris = client.redirect_uris if client is not None else None
        return (uris[0].port or 0) if uris else 0

    def forget_client(self) -> None:
        """Forget the registered client: it comes back to a port that cannot be had."""
        self._kept.client = None

    async def get_tokens(self) -> OAuthToken | None:
        """Return the tokens, and tell the provider until when they are good."""
        kept, context = self._kept, self.context
        if context is not None and kept.tokens is not None:
            context.token_expiry_time = kept.expires_at
            context.oauth_metadata = kept.metadata
            if kept.metadata is None:
                kept.tokens.refresh_token = None
        return kept.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        """Keep new tokens."""
        self._kept.tokens = tokens
        within = tokens.expires_in
        self._kept.expires_at = None if within is None else time.time() + within
        if self.context is not None:
            self._kept.metadata = self.context.oauth_metadata
        self._write()

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        """Return the client that was registered."""
        return self._kept.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        """Keep a client that was registered."""
        self._kept.client = client_info
        self._write()

    def _write(self) -> None:
        replace_file(self.file, self._kept.model_dump_json(exclude_none=True))


def _read(file: Path, url: str) -> _Kept:
    """Return what is kept; nothing where the file is missing, damaged or another server's."""
    try:
        with file.open("rb") as opened:
            data = cast("dict[str, Any]", json.loads(opened.read(LARGEST)))
        kept = _Kept.model_validate(data)
    except (OSError, ValueError, ValidationError):
        return _Kept(url=url)
    return kept if kept.url == url else _Kept(url=url)
