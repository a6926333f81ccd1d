"""A terminal for a program that draws its progress only on one.

Ours is a pseudo-terminal (POSIX `openpty`). It changes nothing of what the program writes, has a
size, and is not the program's controlling terminal: no password is asked on it, and closing it
ends nobody.
"""

import asyncio
import errno
import os
import struct
from collections.abc import AsyncGenerator, Callable
from contextlib import ExitStack
from typing import IO, NamedTuple

ROWS = 40
COLUMNS = 120

CHUNK = 65_536


class NoTerminal(Exception):
    """The system has no pseudo-terminal left, or has none at all."""


class Terminal(NamedTuple):
    """Both ends of a pseudo-terminal."""

    ours: IO[bytes]
    theirs: int


def open_terminal(stack: ExitStack) -> Terminal:
    """Return a new terminal; the program's end is closed with `stack`, ours is the caller's.

    Raises:
        NoTerminal: There are none on this system, or all are in use.
    """
    try:
        import fcntl
        import termios
    except ImportError as error:
        raise NoTerminal("this system has no pseudo-terminals") from error
    try:
        ours, theirs = os.openpty()
    except OSError as error:
        raise NoTerminal(error.strerror) from error
    stack.callback(os.close, theirs)
    modes = termios.tcgetattr(theirs)
    modes[1] &= ~termios.OPOST  # else each line would end with a carriage return more
    modes[3] &= ~termios.ECHO
    termios.tcsetattr(theirs, termios.TCSANOW, modes)
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    os.set_blocking(ours, False)
    return Terminal(os.fdopen(ours, "rb", buffering=0), theirs)


async def chunks_of_terminal(
    file: IO[bytes], count: Callable[[bytes], None]
) -> AsyncGenerator[bytes]:
    """Yield what a program writes to a terminal, until no process has its end open any more.

    `count` is called with each chunk when it arrives.

    A stream of asyncio would not do: Linux ends a terminal with an error (EIO), and the stream
    would throw away bytes that were read before it.
    """
    while True:
        try:
            chunk = os.read(file.fileno(), CHUNK)
        except BlockingIOError:
            await _wait_readable(file.fileno())
            continue
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return
        if not chunk:
            return
        count(chunk)
        yield chunk
        await asyncio.sleep(0)


async def _wait_readable(number: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(number, wake)
    try:
        await ready
    finally:
        loop.remove_reader(number)
