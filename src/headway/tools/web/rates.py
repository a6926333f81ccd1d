"""The rates at which hosts may be asked."""

import asyncio

from headway.tools.timing import Clock
from headway.tools.web.hosts import Host, name_of

KEPT = 1000
"""Gates, before the idle ones are forgotten: a `*.` stands for any number of names."""


class HostRate:
    """Lets requests to one host pass at its rate, in order, and not while the host wants a rest."""

    def __init__(self, rate: float, clock: Clock) -> None:
        self._every = 1 / rate
        self._clock = clock
        self._next = 0.0
        self._turn = asyncio.Lock()

    @property
    def is_idle(self) -> bool:
        """Return whether a new gate would let the next one pass just as this does."""
        return not self._turn.locked() and self._next <= self._clock.now()

    async def pass_through(self) -> None:
        """Wait for a turn. A request that is cancelled while it waits takes none."""
        async with self._turn:
            # A host that asks for a rest meanwhile gets it from those who wait, too.
            while (wait := self._next - self._clock.now()) > 0:
                await self._clock.sleep(wait)
            self._next = self._clock.now() + self._every

    def close(self, seconds: float) -> None:
        """Let no request pass for so long."""
        self._next = max(self._next, self._clock.now() + seconds)


class Rates:
    """The gates of all hosts, for all calls of a tool."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._gates: dict[str, HostRate] = {}

    def rate_of(self, name: str, host: Host) -> HostRate:
        """Return the one gate of a host, whatever port, path or spelling it is asked by."""
        if len(self._gates) >= KEPT:
            self._gates = {name: gate for name, gate in self._gates.items() if not gate.is_idle}
        return self._gates.setdefault(name_of(name), HostRate(host.rate, self._clock))
