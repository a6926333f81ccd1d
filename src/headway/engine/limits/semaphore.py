"""Gates: how many runs execute at once, and who waits for a place.

A gate lets `limit` runs through and keeps the others in order. It counts; it does not know
what a run is. One run may need to pass several gates, the narrowest first.
"""

import asyncio
from collections import deque
from collections.abc import Callable


class FairSemaphore:
    """`limit` places and a first-come queue; `setting` is the limit's name."""

    __slots__ = ("_waiting", "limit", "setting", "taken")

    def __init__(self, limit: int, setting: str = "") -> None:
        self.limit = limit
        self.setting = setting
        self.taken = 0
        self._waiting: deque[tuple[asyncio.Future[None], Callable[[int], None]]] = deque()

    @property
    def queued(self) -> int:
        """How many wait."""
        return len(self._waiting)

    @property
    def is_open(self) -> bool:
        """Whether `enter` would return at once."""
        return self.taken < self.limit and not self._waiting

    async def enter(self, announce: Callable[[int], None]) -> None:
        """Take a place, waiting for one in order.

        `announce` is told how many are ahead, at first and by `tell`.

        Cancellation: leaves the queue, or gives the place back.
        """
        if self.is_open:
            self.taken += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((turn, announce))
        announce(len(self._waiting) - 1)
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                self.leave()
            else:
                self._waiting = deque(item for item in self._waiting if item[0] is not turn)
            raise

    def leave(self) -> None:
        """Give a place back; the next in the queue gets it."""
        self.taken -= 1
        while self._waiting and self.taken < self.limit:
            turn, _ = self._waiting.popleft()
            if not turn.done():
                self.taken += 1
                turn.set_result(None)

    def announce_positions(self) -> None:
        """Tell all who wait how many are ahead of them."""
        for position, (_, announce) in enumerate(list(self._waiting)):
            announce(position)
