"""stdin and stdout, kept for the protocol alone.

It imports no more than it needs, because it is imported before the server.
"""

import os
import sys
from contextlib import suppress
from typing import NamedTuple, cast

from headway.errors import SetupError


class Streams(NamedTuple):
    """Private descriptors of what stdin and stdout were."""

    source: int
    sink: int


def take_streams() -> Streams:
    """Take stdin and stdout away from all other code; return private descriptors of both.

    From here on fd 0 is the null device and fd 1 is stderr, for `print` and `input`, for native
    code and for child processes. So nothing that they write gets between two messages, and they
    read no message. The private descriptors are not inherited.

    Raises:
        SetupError: stdin or stdout is closed.
    """
    for stream, name in ((sys.stdin, "stdin"), (sys.stdout, "stdout")):
        if cast("object", stream) is None:  # closed before we began; another file may have its fd
            raise SetupError(f"{name} is closed; --stdio speaks to the program that starts it")
    null = os.open(os.devnull, os.O_RDWR)
    try:
        source, sink = os.dup(0), os.dup(1)  # not inheritable, as Python makes them
        os.dup2(null, 0)
        try:
            os.dup2(2, 1)
        except OSError:  # no stderr either
            os.dup2(null, 2)
            os.dup2(null, 1)
    finally:
        if null > 2:
            os.close(null)
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if callable(reconfigure):
        with suppress(OSError):
            reconfigure(line_buffering=True)  # output that was printed before goes to stderr, too
    return Streams(source, sink)
