"""The section `[auth]`: whose tokens are good at this server, and for whom they speak.

    [auth]
    resource = "https://mcp.example.com/mcp"
    issuer = "https://idp.example.com/"
    scopes = ["mcp"]

    [auth.tools]
    process_batch = ["net"]

    [auth.proxy]
    user_header = "X-Forwarded-User"
    secret = "${PROXY_SECRET}"

    [auth.tokens.ci]
    sha256 = "9f86d0…"
    expires = 2027-01-01

Tokens of an issuer are JWTs (RFC 9068), checked with its public keys. Those of the file are random
texts, of which the file has the hash alone; `headway token` makes both. A reverse proxy that has
logged people in needs none: it names the caller in a header, and proves with a secret that it does.
"""

import re
from collections.abc import Collection, Iterable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from headway.client_config import LOOPBACK
from headway.errors import SetupError
from headway.settings import is_scope, parse_duration_or_zero
from headway.toml_file import (
    ConfigError,
    Mistake,
    TomlFile,
    guess_name,
    read_toml,
    unknown_key,
)
from headway.toml_lines import Key
from headway.toml_sections import Text, mistake_of, path_text

SECTION: Final = "auth"


# The values


def _check_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.fragment:
        raise ValueError(f"must be a URL such as https://mcp.example.com/mcp, not {text!r}")
    if parts.scheme == "http" and parts.hostname not in (*LOOPBACK, "::1"):
        raise ValueError("must be https: over http anybody between can read and change what comes")
    return text


def _check_keys_place(text: str, info: ValidationInfo) -> str:
    if "://" in text:
        return _check_url(text)
    return path_text(text, info)


def check_scope(text: str) -> str:
    """Return a scope (RFC 6749, 3.3).

    Raises:
        ValueError: It is none.
    """
    if not is_scope(text):
        raise ValueError(f"{text!r} is no scope: it has blanks, quotes or other characters")
    return text


def _check_header(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", text):
        raise ValueError(f"{text!r} is no name of a header")
    if text.lower() in _TAKEN_HEADERS:
        raise ValueError(f"{text} has a meaning of its own")
    return text


_TAKEN_HEADERS: Final = ("authorization", "cookie", "host", "origin", "content-type", "accept")


def _check_sha256(text: str) -> str:
    if not re.fullmatch(r"[0-9A-Fa-f]{64}", text):
        raise ValueError("must be the SHA-256 of the token, 64 hexadecimal digits")
    return text.lower()


def _check_no_offline_access(scopes: tuple[str, ...]) -> tuple[str, ...]:
    if "offline_access" in scopes:
        raise ValueError("offline_access is a wish of clients to come back; no request needs it")
    return scopes


def _parse_moment(value: object) -> object:
    """Return a date or a time of TOML as seconds since 1970; without a zone it is UTC's."""
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)  # noqa: DTZ001 - it gets its zone
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, str):
        raise ValueError(f"must be a date such as 2027-01-01, without quotes, not {value!r}")
    return value


def _parse_seconds(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return value  # refused for its type
    try:
        return parse_duration_or_zero(value)
    except SetupError as error:
        raise ValueError(str(error)) from None


_Url = Annotated[Text, AfterValidator(_check_url)]
_Scopes = tuple[Annotated[str, AfterValidator(check_scope)], ...]
_Needed = Annotated[_Scopes, AfterValidator(_check_no_offline_access)]
_Seconds = Annotated[float, BeforeValidator(_parse_seconds, json_schema_input_type=str | float)]
_Moment = Annotated[float, BeforeValidator(_parse_moment, json_schema_input_type=Any)]

Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]
"""Signatures that are taken: with a public key each, so that who can check them can make none."""


# The section


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class FileToken(_Table):
    """A token of the file: its hash, and what it is good for."""

    sha256: Annotated[Text, AfterValidator(_check_sha256)]
    scopes: Annotated[_Scopes, Field(strict=False)] = ()
    expires: _Moment | None = None
    """Seconds since 1970; in the file a date."""


class Introspection(_Table):
    """The endpoint that says of a token whether it is good (RFC 7662)."""

    url: _Url
    client: Text
    """The name of this server at the authorization server."""
    secret: Text
    cache: _Seconds = 30.0
    """Seconds for which an answer is kept: a token that was revoked is good for so long."""


class ProxyHeaders(_Table):
    """The headers by which a reverse proxy says who calls, and the secret that proves it."""

    user_header: Annotated[Text, AfterValidator(_check_header)]
    """The header with the caller's name, once in each request."""
    secret: Annotated[Text, Field(min_length=16)]
    """The secret that the proxy sends with each request."""
    secret_header: Annotated[Text, AfterValidator(_check_header)] = "X-Proxy-Secret"
    scope_header: Annotated[Text, AfterValidator(_check_header)] | None = None
    """The header with the caller's scopes; None: they have none."""

    @model_validator(mode="after")
    def _check_distinct(self) -> Self:
        names = [self.user_header, self.secret_header, self.scope_header or ""]
        if len({name.lower() for name in names}) < len(names):
            raise ValueError("user_header, secret_header and scope_header must be different")
        return self


