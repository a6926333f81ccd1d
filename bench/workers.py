"""What a second process adds: `python -m bench.workers [--rounds 3]`.

`headway run --workers 1` and `--workers 2` with a journal file and an unchanged `MCPServer`, driven
by the load generator. Neither is held to a core, and the generator takes its part of the two as
well. Printed are the medians of the rounds.
"""

import argparse
import signal
import statistics
import sys
from pathlib import Path

from bench.jobs import AnyJob, Calls, Events
from bench.processes import CORES, ROOT, LoadProcess, ServerProcess, pin
from bench.wire import ERAS, FIRST_ID, Era, Wire

SECONDS = 2.0
WORKERS = (1, 2)
WORK = ("calls", "events")


def rate(load: LoadProcess, workers: int, era: Era, work: str) -> float:
    """Calls or events a second of a server with so many processes."""
    target = f"{ROOT / 'bench/servers/fixture.py'}:mcp"
    command = (
        *("run", target, "--port", "{port}", "--workers", str(workers)),
        *("--journal", "sqlite:///{directory}/journal.db", "--set=progress_rate=0"),
    )
    server = ServerProcess((str(Path(sys.executable).with_name("headway")), *command))
    pin(server.pid, *CORES)
    try:
        request = Wire(server.port, "2026").call("echo", {"text": "first"}).fill(FIRST_ID)
        server.first_answer(request, 60)
        port, pid = server.port, server.pid
        job: AnyJob = Calls(port=port, pid=pid, era=era, connections=32, seconds=SECONDS)
        if work == "events":
            job = Events(port=port, pid=pid, era=era, streams=16, events=1000, seconds=SECONDS)
        outcome = load.perform(job)
        found = outcome.figures.get("rate")
        if found is None:
            sys.exit(f"the load was not answered: {outcome.error}")
        return found
    finally:
        server.stop()


def main() -> None:
    """Measure all in turns, and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.workers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds: int = parser.parse_args().rounds
    signal.signal(signal.SIGTERM, lambda _signal, _frame: sys.exit("ended by SIGTERM"))
    load = LoadProcess()
    try:
        for era in ERAS:
            for work in WORK:
                rows = [[rate(load, many, era, work) for many in WORKERS] for _ in range(rounds)]
                one, two = (statistics.median(column) for column in zip(*rows, strict=True))
                times = statistics.median(row[1] / row[0] for row in rows)
                print(f"{era}: {one:,.0f} {work}/s by one, {two:,.0f} by two: {times:.2f} times")
    finally:
        load.stop()


if __name__ == "__main__":
    main()
