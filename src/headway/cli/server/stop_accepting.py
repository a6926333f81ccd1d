"""Closing a listener so that nobody is lost who has come.

A connection is complete, and may carry a request, before the process has accepted it. When the
listener closes, the system resets those that wait, and a proxy must not send their POSTs again.
So first nobody new is let in, then everybody is taken who waits, and only then the door closes:
who comes later finds nobody, and may go elsewhere.
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
"""Turns of the loop in which who waits is accepted; more are waiting for descriptors."""

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
    """Let nobody new in and take everybody who has come; `listener` may be closed behind this.

    The loop has to serve `listener` meanwhile. One that others share lets in for them, so what
    arrives between this and its closing is theirs.
    """
    if not is_shared:
        drop_new_connections(listener)
    await asyncio.sleep(HANDSHAKE_TIME)
    for _ in range(MOST_LOOP_TURNS):
        if not _has_waiting(listener):
            break
        await asyncio.sleep(0)


def drop_new_connections(listener: socket.socket) -> None:
    """Have no new handshake begin. Their clients knock again, after a second, at a closed door.

    Linux only. Elsewhere who comes between the last look and the closing is lost.
    """
    if sys.platform != "linux":
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
