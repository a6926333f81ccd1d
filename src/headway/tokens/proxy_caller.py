"""The caller that a reverse proxy names: it has logged people in, and says who sends a request.

Its word is taken only with a secret that the proxy and this server share, since whoever reaches the
port can send any header.
"""

import hmac
from collections.abc import Sequence
from typing import Final

from mcp.server.auth.provider import AccessToken

from headway.tokens.auth_section import AuthConfig, ProxyHeaders

PROXY: Final = "headway:proxy"
"""The issuer of callers that a proxy names: no authorization server can have this name."""

LONGEST_NAME: Final = 1024
"""Bytes of a caller's name."""

Headers = Sequence[tuple[bytes, bytes]]
"""Headers as ASGI has them: the names in small letters."""


class ProxyCallers:
    """Reads the headers of requests that a proxy has passed on."""

    def __init__(self, said: ProxyHeaders, auth: AuthConfig) -> None:
        self._auth = auth
        self._secret = said.secret.encode()
        self._secret_header = said.secret_header.lower().encode()
        self._user_header = said.user_header.lower().encode()
        self._scope_header = (said.scope_header or "").lower().encode()
        self._shown = said.user_header
        self._own = frozenset({self._secret_header, self._user_header, self._scope_header})

    def without_own(self, headers: Headers) -> list[tuple[bytes, bytes]]:
        """Return the headers without those between the proxy and this server.

        What runs behind it could take one for true that anybody has sent, or show the secret.
        """
        return [each for each in headers if each[0] not in self._own]

    def find_caller(self, headers: Headers) -> AccessToken | None:
        """Return who sends a request, or None where it has not come through the proxy.

        Raises:
            ValueError: It says that it has, and the secret is wrong, or it names nobody.
        """
        secrets = _values_of(self._secret_header, headers)
        if not secrets:
            return None
        if len(secrets) > 1 or not hmac.compare_digest(secrets[0], self._secret):
            raise ValueError("The secret of the proxy is wrong")
        name = self._read_name(headers)
        scopes = [each for text in _values_of(self._scope_header, headers) for each in _words(text)]
        return AccessToken(
            token="",
            client_id=PROXY if self._auth.principal == "subject" else name,
            subject=name if self._auth.principal == "subject" else None,
            scopes=self._auth.with_implied(scopes),
            resource=self._auth.resource,
            claims={"iss": PROXY},
        )

    def _read_name(self, headers: Headers) -> str:
        names = _values_of(self._user_header, headers)
        if len(names) != 1:
            raise ValueError(f"The proxy names {len(names) or 'no'} callers in {self._shown}")
        try:
            name = names[0].decode().strip()
        except UnicodeDecodeError:
            raise ValueError("The name of the caller is no UTF-8") from None
        if not name or len(names[0]) > LONGEST_NAME or not name.isprintable():
            raise ValueError("The name of the caller is empty, too long or not printable")
        return name


def _values_of(name: bytes, headers: Headers) -> list[bytes]:
    return [value for each, value in headers if name and each == name]


def _words(text: bytes) -> list[str]:
    """Return the scopes of a header, with blanks or commas between them."""
    return text.decode("latin-1").replace(",", " ").split()
