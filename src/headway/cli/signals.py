"""The signals that end a process: all that a person, a terminal or a supervisor may send."""

import signal
from collections.abc import Callable
from types import FrameType
from typing import Final

ALWAYS: Final = (signal.SIGINT, signal.SIGTERM)

HANG_UP: Final = getattr(signal, "SIGHUP", None)

UNLESS_TAKEN: Final[tuple[signal.Signals, ...]] = tuple(
    getattr(signal, name) for name in ("SIGHUP", "SIGQUIT") if hasattr(signal, name)
)
"""What ends a process at once that does nothing about it. `nohup` has it ignored, and a server may
have a use of its own for it: then it is left so."""


def stop_on_signals(stop: Callable[[int], object], again: Callable[[int], object]) -> None:
    """Call `stop` with the first signal to end, and `again` with each one that follows.

    SIGHUP hurries nobody: a terminal that closes may send it twice, and systemd sends it behind
    SIGTERM. The handlers are the process's and not the event loop's, so that they run when the
    loop is held, and they stay until the process is gone. They run between two instructions of
    the main thread: they must not wait, nor print.
    """
    told: list[int] = []

    def take(number: int, _frame: FrameType | None) -> None:
        is_first = not told
        told.append(number)
        if is_first:
            stop(number)
        elif number != HANG_UP:
            again(number)

    free = [one for one in UNLESS_TAKEN if signal.getsignal(one) is signal.SIG_DFL]
    for number in (*ALWAYS, *free):
        signal.signal(number, take)
