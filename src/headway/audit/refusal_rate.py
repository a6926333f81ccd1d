"""The rate of refusals in an audit log: anybody can cause them, and none may fill the disk.

    refuse ──▶ of its kind there is room ──▶ recorded
                    │ there is none
                    └── counted; a second later the last one is recorded, with the count

A kind is a status, a limit, and whether the caller is known. So there are few kinds whatever
clients send, and a flood from nobody hides no refusal of a caller.
"""

import asyncio
import time
from collections.abc import Callable, Hashable
from contextlib import suppress
from typing import Final

from headway.rate_limits import Rate

BURST: Final = 100
"""Refusals of a kind that are recorded at once, however low the rate."""

COUNT_INTERVAL: Final = 1.0
"""Seconds after which those are told of that were left out."""

Record = dict[str, object]


class _Kind:
    """The refusals of one kind: when as many as at first may be recorded, and the last left out."""

    __slots__ = ("is_due", "last", "left_out", "whole_at")

    def __init__(self) -> None:
        self.whole_at = 0.0
        self.left_out = 0
        self.last: Record | None = None
        self.is_due = False


class RefusalRate:
    """Lets records of refusals through, some of each kind. On the event loop only."""

    def __init__(
        self,
        rate: float,
        put: Callable[[Record], None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`rate` is how many a second of a kind go on beyond `BURST`; `put` takes each of them."""
        self._rate = Rate(BURST, BURST / rate)
        self._put = put
        self._now = now
        self._kinds: dict[Hashable, _Kind] = {}

    def take(self, kind: Hashable, record: Record) -> None:
        """Pass a record on, or count it."""
        known, now = self._kinds.setdefault(kind, _Kind()), self._now()
        wait = self._rate.wait_of(known.whole_at, now)
        if not wait:
            known.whole_at = self._rate.after_one(known.whole_at, now)
            self._put_counted(known, record)
            return
        known.left_out += 1
        known.last = record
        if not known.is_due:
            delay = max(COUNT_INTERVAL, wait)
            with suppress(RuntimeError):  # without a loop the next one, or the stop, has the count
                asyncio.get_running_loop().call_later(delay, self._tell_left_out, known)
                known.is_due = True

    def tell_all(self) -> None:
        """Pass on what was left out of every kind, as its last record with the count."""
        for known in self._kinds.values():
            self._put_last(known)

    def _tell_left_out(self, known: _Kind) -> None:
        known.is_due = False
        if known.last is not None:
            known.whole_at = self._rate.after_one(known.whole_at, self._now())
            self._put_last(known)

    def _put_last(self, known: _Kind) -> None:
        if known.last is not None:
            known.left_out -= 1
            self._put_counted(known, known.last)

    def _put_counted(self, known: _Kind, record: Record) -> None:
        count = {"left_out": known.left_out} if known.left_out else {}
        known.left_out, known.last = 0, None
        self._put({**record, **count})
