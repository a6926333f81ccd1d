"""Whether a call still costs no more than it may: `python -m bench.gate`; non-zero if it does.

Measured is the processor time of a call of an unchanged `MCPServer`, as a multiple of the floor's.
The two take turns, and of each the least counts: what else the machine does only adds to it. The
limits lie a third above what was measured, and what is above them is measured again, so that only a
real change reaches them.
"""

import signal
import sys

from bench.contenders import CONTENDERS
from bench.jobs import Calls
from bench.processes import LOAD_CORE, LoadProcess, ServerProcess, pin
from bench.profile import cost_of, serving
from bench.wire import ERAS, Era

ROUNDS = 5
TRIES = 3
SECONDS = 0.5

LIMITS: dict[Era, float] = {"2025": 10.8, "2026": 12.8}
"""The multiples of the floor that are not to be exceeded."""


def command_of(name: str) -> tuple[str, ...]:
    """How a contender is started, without the interpreter."""
    return next(one.command[2:] for one in CONTENDERS if one.name == name)


def costs(load: LoadProcess, servers: tuple[ServerProcess, ...], era: Era) -> list[float]:
    """The least processor time of a call that any round took, in µs, for each server."""
    jobs = [
        Calls(port=server.port, pid=server.pid, era=era, connections=32, seconds=SECONDS)
        for server in servers
    ]
    rounds = [[cost_of(load, job) for job in jobs] for _ in range(ROUNDS)]
    return [min(column) for column in zip(*rounds, strict=True)]


def is_within(load: LoadProcess, servers: tuple[ServerProcess, ...], era: Era) -> bool:
    """Measure up to `TRIES` times, print what came of it, and tell whether it may be so."""
    for _ in range(TRIES):
        floor, ours = costs(load, servers, era)
        times, most = ours / floor, LIMITS[era]
        print(f"{era}: a call takes {ours:.0f} µs, {times:.1f} × the floor; {most} is too much")
        if times < most:
            return True
    return False


def main() -> int:
    """Measure both eras; 0 if all is within its limit."""
    signal.signal(signal.SIGTERM, lambda _signal, _frame: sys.exit("ended by SIGTERM"))
    pin(0, LOAD_CORE)
    load = LoadProcess()
    try:
        with serving(command_of("floor")) as floor, serving(command_of("unchanged")) as ours:
            within = [is_within(load, (floor, ours), era) for era in ERAS]
            return int(not all(within))
    finally:
        load.stop()


if __name__ == "__main__":
    sys.exit(main())
