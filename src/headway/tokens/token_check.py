"""The check of a token: one of the file by its hash, one of the issuer by its signature.

A token is good or it is not; why is in the log at `debug`, and nowhere that its sender could read.
"""

import hashlib
import time
from collections.abc import Callable
from math import isfinite
from pathlib import Path
from typing import Any, Final, cast

import jwt
from mcp.server.auth.provider import AccessToken

from headway.log_lines import quiet_logger
from headway.tokens.auth_section import AuthConfig, FileToken
from headway.tokens.introspection import TokenIntrospection
from headway.tokens.issuer_keys import IssuerKeys, keys_at_url, keys_in_file, keys_of_issuer

logger = quiet_logger(__name__)

LONGEST: Final = 16 * 1024
"""Characters of a token: more is no token, and is not looked into."""

FILE_ISSUER: Final = "headway:file"
"""The issuer of the file's own tokens: no authorization server can have this name."""


class TokenCheck:
    """Checks bearer tokens by `[auth]`; a `TokenVerifier` of the SDK."""

    def __init__(
        self,
        auth: AuthConfig,
        *,
        keys: IssuerKeys | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._auth = auth
        self._now = now
        self._by_hash = {token.sha256: (name, token) for name, token in auth.tokens.items()}
        asked = auth.introspection
        self._introspection = None if asked is None else TokenIntrospection(asked)
        has_keys = auth.jwks is not None or asked is None
        self._keys = keys or (
            _keys_for(auth.issuer, auth.jwks) if auth.issuer and has_keys else None
        )

    async def verify_token(self, token: str) -> AccessToken | None:
        """Return what a token is good for, or None where it is not good.

        Raises:
            KeysUnavailable: Nobody knows: the issuer's keys cannot be had, or it cannot be asked.
        """
        if len(token) > LONGEST:
            return None
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
        if digest in self._by_hash:
            return self._access_by_file(token, *self._by_hash[digest])
        is_asked = self._keys is None or not _is_jwt(token)
        if self._introspection is not None and is_asked:
            return await self._access_by_answer(token, digest, self._introspection)
        return None if self._keys is None else await self._access_by_issuer(token, self._keys)

    def _access_by_file(self, token: str, name: str, known: FileToken) -> AccessToken | None:
        if known.expires is not None and known.expires <= self._now():
            logger.debug("a token is refused: %s of the file has expired", name)
            return None
        return AccessToken(
            token=token,
            client_id=name,
            subject=name if self._auth.principal == "subject" else None,
            scopes=self._auth.with_implied(known.scopes),
            expires_at=None if known.expires is None else int(known.expires),
            resource=self._auth.resource,
            claims={"iss": FILE_ISSUER},
        )

    async def _access_by_issuer(self, token: str, known: IssuerKeys) -> AccessToken | None:
        try:
            header = jwt.get_unverified_header(token)
            keys = await known.find_keys(_key_id(header, self._auth.algorithms))
            return self._access_of(token, self._claims(token, header["alg"], keys))
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
            logger.debug("a token is refused: %s", error)
            return None

    async def _access_by_answer(
        self, token: str, digest: str, asked: TokenIntrospection
    ) -> AccessToken | None:
        claims = await asked.find_claims(token, digest)
        try:
            return None if claims is None else self._access_of(token, self._checked_claims(claims))
        except ValueError as error:
            logger.debug("a token is refused: %s", error)
            return None

    def _checked_claims(self, claims: dict[str, Any]) -> dict[str, Any]:
        """Return what the authorization server says of a token, where it is for this server.

        It need not name itself, nor an end: its word was asked for just now.

        Raises:
            ValueError: The token is not for this server, of another issuer, or not good now.
        """
        now, leeway, issuer = self._now(), self._auth.leeway, self._auth.issuer
        audience = claims.get("aud")
        if self._auth.resource not in (audience if isinstance(audience, list) else [audience]):
            raise ValueError("it is for another audience")
        if claims.get("iss", issuer) != issuer:
            raise ValueError("it is of another issuer")
        end, begin = (_number_of(claims, name) for name in ("exp", "nbf"))
        if (end is not None and end + leeway <= now) or (begin or 0) - leeway > now:
            raise ValueError("it has expired, or is not good yet")
        return {**claims, "iss": issuer}

    def _claims(self, token: str, algorithm: str, keys: list[jwt.PyJWK]) -> dict[str, Any]:
        """Return the claims of a token that one of the keys has signed.

        Raises:
            jwt.PyJWTError: None has, or a claim is wrong or missing.
        """
        fitting = [key for key in keys if _fits(key, algorithm)]
        if not fitting:
            raise jwt.InvalidKeyError("its key is not known")
        for key in fitting[:-1]:
            try:
                return self._decode(token, algorithm, key)
            except jwt.InvalidSignatureError:
                continue
        return self._decode(token, algorithm, fitting[-1])

    def _decode(self, token: str, algorithm: str, key: jwt.PyJWK) -> dict[str, Any]:
        return jwt.decode(
            token,
            key.key,
            algorithms=[algorithm],
            audience=self._auth.resource,
            issuer=self._auth.issuer,
            leeway=self._auth.leeway,
            options={"require": ["exp", "iss", "aud"]},
        )

    def _access_of(self, token: str, claims: dict[str, Any]) -> AccessToken:
        """Return what the claims say.

        Raises:
            ValueError: They do not say whose the token is.
        """
        subject, client = _text_of(claims, "sub"), _client_in(claims)
        whose = subject if self._auth.principal == "subject" else client
        if not whose:
            raise ValueError(f"it names no {self._auth.principal}")
        return AccessToken(
            token=token,
            client_id=client or whose,
            subject=subject if self._auth.principal == "subject" else None,
            scopes=self._auth.with_implied(_scopes_in(claims)),
            expires_at=_end_of(claims),
            resource=self._auth.resource,
            claims=claims,
        )


def _keys_for(issuer: str, jwks: str | None) -> IssuerKeys:
    if jwks is None:
        return IssuerKeys(keys_of_issuer(issuer))
    return IssuerKeys(keys_at_url(jwks) if "://" in jwks else keys_in_file(Path(jwks)))


def _key_id(header: dict[str, Any], algorithms: tuple[str, ...]) -> str | None:
    """Return the name of the key that a token says it was signed with.

    What else its head says of keys (`jwk`, `jku`, `x5u`) is its sender's word, and not read.

    Raises:
        ValueError: It has an algorithm that is not taken, or must be understood and is not.
    """
    if header.get("alg") not in algorithms:
        raise ValueError("its algorithm is not taken")
    if "crit" in header:
        raise ValueError("it has extensions that must be understood")
    key_id = header.get("kid")
    if key_id is not None and not isinstance(key_id, str):
        raise ValueError("the name of its key is no text")
    return key_id


def _fits(key: jwt.PyJWK, algorithm: str) -> bool:
    """Return whether a key is one of the algorithm's kind, and not made for another one."""
    kinds = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}
    said = key._jwk_data.get("alg")  # pyright: ignore[reportPrivateUsage]
    return key.key_type == kinds[algorithm[:2]] and said in (None, algorithm)


def _is_jwt(token: str) -> bool:
    """Return whether a token has the form of a JWT, whoever made it."""
    try:
        jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, RecursionError):
        return False
    return True


def _end_of(claims: dict[str, Any]) -> int | None:
    end = _number_of(claims, "exp")
    return None if end is None else int(end)


def _number_of(claims: dict[str, Any], name: str) -> float | None:
    """Return a time that a token has.

    Raises:
        ValueError: It is no number.
    """
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise ValueError(f"its {name} is no number")
    return value


def _text_of(claims: dict[str, Any], name: str) -> str | None:
    value = claims.get(name)
    return value if isinstance(value, str) and value else None


def _client_in(claims: dict[str, Any]) -> str | None:
    return _text_of(claims, "client_id") or _text_of(claims, "azp")


def _scopes_in(claims: dict[str, Any]) -> list[str]:
    """Return the scopes of RFC 9068, or those of the claim `scp` that some issuers have instead."""
    for name in ("scope", "scp"):
        value = claims.get(name)
        if isinstance(value, str):
            return value.split()
        if isinstance(value, list):
            return [each for each in cast("list[object]", value) if isinstance(each, str)]
    return []
