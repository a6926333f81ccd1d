"""Chunks as they are stored where a journal is encrypted, and read again.

    byte 0       1        2-5     6-13   14-21  22-25  26-37  38 …
    0xFF         1        id of   first  last   bytes  nonce  the chunk, encrypted by AES-256-GCM,
    (in no JSON) version  a key   seq    seq    of it         and 16 bytes that authenticate all

Each stream has a key of its own, made of the fleet's key and the stream's name (HKDF-Expand, RFC
5869). One key may encrypt 2**32 chunks with random nonces of 96 bits (NIST SP 800-38D, 8.3). A busy
fleet writes as many in some weeks, and no stream does. The bytes before the nonce are authenticated
too. So a chunk is good at its own place in its own stream alone.

SQLite hands out the chunks of a page joined by commas. They can be told apart because each says how
long it is, and no byte of JSON in UTF-8 is 0xFF.
"""

import hmac
import os
import struct
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from headway.encryption import Encryption, secrets_of
from headway.errors import SetupError, StreamLocked
from headway.log_lines import quiet_logger

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

logger = quiet_logger(__name__)

MARK: Final = 0xFF
"""The first byte of an encrypted chunk; no JSON has it."""

VERSION: Final = 1

_HEADER: Final = struct.Struct(">BB4sQQI")
"""Mark, version, key, first, last, bytes: all that is authenticated and not secret."""

_NONCE: Final = 12

_TAG: Final = 16

OVERHEAD: Final = _HEADER.size + _NONCE + _TAG
"""Bytes by which an encrypted chunk is longer."""

SAMPLE_BYTES: Final = 6
"""Bytes from a chunk's beginning that say whether it can be read here."""

_STREAMS: Final = 4096
"""Streams whose keys are kept at hand: each takes a few microseconds to make."""


class ChunkCipher:
    """Encrypts and decrypts chunks with the keys of a fleet; without keys it knows what is locked.

    Its methods may be called from any thread.
    """

    def __init__(self, encryption: Encryption | None) -> None:
        self._keys = {} if encryption is None else secrets_of(encryption)
        self._plain = "read" if encryption is None else encryption.plain
        self._is_sealing = encryption is not None and encryption.plain != "write"
        self._own = next(iter(self._keys), b"")
        self._cipher_of = lru_cache(maxsize=_STREAMS)(self._make_cipher)

    def encrypt(self, stream: str, first: int, last: int, data: bytes) -> bytes:
        """Return a chunk as it is stored."""
        if not self._is_sealing:
            return data
        header = _HEADER.pack(MARK, VERSION, self._own, first, last, len(data) + _TAG)
        nonce = os.urandom(_NONCE)
        cipher = self._cipher_of(self._own, stream)
        return b"%b%b%b" % (header, nonce, cipher.encrypt(nonce, data, header))

    def decrypt(self, stream: str, data: bytes) -> bytes | None:
        """Return a chunk as it was before; None: it was changed, or is of another place.

        Raises:
            StreamLocked: It may be right, and cannot be read with the keys that are here.
        """
        why = self._why_locked(data)
        if why is not None:
            raise StreamLocked(f"entries of {stream} {why}")
        if data[:1] != b"\xff":
            return None if self._plain == "refuse" else data
        header, body = data[: _HEADER.size], data[_HEADER.size + _NONCE :]
        if len(data) < OVERHEAD or _HEADER.unpack(header)[-1] != len(body):
            return None
        nonce = data[_HEADER.size : _HEADER.size + _NONCE]
        try:
            return self._cipher_of(data[2:6], stream).decrypt(nonce, body, header)
        except _invalid_tag():  # looked up where something is raised, and only there
            return None

    def decrypt_joined(self, stream: str, joined: Sequence[bytes]) -> bytes | None:
        """Return chunks joined by commas, of which some may be joined already.

        None where one of them was changed, or is of another place, or one is missing.

        Raises:
            StreamLocked: One of them cannot be read with the keys that are here.
        """
        found: list[bytes] = []
        newest = 0
        for data in joined:
            for chunk in _split_joined(data):
                plain = self.decrypt(stream, chunk)
                if plain is None:
                    return None
                found.append(plain)
                first, last = _numbers_of(chunk)
                if first and newest and first != newest + 1:
                    return None
                newest = last
        return b",".join(found)

    def check_samples(self, samples: Sequence[bytes], journal: str) -> None:
        """Check that chunks of a journal can be read here, by their first `SAMPLE_BYTES`.

        Raises:
            SetupError: None of them can; the text says which key is missing, and what to do.
        """
        reasons = [why for data in samples if data and (why := self._why_locked(data))]
        if not reasons:
            return
        text = f"entries of journal {journal} {reasons[0]}"
        if len(reasons) == len(samples):
            raise SetupError(text)
        logger.warning("%s. They are left as they are", text)

    def _why_locked(self, data: bytes) -> str | None:
        """Return why a chunk cannot be read here, and what to do; None: it can, or is damaged."""
        if data[:1] != b"\xff":
            is_refused = self._plain == "refuse" and data[:1] == b"["  # else it is no chunk at all
            return _PLAIN_REFUSED if is_refused else None
        if len(data) < SAMPLE_BYTES:
            return None
        if data[1] != VERSION:
            return f"are encrypted in the form {data[1]}; update Headway"
        key = data[2:6]
        if key in self._keys:
            return None
        has = ", ".join(each.hex() for each in self._keys)
        if not has:
            return (
                f"are encrypted with the key {key.hex()}, and this process has no keys; name the "
                "file with them: keys in [encryption], or HEADWAY_ENCRYPTION_KEYS"
            )
        return (
            f"are encrypted with the key {key.hex()}, and this process has {has}; add that key to "
            "the file with the keys, below the first"
        )

    def _make_cipher(self, key: bytes, stream: str) -> "AESGCM":
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        info = b"headway chunk " + stream.encode("utf-8", "surrogatepass") + b"\x01"
        return AESGCM(hmac.digest(self._keys[key], info, "sha256"))


_PLAIN_REFUSED: Final = (
    'are not encrypted, and others could have written them; write plain = "read" in [encryption] '
    "until they have expired"
)


def _invalid_tag() -> type[Exception]:
    from cryptography.exceptions import InvalidTag

    return InvalidTag


def _numbers_of(chunk: bytes) -> tuple[int, int]:
    """Return the first and the last number in an encrypted chunk; of a plain one (0, 0)."""
    if chunk[:1] != b"\xff":
        return 0, 0
    _, _, _, first, last, _ = _HEADER.unpack_from(chunk)
    return first, last


def _split_joined(data: bytes) -> Iterator[bytes]:
    """Yield the chunks that commas join: each encrypted one, and all plain ones between these."""
    start = 0
    while start < len(data):
        end = len(data)
        if data[start] == MARK and end - start >= OVERHEAD:
            end = start + _HEADER.size + _NONCE + _HEADER.unpack_from(data, start)[-1]
        elif data[start] != MARK:
            found = data.find(b",\xff", start)
            end = end if found < 0 else found
        yield data[start:end]
        start = end + 1
