"""Telling systemd that a service is ready, or about to stop (`Type=notify`).

A service manager that waits for that has set `NOTIFY_SOCKET`; nothing is sent where it is missing.
Source: sd_notify(3).
"""

import os
import socket
from contextlib import suppress
from typing import Final

VARIABLE: Final = "NOTIFY_SOCKET"


def tell_ready() -> None:
    """Say that the service can be used."""
    _tell("READY=1")


def tell_stopping() -> None:
    """Say that the service is about to stop."""
    _tell("STOPPING=1")


def _tell(state: str) -> None:
    address = os.environ.get(VARIABLE, "")
    if not address or not hasattr(socket, "AF_UNIX"):
        return
    place = "\0" + address[1:] if address.startswith("@") else address
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.setblocking(False)
        one.sendto(state.encode(), place)
