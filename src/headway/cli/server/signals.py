"""The signals to end that a person, a terminal or a supervisor may send to a process."""

import asyncio
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Final

ALWAYS: Final = (signal.SIGINT, signal.SIGTERM)

ECHO: Final = 0.2
"""Seconds in which one request to end may come as several signals."""

HANG_UP: Final = getattr(signal, "SIGHUP", None)

UNLESS_TAKEN: Final[tuple[signal.Signals, ...]] = tuple(
    getattr(signal, name) for name in ("SIGHUP", "SIGQUIT") if hasattr(signal, name)
)
"""Signals whose default is to end the process at once. `nohup` has SIGHUP ignored, and a server may
have a handler of its own: then it stays so."""


def farewell_text(app: object, grace: float) -> str:
    """Return what the first signal says: how many calls are finishing, and how long at most."""
    calls: int | None = getattr(app, "calls_going", None)
    how_many = "" if calls is None else "1 call, " if calls == 1 else f"{calls} calls, "
    limit = "no calls" if calls == 0 else f"{how_many}{grace:g} s at most"
    return f"finishing what runs ({limit}); Ctrl+C again stops at once"


def stop_on_signals(
    begin: Callable[[int], object],
    again: Callable[[int], object],
    *,
    at_once: Callable[[], object] = lambda: None,
) -> None:
    """Begin to stop at the first signal to end, on the running event loop; hurry at each other one.

    At the first one `at_once` is called as well, and at later ones `again`. Both are called in the
    main thread between two of its instructions, also while the loop is held, so they must not wait
    or print. The handlers stay until the process is gone.

    SIGHUP does not hurry: a terminal that closes may send it twice, and systemd sends it after
    SIGTERM. Nor does a signal that comes within `ECHO` seconds, or before the loop has noticed the
    first one: `timeout`, `npm` and others pass a signal on to a process that has got it already.
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