class AuthConfig(_Table):
    """The section: which tokens are good at this server."""

    resource: _Url | None = None
    """The URL at which clients know the server (RFC 9728); tokens of the issuer must be for it."""
    issuer: _Url | None = None
    """The authorization server, exactly as its tokens say it; None: no JWTs."""
    jwks: Annotated[Text, AfterValidator(_check_keys_place)] | None = None
    """The file or URL with the issuer's keys (RFC 7517); None: found at the issuer (RFC 8414)."""
    algorithms: Annotated[tuple[Algorithm, ...], Field(strict=False)] = ("RS256", "ES256", "EdDSA")
    scopes: Annotated[_Needed, Field(strict=False)] = ()
    """Scopes that the token of each request must have."""
    principal: Literal["subject", "client"] = "subject"
    """The claim that says whose a token is. `client`: for clients that stand for nobody."""
    leeway: _Seconds = 30.0
    """Seconds by which the issuer's clock may differ."""
    implies: dict[str, Annotated[_Scopes, Field(strict=False)]] = Field(
        default_factory=dict[str, tuple[str, ...]]
    )
    """Scopes that a broader one stands for, by its name."""
    introspection: Introspection | None = None
    """Where tokens of the issuer are asked about: all, or with `jwks` those that are no JWTs."""
    proxy: ProxyHeaders | None = None
    """The headers of a reverse proxy that has logged the caller in; None: none is believed."""
    tokens: dict[str, FileToken] = Field(default_factory=dict[str, FileToken])
    """The tokens of the file, by the names of their callers."""
    tools: dict[str, Annotated[_Needed, Field(strict=False)]] = Field(
        default_factory=dict[str, tuple[str, ...]]
    )
    """Scopes that calls of a tool need besides, by its name; it replaces what its author says."""

    _source: TomlFile | None = PrivateAttr(None)
    """The file that it was read from, for the lines of mistakes that are found later."""

    @classmethod
    def read_from(cls, toml: TomlFile) -> Self:
        """Return the section of a file.

        Raises:
            ValidationError: Something in it is wrong.
        """
        found = cls.model_validate(toml.values[SECTION], context={"directory": toml.directory})
        found._source = toml
        return found

    def with_implied(self, scopes: Iterable[str]) -> list[str]:
        """Return scopes with all that they stand for, however far, in order and each once."""
        found = dict.fromkeys(scopes)
        waiting = list(found)
        while waiting:
            more = [each for each in self.implies.get(waiting.pop(), ()) if each not in found]
            found.update(dict.fromkeys(more))
            waiting += more
        return list(found)

    def check_tools(self, server: str, known: Collection[str]) -> None:
        """Check that a server has the tools that scopes are written for.

        Raises:
            SetupError: It does not have all of them; each is named, with its line in the file.
        """
        wrong = [
            (name, f"{server} has no such tool{guess_name(name, sorted(known))}")
            for name in self.tools
            if name not in known
        ]
        if self._source is not None:
            self._source.check(((SECTION, "tools", name), text) for name, text in wrong)
        for name, text in wrong:
            raise SetupError(f"{SECTION}.tools.{name}: {text}")

    @model_validator(mode="after")
    def _check_whole(self) -> Self:
        """Refuse what makes no sense although each value by itself is right."""
        asks = self.introspection is not None
        if (self.issuer or asks) and not self.resource:
            why = "issuer" if self.issuer else "introspection"
            raise ValueError(f"resource is needed with {why}: the URL of this server, with /mcp")
        if asks and not self.issuer:
            raise ValueError("issuer is needed with introspection: where its tokens come from")
        if self.jwks and not self.issuer:
            raise ValueError("issuer is needed with jwks: what the tokens have as iss")
        if not self.issuer and not self.tokens and not self.proxy:
            raise ValueError(
                "lets nobody in; name an issuer, or write [auth.tokens.NAME] (headway token NAME) "
                "or [auth.proxy]"
            )
        return self


def read_auth(file: Path) -> AuthConfig:
    """Return what a file says of tokens; it has nothing but `[auth]`.

    Raises:
        ConfigError: It cannot be read, or something in it is wrong; every mistake is named.
    """
    toml = read_toml(file)
    mistakes: list[Mistake] = [
        ((key,), unknown_key(key, [SECTION])) for key in toml.values if key != SECTION
    ]
    found, wrong = parse_auth(toml)
    toml.check([*mistakes, *wrong])
    if found is None:
        raise ConfigError(f"{file} has no [{SECTION}]")
    return found


def parse_auth(toml: TomlFile) -> tuple[AuthConfig | None, list[Mistake]]:
    """Return what a file's `[auth]` says, or None where it has none, and what is wrong in it."""
    if SECTION not in toml.values:
        return None, []
    try:
        return AuthConfig.read_from(toml), []
    except ValidationError as error:
        wrong = [mistake_of(each, _keys_at) for each in error.errors()]
        return None, [((SECTION, *place), what) for place, what in wrong]


def _keys_at(place: tuple[Key, ...]) -> Iterable[str]:
    for name, table in (("introspection", Introspection), ("proxy", ProxyHeaders)):
        if place[:1] == (name,):
            return table.model_fields
    return FileToken.model_fields if place else AuthConfig.model_fields
