"""The sockets that a server listens on: one for each address that its host's name has.

A client asks for a name and tries its addresses in an order of its own: `localhost` is ::1 to some
and 127.0.0.1 to others. Who listens on the first of them only is not there for half of the clients.
"""

import errno
import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import ip_address
from typing import Any, Final, Self

from headway.errors import SetupError

BACKLOG: Final = 2048

_TRIES: Final = 10
"""Free ports that are tried until one is free on all addresses."""

_NOT_HERE: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
"""What an address says that a name has and this machine does not: IPv6 may be off."""

Address = tuple[socket.AddressFamily, tuple[Any, ...]]
"""A family and what its `bind` takes."""


class Listener:
    """The sockets of one host and port; `with` closes them."""

    def __init__(self, sockets: Sequence[socket.socket], host: str = "") -> None:
        self.sockets = list(sockets)
        self._host = host

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
        return any(ip_address(one.getsockname()[0]).is_unspecified for one in self.sockets)

    @property
    def origin(self) -> str:
        """`http://host:port`, as a client on this machine can use it."""
        host = self._host
        if self.is_everywhere:
            host = "[::1]" if all(map(_takes_ipv6_only, self.sockets)) else "127.0.0.1"
        elif not host or _is_address(host):
            address = self.sockets[0].getsockname()[0]
            host = f"[{address}]" if ":" in address else address
        return f"http://{host}:{self.port}"

    def listen(self) -> None:
        """Have who comes before anybody accepts wait.

        Raises:
            SetupError: Another one listens there since these were bound.
        """
        for one in self.sockets:
            try:
                one.listen(BACKLOG)
            except OSError as error:  # two sockets may be bound to one port; the first one listens
                raise SetupError(self.refusal(error)) from error

    def refusal(self, error: OSError) -> str:
        """Return why nobody can listen there, as a sentence."""
        host, port = self.sockets[0].getsockname()[:2]
        return _bind_refusal(self._host or host, port, error)

    def close(self) -> None:
        """Close them all."""
        for one in self.sockets:
            one.close()


def bind(host: str, port: int) -> Listener:
    """Return sockets for all addresses of `host` that do not listen yet; port 0 takes a free one.

    Who calls a server that is starting is refused, and goes to another one, rather than wait for
    a start that may fail.

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


def listening(host: str, port: int) -> Listener:
    """As `bind`, and who comes before anybody accepts waits.

    Raises:
        SetupError: As `bind` does.
    """
    listener = bind(host, port)
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
