"""Liveness: whether another process may still write its runs, by the signs of life in its stream.

The time of a sign is by the wall clock of the process that gave it, and either clock may have been
set since. So it is believed only when this process starts, and has nothing better. Later a process
counts as dead when this one has also seen no new sign for half a lease, by its monotonic clock.
"""

from functools import lru_cache

from headway.clock import Clock
from headway.errors import EntriesTrimmed, StreamLocked
from headway.events import Alive, Entry
from headway.journal import Journal
from headway.log_lines import quiet_logger
from headway.stream_names import process_stream, pulse_stream

logger = quiet_logger(__name__)


class Liveness:
    """The signs of life of all processes on a journal, as this process has seen them.

    Args:
        journal: The one that they share.
        clock: Of this process.
        seconds: A process that gives no sign of life for so long is dead.
    """

    def __init__(self, journal: Journal, clock: Clock, seconds: float) -> None:
        self._journal = journal
        self._clock = clock
        self._seconds = seconds
        self._signs: dict[str, tuple[int, float]] = {}
        """Of each stream of signs: the last one's number, and since when this process knows it."""
        self.is_starting = False
        """Whether times of other clocks are believed, because nothing else is known yet."""

    def forget_signs(self) -> None:
        """Forget all signs: where nobody can read nobody can write, and silence proves nothing."""
        self._signs.clear()

    async def is_alive(self, tag: str) -> bool:
        """Return whether the process with this id may still write its runs.

        A process whose signs are encrypted with a key that is not here counts as alive: its runs
        are left to whoever has the key.

        Raises:
            JournalError: The journal cannot be read.
        """
        try:
            return await self._has_signs(tag)
        except StreamLocked as error:
            _warn_once(str(error))
            return True

    async def _has_signs(self, tag: str) -> bool:
        sign = await self._last_sign(process_stream(tag))
        if sign is None:
            for stream in (process_stream(tag), pulse_stream(tag)):
                self._signs.pop(stream, None)
            return False
        if self._is_sign_of_life(process_stream(tag), sign):
            return True
        # Its loop may be held: then a thread gives the signs, until the loop does again.
        pulse = await self._last_sign(pulse_stream(tag))
        if pulse is None or pulse.time < sign.time:
            return False
        return self._is_sign_of_life(pulse_stream(tag), pulse)

    async def _last_sign(self, stream: str) -> Entry | None:
        """Return the last entry of a stream, or None where it has ended or was never there."""
        head = await self._journal.head(stream)
        if head is None or head.ended:
            return None
        try:
            last = await self._journal.read(stream, after=head.last - 1)
        except EntriesTrimmed:  # it cannot be read: then it only counts whether there are more
            return Entry(head.last, self._clock.time() + 1, Alive())
        return last[-1] if last else None

    def _is_sign_of_life(self, stream: str, sign: Entry) -> bool:
        """Return whether a process is alive whose last sign in this stream is `sign`."""
        age = self._clock.time() - sign.time
        seen, since = self._signs.get(stream, (0, 0.0))
        if seen != sign.seq:
            since = self._clock.now()
            self._signs[stream] = sign.seq, since
        is_fresh = 0 <= age < self._seconds
        if self.is_starting and age >= 0:
            return is_fresh
        return self._clock.now() - since < (self._seconds if is_fresh else self._seconds / 2)


@lru_cache(maxsize=100)
def _warn_once(why: str) -> None:
    """Log once of each process that its runs are left as they are."""
    logger.warning("runs of another process are left as they are: %s", why)
