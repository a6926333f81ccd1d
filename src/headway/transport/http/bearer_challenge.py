"""The header `WWW-Authenticate`: what is wrong with a token, and how to get a better one.

RFC 6750 (3) says what is in it, RFC 9728 (5.1) where the resource is described.
"""

import re
from dataclasses import dataclass

_NOT_QUOTABLE = re.compile(r"[^ !#-\[\]-~]")
"""Characters that the text of an error has none of (RFC 6750, 3): quotes and all beyond ASCII."""


@dataclass(frozen=True, slots=True)
class BearerChallenge:
    """The challenge of one endpoint."""

    scopes: tuple[str, ...] = ()
    """The scopes that the token of each request must have."""
    metadata: str = ""
    """The URL at which the resource is described; empty where it is not."""

    def header_value(self, error: str, text: str, more: tuple[str, ...] = ()) -> bytes:
        """Return the value of the header; `more` are scopes that a request needs besides.

        Without a token there is no error to name (RFC 6750, 3.1).
        """
        facts = {
            "error": error,
            "error_description": _NOT_QUOTABLE.sub("?", text) if error else "",
            "scope": " ".join(dict.fromkeys((*self.scopes, *more))),
            "resource_metadata": self.metadata,
        }
        told = ", ".join(f'{name}="{value}"' for name, value in facts.items() if value)
        return f"Bearer {told}".strip().encode()
