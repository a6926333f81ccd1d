"""The access tokens that `[auth]` lets in: what a file says of them, and the check of one.

Imported only where there is `[auth]`: what checks signatures takes a twentieth of a server's start.
"""

from headway.tokens.auth_section import (
    AuthConfig,
    FileToken,
    Introspection,
    ProxyHeaders,
    check_scope,
    parse_auth,
    read_auth,
)
from headway.tokens.issuer_keys import IssuerKeys, KeysUnavailable
from headway.tokens.proxy_caller import ProxyCallers
from headway.tokens.token_check import TokenCheck

__all__ = [
    "AuthConfig",
    "FileToken",
    "Introspection",
    "IssuerKeys",
    "KeysUnavailable",
    "ProxyCallers",
    "ProxyHeaders",
    "TokenCheck",
    "check_scope",
    "parse_auth",
    "read_auth",
]
