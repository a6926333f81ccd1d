"""A fair semaphore: the caller that waits longest enters first, and each learns its position.

It counts, and does not know what a run is. A run may have to pass several of them, the narrowest
first.
"""

import asyncio
from collections import deque
from collections.abc import Callable


class FairSemaphore:
    """A semaphore for `limit` holders, with a first-come queue; `setting` is the limit's name."""

    __slots__ = ("_waiting", "limit", "setting", "taken")

    def __init__(self, limit: int, setting: str = "") -> None:
        self.limit = limit
        self.setting = setting
        self.taken = 0
        self._waiting: deque[tuple[asyncio.Future[None], Callable[[int], None]]] = deque()

    @property
    def queued(self) -> int:
        """Number of callers that wait."""
        return len(self._waiting)

    def has_room_behind(self, others: int) -> bool:
        """Return whether `enter` would return at once when so many others had entered before."""
        return self.taken + others < self.limit and not self._waiting

    def enter_at_once(self) -> bool:
        """Enter where nobody has to wait; return whether that was so."""
        if self.taken >= self.limit or self._waiting:
            return False
        self.taken += 1
        return True

    async def enter(self, announce: Callable[[int], None]) -> None:
        """Enter, after all that came earlier.

        `announce` is called with the number of callers ahead: at once when the caller has to wait,
        and at each `announce_positions`.

        Cancellation: leaves the queue, or what was entered.
        """
        if self.enter_at_once():
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((turn, announce))
        announce(len(self._waiting) - 1)
        try:
            await turn
        except BaseException:
            # Cancelled in the moment in which its turn came: it has entered, so the next one has to
            # be let in.
            if turn.done() and not turn.cancelled():
                self.leave()
            else:
                self._waiting = deque(item for item in self._waiting if item[0] is not turn)
            raise

    def leave(self) -> None:
        """Leave; the next caller in the queue enters."""
        self.taken -= 1
        while self._waiting and self.taken < self.limit:
            turn, _ = self._waiting.popleft()
            # A waiter that was cancelled and has not run since is still in the queue; it is passed
            # over.
            if not turn.done():
                self.taken += 1
                turn.set_result(None)

    def announce_positions(self) -> None:
        """Call `announce` of every waiting caller with the number of callers ahead of it."""
        for position, (_, announce) in enumerate(list(self._waiting)):
            announce(position)
