"""Signs of life while the event loop is held, so that the process does not lose its lease.

A tool that computes on the loop, or a request that takes long to read, keeps the loop from giving
the process's signs of life. Its runs are alive all the same, and all of them would end if other
processes took this one for dead. So a thread gives the signs, over a connection of its own and in a
stream beside the process's own, because each stream has one writer.

Not for ever: a loop that is held for `hold_timeout` does not come back. Nor can a thread do
anything where native code keeps the interpreter to itself (the GIL) for as long as a lease.
"""

import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import Final

from headway.errors import JournalError, JournalUnavailable
from headway.events import Alive, Entry
from headway.journal import BlockingWriter
from headway.log_lines import quiet_logger
from headway.stream_names import pulse_stream

logger = quiet_logger(__name__)

LOOK_INTERVAL: Final = 0.1
"""Seconds between two looks at whether the loop goes on again."""


class LifeSigns:
    """Gives the signs of life of one process while its event loop is held.

    Args:
        beside: Makes the way into the storage, in the thread.
        tag: The process.
        every: Seconds between two signs.
    """

    def __init__(self, beside: Callable[[], BlockingWriter], tag: str, every: float) -> None:
        self._beside = beside
        self._stream = pulse_stream(tag)
        self._every = every
        self._thread: threading.Thread | None = None
        self.signs = 0
        """Number of signs given, which is the number of the last entry of the stream."""
        self.is_lost = False
        """True when another process has found this one dead."""

    def begin(self, goes_on: Callable[[], bool]) -> None:
        """Give signs in a thread until `goes_on` returns False. Calls while it runs do nothing."""
        if self.is_lost or (self._thread is not None and self._thread.is_alive()):
            return
        self._thread = threading.Thread(target=self._give_signs, args=(goes_on,), daemon=True)
        self._thread.name = "headway-pulse"
        self._thread.start()

    def _give_signs(self, goes_on: Callable[[], bool]) -> None:
        try:
            with closing(self._beside()) as beside:
                while goes_on():
                    self._give_sign(beside)
                    self._wait_for_next(goes_on)
        except JournalError as error:
            self.is_lost = True
            logger.warning("this process was found gone while its loop was held: %s", error)
        except Exception:
            self.is_lost = True
            logger.exception("no sign of life can be given while the loop is held")

    def _give_sign(self, beside: BlockingWriter) -> None:
        try:
            beside.append(self._stream, Entry(self.signs + 1, time.time(), Alive()))
            self.signs += 1
        except JournalUnavailable as error:
            logger.warning("no sign of life was given while the loop is held: %s", error)

    def _wait_for_next(self, goes_on: Callable[[], bool]) -> None:
        limit = time.monotonic() + self._every
        while goes_on() and time.monotonic() < limit:
            time.sleep(LOOK_INTERVAL)
