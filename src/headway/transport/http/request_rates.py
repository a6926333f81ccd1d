"""How often one caller may send requests: a token bucket for each caller, in this process.

A caller is a principal; who is anonymous is known by the address alone, of IPv6 by the network that
one subscriber has. A bucket holds what may come in `BURST_SECONDS`: clients open with several
requests at once.
"""

from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_network
from math import ceil
from typing import Final

from headway.clock import Clock
from headway.engine import BUSY_CODE
from headway.errors import ProtocolError
from headway.transport.http.exchange import Exchange

BURST_SECONDS: Final = 5.0
"""Seconds whose requests may all come at once."""

MOST_CALLERS: Final = 10_000
"""Callers whose buckets are kept. Of more, those go that ask least; then the oldest."""

IPV6_PREFIX: Final = 64
"""Bits of an IPv6 address that tell subscribers apart: one of them has all addresses below."""


@dataclass(slots=True)
class _Bucket:
    level: float
    """Requests that may come now."""
    at: float


class RequestRates:
    """The buckets of the callers of one process."""

    def __init__(self, rate: float, clock: Clock) -> None:
        """Let a caller send `rate` requests a second; 0: any number."""
        self._rate = rate
        self._size = max(1.0, rate * BURST_SECONDS)
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}

    @property
    def most_of_one(self) -> float:
        """Return the requests that the busiest caller has taken out of its bucket."""
        levels = (self._level_of(bucket) for bucket in self._buckets.values())
        return self._size - min(levels, default=self._size)

    def check_rate(self, exchange: Exchange) -> None:
        """Count a request of a caller.

        Raises:
            ProtocolError: It has sent as many as it may (429); `retry_after` says when to go on.
        """
        if not self._rate:
            return
        bucket = self._bucket_of(_caller_of(exchange))
        bucket.level, bucket.at = self._level_of(bucket), self._clock.now()
        if bucket.level < 1:
            raise ProtocolError(
                BUSY_CODE,
                f"More than {self._rate:g} requests a second come from you (requests_each)",
                status=429,
                retry_after=max(1, ceil((1 - bucket.level) / self._rate)),
                limit="requests_each",
            )
        bucket.level -= 1

    def _level_of(self, bucket: _Bucket) -> float:
        return min(self._size, bucket.level + (self._clock.now() - bucket.at) * self._rate)

    def _bucket_of(self, caller: str) -> _Bucket:
        found = self._buckets.get(caller)
        if found is not None:
            return found
        if len(self._buckets) >= MOST_CALLERS:
            # A full bucket is as good as none.
            kept = [each for each in self._buckets.items() if self._level_of(each[1]) < self._size]
            self._buckets = dict(kept[-MOST_CALLERS // 2 :])
        made = self._buckets[caller] = _Bucket(self._size, self._clock.now())
        return made


def _caller_of(exchange: Exchange) -> str:
    if exchange.owner:
        return f"principal {exchange.owner}"
    client = exchange.scope.get("client")
    address = str(client[0]) if client else ""
    if ":" in address:
        with suppress(ValueError):  # a server may name clients otherwise
            address = str(ip_network((address.partition("%")[0], IPV6_PREFIX), strict=False))
    return f"address {address}"
