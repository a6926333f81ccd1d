"""Whether a call still costs no more than it may: `python -m bench.gate`; non-zero if it does.

Two figures are held to limits, for an `echo` of an unchanged `MCPServer`. How many functions a call
calls is the same each time, so a tenth more is too many. Its processor time, as a multiple of the
floor's, is not: other processes push each other's data out of the caches. The two servers take
turns, of each the least counts, what is too much is measured again, and the limits lie half above
what was measured on an idle machine.
"""

import signal
import sys

from bench.contenders import CONTENDERS
from bench.counting import Tool, calls_of_one
from bench.jobs import Calls
from bench.processes import LOAD_CORE, LoadProcess, ServerProcess, pin
from bench.profile import cost_of, serving
from bench.wire import ERAS, Era

ROUNDS = 5
TRIES = 3
SECONDS = 0.5

MULTIPLES: dict[Era, float] = {"2025": 11.4, "2026": 12.8}
"""The multiples of the floor's processor time that are not to be exceeded."""

CALLS: dict[tuple[Era, Tool], float] = {
    ("2025", "echo"): 740, ("2026", "echo"): 835, ("2025", "pause"): 945, ("2026", "pause"): 1040,
}  # fmt: skip
"""The calls of functions that are not to be exceeded: a tenth more than there are."""


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
        times, most = ours / floor, MULTIPLES[era]
        print(f"{era}: a call takes {ours:.0f} µs, {times:.1f} × the floor; {most} is too much")
        if times < most:
            return True
    return False


def calls_few(era: Era, tool: Tool) -> bool:
    """Count the functions that a call calls, and tell whether they are few enough."""
    calls, most = calls_of_one(era, tool), CALLS[era, tool]
    print(f"{era}: a call of {tool} calls {calls:.0f} functions; {most:.0f} are too many")
    return calls < most


def main() -> int:
    """Measure both eras; 0 if all is within its limit."""
    signal.signal(signal.SIGTERM, lambda _signal, _frame: sys.exit("ended by SIGTERM"))
    pin(0, LOAD_CORE)
    load = LoadProcess()
    try:
        with serving(command_of("floor")) as floor, serving(command_of("unchanged")) as ours:
            within = [is_within(load, (floor, ours), era) for era in ERAS]
        few = [calls_few(era, tool) for era, tool in CALLS]
        return int(not all(within + few))
    finally:
        load.stop()


if __name__ == "__main__":
    sys.exit(main())
