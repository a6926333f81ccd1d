"""The sockets that a server listens on: one for each address that its host's name has.

A client resolves a name and tries its addresses in an order of its own: `localhost` is ::1 to some
and 127.0.0.1 to others. A server that listens on the first address only is unreachable for half of
the clients.
"""

import errno
import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit

from headway.errors import SetupError

BACKLOG: Final = 2048

_TRIES: Final = 10
"""Free ports that are tried until one is free on all addresses."""

_NOT_HERE: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
"""Errors of an address that a name has and this machine lacks: IPv6 may be off."""

Address = tuple[socket.AddressFamily, tuple[Any, ...]]
"""An address family, and the address as `bind` takes it."""


class Listener:
    """The sockets of one host and port, or one in the file system; `with` closes them."""

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        host: str = "",
        *,
        file: Path | None = None,
        is_shared: bool = False,
    ) -> None:
        self.sockets = list(sockets)
        self.is_shared = is_shared
        """Whether others have these sockets too, and go on when this listener is closed."""
        self.scheme = "http"
        self._host = host
        self._file = file
        self._made = None if file is None else file.stat().st_ino

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def port(self) -> int:
        """Return the port of all of them."""
        return self.sockets[0].getsockname()[1]

    @property
    def is_everywhere(self) -> bool:
        """Return whether it listens on all addresses of this machine."""
        return not self._is_local and any(
            ip_address(one.getsockname()[0]).is_unspecified for one in self.sockets
        )

    @property
    def is_for_this_machine(self) -> bool:
        """Return whether only programs of this machine can connect: loopback, or a file."""
        return self._is_local or all(map(_is_loopback, self.sockets))

    @property
    def hosts(self) -> list[str]:
        """The names and addresses in URLs of it; none of a socket in the file system."""
        if self._is_local:
            return []
        bound = [str(one.getsockname()[0]) for one in self.sockets]
        names = [urlsplit(self.origin).hostname, self._host, *bound]
        return list(dict.fromkeys(name for name in names if name))

    @property
    def address(self) -> str:
        """Return the address that it is bound to, for people: `0.0.0.0 port 8000`."""
        if self._is_local:
            return self.sockets[0].getsockname()
        return f"{self.sockets[0].getsockname()[0]} port {self.port}"

    @property
    def origin(self) -> str:
        """`http://host:port`, as a client on this machine can use it, or `http://unix:/path:`."""
        if self._is_local:
            return f"{self.scheme}://unix:{self.sockets[0].getsockname()}:"
        host = self._host
        if self.is_everywhere:
            host = "[::1]" if all(map(_takes_ipv6_only, self.sockets)) else "127.0.0.1"
        elif not host or _is_address(host):
            address = self.sockets[0].getsockname()[0]
            host = f"[{address}]" if ":" in address else address
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def _is_local(self) -> bool:
        return self.sockets[0].family == getattr(socket, "AF_UNIX", None)

    def listen(self) -> None:
        """Listen: connections wait until the server accepts them.

        Raises:
            SetupError: Another program listens there since these were bound.
        """
        for one in self.sockets:
            try:
                one.listen(BACKLOG)
            except OSError as error:  # two sockets may be bound to one port; the first one listens
                raise SetupError(self.refusal(error)) from error

    def refusal(self, error: OSError) -> str:
        """Return the sentence that says why this process cannot listen there."""
        if self._is_local:
            return f"cannot listen on {self.sockets[0].getsockname()}: {error.strerror}"
        host, port = self.sockets[0].getsockname()[:2]
        return _bind_refusal(self._host or host, port, error)

    def close(self) -> None:
        """Close them all, and remove the file that `bind_file` has made."""
        if self._file is not None:
            with suppress(FileNotFoundError):  # somebody has removed it, or has put another there
                if self._file.stat().st_ino == self._made:
                    self._file.unlink()
            self._file = None
        for one in self.sockets:
            one.close()


