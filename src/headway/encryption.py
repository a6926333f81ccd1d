"""The keys that a journal is encrypted with: what a file of them holds.

A file has a key a line: `hwk_` and 32 random bytes as base64url. What follows `#` is a comment. The
first key encrypts and each of them decrypts. So a new key comes below the others first, until all
processes have it, then above them; an old one goes when nothing is left that it has encrypted.
"""

import base64
import binascii
import hmac
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, Self

from headway.errors import SetupError
from headway.private_files import warn_if_exposed

KEY_PREFIX: Final = "hwk_"
"""The beginning of each key: by this people and scanners of secrets recognise one."""

KEY_BYTES: Final = 32

PlainEntries = Literal["refuse", "read", "write"]
"""The fate of entries that are not encrypted; see `Encryption.plain`."""


@dataclass(frozen=True, slots=True)
class Encryption:
    """The keys that the journal is encrypted with, for `Settings(encryption=...)`.

    Raises:
        SetupError: One of the keys is none, or there is none.
    """

    keys: tuple[str, ...] = field(repr=False)
    """The keys of all processes that share the journal, as `headway journal key` makes them. The
    first one encrypts, each of them decrypts."""

    plain: PlainEntries = "refuse"
    """The fate of entries that are not encrypted. `read`: they are read as well, while encryption
    is being switched on. `write`: besides nothing is encrypted yet, until all processes have the
    keys. `refuse`: they are not read, because anybody could have written them."""

    file: Path | None = None
    """The file that the keys were read from."""

    def __post_init__(self) -> None:
        if not self.keys:
            raise SetupError("encryption needs a key; make one with: headway journal key")
        if self.plain not in ("refuse", "read", "write"):
            raise SetupError("plain is refuse, read or write")
        # Read here, so that a wrong one is told at the start.
        if len(secrets_of(self)) != len(self.keys):
            raise SetupError("encryption has the same key twice")

    @classmethod
    def from_file(cls, file: str | Path, *, plain: PlainEntries = "refuse") -> Self:
        """Return the keys of a file.

        Raises:
            SetupError: It cannot be read, or what is in it are no keys.
        """
        path = Path(file)
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no text"
            raise SetupError(f"the file with the keys {path} cannot be read: {why}") from error
        warn_if_exposed(path, "the file with the keys")
        keys = tuple(text for line in lines if (text := line.partition("#")[0].strip()))
        try:
            return cls(keys, plain, path)
        except SetupError as error:
            raise SetupError(f"{path}: {error}") from error


def secrets_of(encryption: Encryption) -> dict[bytes, bytes]:
    """Return the 32 bytes of each key by its id; the first one encrypts.

    Raises:
        SetupError: One of the keys is none.
    """
    found = [_secret_of(text, number) for number, text in enumerate(encryption.keys, 1)]
    return {id_of(secret): secret for secret in found}


def new_key() -> str:
    """Return a new key."""
    made = base64.urlsafe_b64encode(secrets.token_bytes(KEY_BYTES)).decode().rstrip("=")
    return KEY_PREFIX + made


def id_of(secret: bytes) -> bytes:
    """Return the four bytes that name a key and tell nothing of it."""
    return hmac.digest(secret, b"headway key id", "sha256")[:4]


def shown_id(key: str) -> str:
    """Return the id of a key as messages and logs have it.

    Raises:
        SetupError: It is none.
    """
    return id_of(_secret_of(key, 1)).hex()


def _secret_of(text: str, number: int) -> bytes:
    try:
        encoded = text.removeprefix(KEY_PREFIX)
        secret = base64.b64decode(encoded + "=", altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        secret = b""
    if not text.startswith(KEY_PREFIX) or len(secret) != KEY_BYTES:
        # Not the text itself: where it is nearly a key, a log is no place for it.
        raise SetupError(f"key {number} is none; make one with: headway journal key")
    return secret
