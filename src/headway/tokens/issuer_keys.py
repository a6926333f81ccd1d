"""The public keys of an issuer: from a file, a URL, or what its own metadata names.

Keys are fetched when the first token comes, again when a token names a key that is not known, and
once in a while. A provider that is away takes nobody's access for `STALE_AFTER`: what is known goes
on.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import urlsplit

import httpx2
import jwt

from headway.client_config import LOOPBACK
from headway.errors import HeadwayError
from headway.log_lines import quiet_logger
from headway.tokens.bounded_fetch import (
    FAILURES,
    FETCH_TIMEOUT,
    MOST_BYTES,
    BadAnswer,
    fetch,
    object_in,
)

logger = quiet_logger(__name__)

FRESH_FOR: Final = 600.0
"""Seconds after which keys are fetched again: a key that was withdrawn is refused after that."""

FETCH_INTERVAL: Final = 10.0
"""Seconds between two fetches, at least: anybody can send tokens with unknown keys."""

STALE_AFTER: Final = 3600.0
"""Seconds for which known keys are good where they cannot be fetched again."""

WELL_KNOWN: Final = ("oauth-authorization-server", "openid-configuration")

_PUBLIC: Final = frozenset({"RSA", "EC", "OKP"})
"""Kinds of keys that verify and cannot sign."""


class KeysUnavailable(HeadwayError):
    """There are no keys to check a token with: nobody knows whether it is good."""


Load = Callable[[], Awaitable[bytes]]


class IssuerKeys:
    """The keys of one issuer.

    Args:
        load: Returns the set of keys, as JSON (RFC 7517).
        now: Seconds, of a clock that is not set.
    """

    def __init__(self, load: Load, now: Callable[[], float] = time.monotonic) -> None:
        self._load = load
        self._now = now
        self._keys: list[jwt.PyJWK] = []
        self._loaded_at: float | None = None
        self._tried_at: float | None = None
        self._loading: asyncio.Task[None] | None = None

    async def find_keys(self, key_id: str | None) -> list[jwt.PyJWK]:
        """Return the keys that a token may be signed with; none where its key is unknown.

        Raises:
            KeysUnavailable: There are no keys, because they could not be fetched.
        """
        if self._is_older(STALE_AFTER) or not self._named(key_id):
            await self._load_again()
        elif self._is_older(FRESH_FOR):
            self._begin_loading()  # nobody waits for a slow issuer whose key is known
        if self._is_older(STALE_AFTER):
            raise KeysUnavailable("the issuer's keys cannot be fetched")
        return self._named(key_id)

    def _named(self, key_id: str | None) -> list[jwt.PyJWK]:
        # A set with one key needs no names (RFC 7517, 4.5).
        if key_id is None:
            return self._keys if len(self._keys) == 1 else []
        return [key for key in self._keys if key.key_id == key_id]

    def _is_older(self, seconds: float) -> bool:
        return self._loaded_at is None or self._now() - self._loaded_at > seconds

    async def _load_again(self) -> None:
        """Load the keys, if that was not tried just now; several who need it wait for one try."""
        loading = self._begin_loading()
        if loading is not None:
            await asyncio.shield(loading)  # who leaves takes it from nobody else

    def _begin_loading(self) -> "asyncio.Task[None] | None":
        loading, loop = self._loading, asyncio.get_running_loop()
        # An app may be started again in another loop; a task of the last one ends no more.
        if loading is not None and not loading.done() and loading.get_loop() is loop:
            return loading
        if self._tried_at is not None and self._now() - self._tried_at < FETCH_INTERVAL:
            return None
        self._tried_at = self._now()
        self._loading = loop.create_task(self._load_keys())
        return self._loading

    async def _load_keys(self) -> None:
        try:
            async with asyncio.timeout(FETCH_TIMEOUT):
                self._keys = parse_keys(await self._load())
        except FAILURES as error:
            reason = str(error) or type(error).__name__
            logger.warning("the issuer's keys cannot be fetched: %s", reason)
        else:
            self._loaded_at = self._now()


def parse_keys(body: bytes) -> list[jwt.PyJWK]:
    """Return the public keys of a set; what is no key for signatures is left out."""
    rows = object_in(body).get("keys")
    if not isinstance(rows, list):
        raise BadAnswer("it is no set of keys")
    found = [_key_of(row) for row in cast("list[object]", rows)[:100]]
    keys = [key for key in found if key is not None]
    if not keys:
        raise BadAnswer("it has no public key for signatures")
    return keys


def _key_of(row: object) -> jwt.PyJWK | None:
    if not isinstance(row, dict):
        return None
    values = cast("dict[str, Any]", row)
    if values.get("kty") not in _PUBLIC or values.get("use", "sig") != "sig":
        return None
    try:
        return jwt.PyJWK(values)
    except (jwt.PyJWTError, ValueError, TypeError):
        return None


def keys_in_file(file: Path) -> Load:
    """Return what reads a file of keys; it is read again like a URL is fetched again."""

    async def load() -> bytes:
        with file.open("rb") as opened:
            return opened.read(MOST_BYTES)

    return load


def keys_at_url(url: str) -> Load:
    """Return what fetches keys from a URL."""

    async def load() -> bytes:
        return await fetch(url)

    return load


def keys_of_issuer(issuer: str) -> Load:
    """Return what fetches the keys that the issuer's metadata names (RFC 8414, OIDC Discovery)."""

    async def load() -> bytes:
        return await fetch(await _find_keys_url(issuer))

    return load


async def _find_keys_url(issuer: str) -> str:
    trouble: Exception | None = None
    for url in metadata_urls(issuer):
        try:
            metadata = object_in(await fetch(url))
        except (BadAnswer, httpx2.HTTPError) as error:
            trouble = error
            continue
        if metadata.get("issuer") != issuer:
            raise BadAnswer(f"{url} is the metadata of another issuer")
        where = metadata.get("jwks_uri")
        if not isinstance(where, str) or not _is_allowed(where, issuer):
            raise BadAnswer(f"{url} names no keys at an https URL")
        return where
    raise BadAnswer(str(trouble))


def metadata_urls(issuer: str) -> Iterable[str]:
    """Return the URLs at which an issuer's metadata may be, in the order of the specification."""
    parts = urlsplit(issuer)
    origin, path = f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")
    first = [f"{origin}/.well-known/{name}{path}" for name in WELL_KNOWN]
    return dict.fromkeys([*first, f"{origin}{path}/.well-known/{WELL_KNOWN[1]}"])


def _is_allowed(url: str, issuer: str) -> bool:
    """Return whether keys may come from a URL: never in the clear, but from this machine itself."""
    parts = urlsplit(url)
    is_own = parts.hostname in LOOPBACK and urlsplit(issuer).hostname in LOOPBACK
    return parts.scheme == "https" or (parts.scheme == "http" and is_own)
