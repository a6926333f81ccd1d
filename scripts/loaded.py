"""Run all tests beside two busy processes a core, several times in a row.

    make test-loaded
    make test-loaded N=1

A suite that is right only on an idle machine is believed by nobody. Each run is bounded; the busy
processes end with this one, whatever ends it.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager

LIMIT = 45 * 60.0
"""Seconds that one run may take: three times what it takes when a third of a machine is its own."""

BUSY_EACH = 2

SPIN = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: sum(range(100_000))"
"""A process that never waits, until its parent is gone."""


@contextmanager
def busy(count: int) -> Generator[None]:
    """Have that many processes busy while this is open."""
    spinning = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(count)]
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
            process.wait()


def main() -> int:
    """Return 0 when every run passed."""
    parser = argparse.ArgumentParser(prog="make test-loaded", description=__doc__)
    parser.add_argument("--times", type=int, default=3)
    times: int = parser.parse_args().times
    with busy(BUSY_EACH * (os.cpu_count() or 1)):
        for number in range(1, times + 1):
            begun = time.monotonic()
            code = subprocess.run(["make", "test-all"], timeout=LIMIT, check=False).returncode
            print(f"loaded run {number} of {times}: exit {code}, {time.monotonic() - begun:.0f} s")
            if code:
                return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
