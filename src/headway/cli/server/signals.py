"""The signals that end a process: all that a person, a terminal or a supervisor may send."""

import asyncio
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Final

ALWAYS: Final = (signal.SIGINT, signal.SIGTERM)

ECHO: Final = 0.2
"""Seconds in which one wish to end may come as several signals."""

HANG_UP: Final = getattr(signal, "SIGHUP", None)

UNLESS_TAKEN: Final[tuple[signal.Signals, ...]] = tuple(
    getattr(signal, name) for name in ("SIGHUP", "SIGQUIT") if hasattr(signal, name)
)
"""What ends a process at once that does nothing about it. `nohup` has it ignored, and a server may
have a use of its own for it: then it is left so."""


def stop_on_signals(
    begin: Callable[[int], object],
    again: Callable[[int], object],
    *,
    at_once: Callable[[], object] = lambda: None,
) -> None:
    """Begin to stop at the first signal to end, on the running event loop; hurry at each other one.

    At the first one `at_once` is called as well, and at those that follow `again`: both where the
    main thread is just then, between two of its instructions, also when the loop is held. They must
    not wait, nor print. The handlers stay until the process is gone.

    SIGHUP hurries nobody: a terminal that closes may send it twice, and systemd sends it behind
    SIGTERM. Neither does what comes within `ECHO` seconds and before the loop has noticed the
    first one: `timeout`, `npm` and others pass a signal on to a process that has it already.
    """
    loop = asyncio.get_running_loop()
    seen: list[float] = []
    is_noticed = False

    def notice(number: int) -> None:
        nonlocal is_noticed
        is_noticed = True
        begin(number)

    def take(number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if not seen:
            seen.append(now)
            at_once()
            with suppress(RuntimeError):  # the loop is closed: the end is near anyway
                loop.call_soon_threadsafe(notice, number)
        elif number != HANG_UP and (is_noticed or now - seen[0] > ECHO):
            again(number)

    free = [one for one in UNLESS_TAKEN if signal.getsignal(one) is signal.SIG_DFL]
    for number in (*ALWAYS, *free):
        signal.signal(number, take)