def bind(host: str, port: int) -> Listener:
    """Return sockets for all addresses of `host`, not listening yet; port 0 takes a free port.

    Until they listen a client is refused, and can go to another server, rather than wait for a
    start that may fail.

    Raises:
        SetupError: The port is in use or not ours to take, or `host` has no address of this
            machine.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise SetupError(f"{host!r} is no address; choose another with --host") from error
    addresses = list(dict.fromkeys((entry[0], tuple[Any, ...](entry[4])) for entry in found))
    for _ in range(_TRIES - 1 if port == 0 and len(addresses) > 1 else 0):
        with suppress(SetupError):  # free on one address, and taken on another
            return _bind_all(host, port, addresses)
    return _bind_all(host, port, addresses)


def bind_file(path: Path) -> Listener:
    """Return a socket in the file system, for its owner alone (mode 0600).

    One that a process has left behind is replaced. The file is removed when the listener closes.
    It listens at once: else another process would take it for one that was left behind.

    Raises:
        SetupError: Another process listens there, or there is something else, or no room.
    """
    if not hasattr(socket, "AF_UNIX"):
        raise SetupError("--uds needs a POSIX system")
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_left_socket(path)
        mask = os.umask(0o177)
        try:
            one.bind(str(path))
            one.listen(BACKLOG)
        finally:
            os.umask(mask)
    except OSError as error:
        one.close()
        raise SetupError(f"cannot listen on {path}: {error.strerror or error}") from error
    one.setblocking(False)
    return Listener([one], file=path)


def _remove_left_socket(path: Path) -> None:
    """Remove a socket on which nobody listens.

    Raises:
        OSError: Somebody does, or it is no socket.
    """
    if not path.exists():
        return
    if not path.is_socket():
        raise OSError(errno.EEXIST, "it is there already, and is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        try:
            asking.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise OSError(errno.EADDRINUSE, "another process listens there")


def inherit(descriptor: int) -> Listener:
    """Return the socket that a service manager has opened, as systemd does for `.socket` units.

    Raises:
        SetupError: The descriptor is no socket that takes connections.
    """
    try:
        one = socket.socket(fileno=descriptor)
    except OSError as error:
        raise SetupError(f"--fd {descriptor} is no socket: {error.strerror}") from error
    if one.type != socket.SOCK_STREAM:
        one.detach()
        raise SetupError(f"--fd {descriptor} is a socket that takes no connections")
    one.setblocking(False)
    return Listener([one], is_shared=True)


def listening(host: str, port: int) -> Listener:
    """Return sockets as `bind` does, listening: connections wait until the server accepts them.

    Raises:
        SetupError: As `bind` does.
    """
    return start_listening(bind(host, port))


def start_listening(listener: Listener) -> Listener:
    """Have a listener's sockets listen, and return it.

    Raises:
        SetupError: One of them cannot; all are closed then.
    """
    try:
        listener.listen()
    except SetupError:
        listener.close()
        raise
    return listener


def _bind_all(host: str, port: int, addresses: Sequence[Address]) -> Listener:
    sockets: list[socket.socket] = []
    absent: OSError | None = None
    for address in addresses:
        try:
            sockets.append(_bind_one(address, port, is_alone=len(addresses) == 1))
        except OSError as error:
            if error.errno in _NOT_HERE:
                absent = error
                continue
            Listener(sockets).close()
            where = address[1][0]
            shown = host if host == where else f"{host} ({where})"
            raise SetupError(_bind_refusal(shown, port, error)) from error
        port = sockets[-1].getsockname()[1]
    if not sockets:
        raise SetupError(_bind_refusal(host, port, absent or OSError())) from absent
    return Listener(sockets, host)


def _bind_one(address: Address, port: int, *, is_alone: bool) -> socket.socket:
    family, place = address
    one = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6 and not is_alone:  # the other family has a socket of its own
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind((place[0], port, *place[2:]))
        one.setblocking(False)
    except OSError:
        one.close()
        raise
    return one


def _bind_refusal(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use; choose another with --port"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"port {port} on {host} needs privileges; choose one above 1023 with --port"
    if error.errno in _NOT_HERE:
        return f"{host} is no address of this machine; choose another with --host"
    return f"cannot listen on {host} port {port}: {error.strerror}"


def _is_loopback(one: socket.socket) -> bool:
    if one.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    address = ip_address(one.getsockname()[0].partition("%")[0])
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def _takes_ipv6_only(one: socket.socket) -> bool:
    if one.family != socket.AF_INET6:
        return False
    return bool(one.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY))


def _is_address(host: str) -> bool:
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
