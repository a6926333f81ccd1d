"""The places that lines of an audit log go to: a file, stderr, syslog.

Each takes whole lines and returns how many it has taken. What it raises is an `OSError`, and the
lines that were not taken may be given to it again.
"""

import contextlib
import errno
import json
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

from headway.errors import SetupError
from headway.private_files import warn_if_exposed

STDERR: Final = "stderr"
SYSLOG: Final = "syslog:"

_PRIORITY: Final = b"<86>"
"""Facility authpriv, severity info (RFC 5424, 6.2.1)."""

_LOCAL_SOCKETS: Final = ("/dev/log", "/var/run/syslog")


append_bytes: Final = os.write
"""Writes bytes into a file, as many as there is room for, and returns how many."""


class Destination(Protocol):
    """A place for lines; used by one thread at a time."""

    def open(self) -> None:
        """Make ready.

        Raises:
            OSError: It cannot be used.
        """
        ...

    def write(self, lines: Sequence[bytes]) -> int:
        """Write lines, each with its end; return how many are written completely.

        Raises:
            OSError: None is.
        """
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class FileDestination:
    """A file that only its owner may read, shared by any number of processes.

    Each write is one append of whole lines. When another file is put in its place (logrotate), or
    it is removed, the next write opens it anew. A line that was cut, because the disk was full,
    is written again in a line of its own.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1
        self._is_cut = False

    def open(self) -> None:
        """Open the file, made with mode 0600 where there is none."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
        flags |= getattr(os, "O_NONBLOCK", 0)  # a named pipe that nobody reads is an error
        self._descriptor = os.open(self._path, flags, 0o600)
        self._is_cut = False
        if self._path.is_file():
            warn_if_exposed(self._path, "the audit log")

    def write(self, lines: Sequence[bytes]) -> int:
        """Append lines."""
        self._reopen_if_moved()
        gap = b"\n" if self._is_cut else b""
        data = gap + b"".join(lines)
        size = append_bytes(self._descriptor, data)
        done = data[:size]
        if done:
            self._is_cut = not done.endswith(b"\n")
        return max(0, done.count(b"\n") - len(gap))

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _reopen_if_moved(self) -> None:
        if self._descriptor < 0:
            self.open()
            return
        have = os.fstat(self._descriptor)
        with contextlib.suppress(FileNotFoundError):
            there = self._path.stat()
            if (there.st_dev, there.st_ino) == (have.st_dev, have.st_ino):
                return
        self.close()
        self.open()


class StderrDestination:
    """The process's stderr."""

    def open(self) -> None:
        """Return: it is open."""

    def write(self, lines: Sequence[bytes]) -> int:
        """Write lines; this waits for a reader that is slow."""
        for line in lines:
            rest = line
            while rest:
                rest = rest[os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, rest) :]
        return len(lines)

    def close(self) -> None:
        """Return: it stays open."""


class SyslogDestination:
    """A syslog daemon: the one of this machine, or another one over UDP."""

    def __init__(self, address: str | tuple[str, int]) -> None:
        self._address = address
        self._socket: socket.socket | None = None

    def open(self) -> None:
        """Connect to it."""
        if isinstance(self._address, str):
            made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            where: str | tuple[str, int] = self._address
        else:
            family, kind, _, _, found = socket.getaddrinfo(*self._address, type=socket.SOCK_DGRAM)[
                0
            ]
            made, where = socket.socket(family, kind), (str(found[0]), int(found[1]))
        try:
            made.connect(where)
        except OSError:
            made.close()
            raise
        self._socket = made

    def write(self, lines: Sequence[bytes]) -> int:
        """Send a message for each line."""
        head = b"%bheadway-audit[%d]: " % (_PRIORITY, os.getpid())
        done = 0
        try:
            if self._socket is None:
                self.open()
            assert self._socket is not None
            for line in lines:
                _send(self._socket, head, line.rstrip(b"\n"))
                done += 1
        except OSError:
            self.close()  # the daemon was started again: the next write connects anew
            if not done:
                raise
        return done

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _send(connection: socket.socket, head: bytes, line: bytes) -> None:
    """Send a message; one that is too long is sent without arguments, or not at all."""
    for text in (line, _without_arguments(line)):
        try:
            connection.send(head + text)
            return
        except OSError as error:
            if error.errno != errno.EMSGSIZE:
                raise


def _without_arguments(line: bytes) -> bytes:
    record: dict[str, object] = json.loads(line)
    return json.dumps({**record, "arguments": "too long"}).encode()


def destination_of(text: str) -> Destination:
    """Return the place that `[audit] to` or `--audit` names."""
    if text == STDERR:
        return StderrDestination()
    if text.startswith(SYSLOG):
        return SyslogDestination(syslog_address(text))
    return FileDestination(Path(text))


def syslog_address(text: str) -> str | tuple[str, int]:
    """Return the path of a socket, or a host and port.

    Raises:
        ValueError: It names neither.
    """
    rest = text.removeprefix(SYSLOG)
    if not rest:
        return next((each for each in _LOCAL_SOCKETS if Path(each).exists()), _LOCAL_SOCKETS[0])
    if rest.startswith("/"):
        return rest
    host, colon, port = rest.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"must be syslog:, syslog:/dev/log or syslog:host:514, not {text!r}")
    return host.strip("[]"), int(port)


def cannot_write(place: str, error: OSError) -> SetupError:
    """Return the error of a start whose audit log cannot be opened."""
    return SetupError(f"the audit log {place} cannot be written: {error.strerror or error}")
