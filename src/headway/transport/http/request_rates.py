"""How often one caller may send requests to this process.

A caller is a principal; who is anonymous is known by the address alone, of IPv6 by the network that
one subscriber has. Some seconds' worth may come at once: clients open with several requests.
"""

from math import ceil
from typing import Final

from headway.clock import Clock
from headway.engine import BUSY_CODE
from headway.errors import ProtocolError
from headway.rate_limits import LocalRates, Rate
from headway.transport.http.exchange import Exchange

BURST_SECONDS: Final = 5.0
"""Seconds whose requests may all come at once."""


class RequestRates:
    """The rates of the callers of one process."""

    def __init__(self, rate: float, clock: Clock) -> None:
        """Let a caller send `rate` requests a second; 0: any number."""
        self._a_second = rate
        most = max(1.0, rate * BURST_SECONDS)
        self._rate = Rate(most, most / rate) if rate else None
        self._clock = clock
        self._callers = LocalRates()

    @property
    def most_of_one(self) -> float:
        """Return the requests that the busiest caller has sent, and not yet again."""
        if self._rate is None:
            return 0.0
        return self._callers.most_taken(self._rate, self._clock.now())

    def check_rate(self, exchange: Exchange) -> None:
        """Count a request of a caller.

        Raises:
            ProtocolError: It has sent as many as it may (429); `retry_after` says when to go on.
        """
        if self._rate is None:
            return
        wait = self._callers.take(exchange.rate_name(), self._rate, self._clock.now())
        if wait:
            raise ProtocolError(
                BUSY_CODE,
                f"More than {self._a_second:g} requests a second come from you (requests_each)",
                status=429,
                retry_after=ceil(wait),
                limit="requests_each",
            )
