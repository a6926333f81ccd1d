"""Closing a listener without losing connections.

A connection is complete, and may carry a request, before the process has accepted it. When the
listener closes, the system resets connections that wait, and a proxy must not send their POSTs
again. So first no new handshake is let in, then all connections that wait are accepted, and only
then the listener closes. A client that comes later is refused, and may go to another server.
"""

import asyncio
import ctypes
import selectors
import socket
import struct
import sys
from contextlib import suppress
from typing import Final

HANDSHAKE_TIME: Final = 0.05
"""Seconds in which a handshake that has begun is over: several times what one continent needs."""

MOST_LOOP_TURNS: Final = 1000
"""Turns of the loop in which waiting connections are accepted; the rest wait for descriptors."""

_ATTACH_FILTER: Final = 26
"""SO_ATTACH_FILTER, which Python does not name."""

_DROP_CONNECTION_REQUESTS: Final = (
    (0x30, 0, 0, 13),  # load the byte of flags of the TCP header
    (0x54, 0, 0, 0x12),  # keep SYN and ACK
    (0x15, 0, 1, 0x02),  # a SYN alone begins a handshake:
    (0x06, 0, 0, 0),  # it was never here,
    (0x06, 0, 0, 0xFFFFFFFF),  # and all else passes
)
"""A packet filter (classic BPF): code, jump if true, jump if false, operand."""


async def stop_accepting(listener: socket.socket, *, is_shared: bool) -> None:
    """Let no new connection in, and accept those that wait; `listener` may be closed after this.

    The loop has to serve `listener` meanwhile. A listener that other processes share stays open for
    them: connections that arrive after this are theirs.
    """
    if not is_shared:
        drop_new_connections(listener)
    await asyncio.sleep(HANDSHAKE_TIME)
    for _ in range(MOST_LOOP_TURNS):
        if not _has_waiting(listener):
            break
        await asyncio.sleep(0)


def drop_new_connections(listener: socket.socket) -> None:
    """Let no new handshake begin.

    Its client tries again after a second, when the port is closed. Linux only. Elsewhere a
    connection is lost that comes between the last accept and the closing.
    """
    if sys.platform != "linux" or listener.family == socket.AF_UNIX:
        return
    code = b"".join(struct.pack("HBBI", *step) for step in _DROP_CONNECTION_REQUESTS)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HP", len(_DROP_CONNECTION_REQUESTS), ctypes.addressof(buffer))
    with suppress(OSError):  # a sandbox without filters
        listener.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, program)


def _has_waiting(listener: socket.socket) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        return bool(selector.select(0))
