"""The token of a start: made by a server, kept in a file, and found there by the same user.

A server that listens on loopback can be reached by every user and every program of its machine.
With `--local-token` it makes a token when it starts and writes it into a file of mode 0600, one for
each address that it listens on. `headway call` and the like look there for the address that they
ask. What is not exactly that address gets nothing: `localhost` may lead to another user's server.
"""

import hashlib
import os
import secrets
import stat
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from headway.cli.environment import for_ourselves
from headway.cli.journal_access.server_journal import own_directory
from headway.errors import SetupError

if TYPE_CHECKING:
    from headway.cli.server.listener import Listener
    from headway.tokens import AuthConfig

CALLER: Final = "local"
"""The name of whoever calls with it, as the log and `headway runs` say."""

TOKEN_PREFIX: Final = "hw_"
"""The beginning of each token, by which scanners for secrets can know one."""

HASH: Final = "HEADWAY_LOCAL_TOKEN_SHA256"
"""Variable with the hash of the token, for the processes of `--workers` and `--reload`."""

LONGEST: Final = 200
"""Bytes that are read of a file."""


class LocalToken:
    """The token of this start; in a process of a crew its hash alone."""

    def __init__(self) -> None:
        self.text = TOKEN_PREFIX + secrets.token_urlsafe(32)
        inherited = for_ourselves().get(HASH)
        self.sha256 = inherited or hashlib.sha256(self.text.encode()).hexdigest()

    def added_to(self, auth: "AuthConfig | None") -> "AuthConfig":
        """Return the tokens that let in, with this one among them.

        Raises:
            SetupError: There is one of its name.
        """
        from headway.tokens import AuthConfig, FileToken

        mine = FileToken(sha256=self.sha256, scopes=() if auth is None else auth.scopes)
        if auth is None:
            return AuthConfig(tokens={CALLER: mine})
        if CALLER in auth.tokens:
            raise SetupError(f"[auth.tokens.{CALLER}] has the name of --local-token; rename it")
        return auth.model_copy(update={"tokens": {**auth.tokens, CALLER: mine}})

    @contextmanager
    def offered(self, listener: "Listener") -> "Generator[Path]":
        """Write it for each address of a listener; the files are gone when this is left.

        Raises:
            SetupError: There is no port, and the listener is closed; or a file cannot be written.
        """
        hosts = listener.hosts
        if not hosts:
            listener.close()
            raise SetupError(
                "--local-token is for a port; a socket in the file system is its owner's by its "
                "mode"
            )
        files = [token_file(host, listener.port) for host in hosts]
        try:
            for file in files:
                _write(file, self.text)
            yield files[0]
        finally:
            _remove_own(files, self.text)


def token_file(host: str, port: int) -> Path:
    """Return the file with the token of the server at an address."""
    name = f"{host.strip('[]').lower().replace(':', '-')}_{port}"
    return own_directory("").parent / "tokens" / name


def find_token(url: str) -> str | None:
    """Return the token of the server at a URL, if one of this user has left it; else None."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
        file = token_file(parts.hostname or "", port)
        return _read(file)
    except (OSError, ValueError, KeyError):
        return None


def _read(file: Path) -> str | None:
    """Return what a file holds that is this user's alone; None: it may be anybody's.

    Raises:
        OSError: There is none.
    """
    descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    with os.fdopen(descriptor, "rb") as opened:
        status = os.fstat(descriptor)
        if os.name == "posix" and (
            status.st_uid != os.geteuid() or status.st_mode & (stat.S_IRWXG | stat.S_IRWXO)
        ):
            return None
        return opened.read(LONGEST).decode("ascii").strip() or None


def _write(file: Path, text: str) -> None:
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # One that a killed server has left is replaced: whatever its mode is, it is not used again.
        with suppress(FileNotFoundError):
            file.unlink()
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as opened:
            opened.write(f"{text}\n")
    except OSError as error:
        raise SetupError(f"{file} cannot be written for --local-token: {error.strerror}") from error


def _remove_own(files: Sequence[Path], text: str) -> None:
    for file in files:
        with suppress(OSError, ValueError):
            if _read(file) == text:  # else a newer server has put its own there
                file.unlink()
