"""Run all tests and count what they reach of `src/`, in every process that they start.

    make coverage
    make test COUNTED=1 && make coverage-rest      the same in two steps

Prints the lines and branches that no test reaches, and fails below `AT_LEAST` per cent of both
together. What cannot be reached is listed in `[tool.coverage]` of pyproject.toml, each with its
reason. Processes that are killed with SIGKILL leave no data behind.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

AT_LEAST = 95.0
OUT = Path("out/coverage")
JOBS = os.environ.get("JOBS", "4")


def run(*command: str) -> int:
    """Run a command of this environment."""
    program = str(Path(sys.executable).with_name(command[0]))
    return subprocess.run([program, *command[1:]], check=False).returncode


def main() -> int:
    """Return 0 when the tests pass and reach enough."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--add", metavar="EXPRESSION", help="run these, and keep what was counted")
    chosen: str | None = parser.parse_args().add
    if chosen is None:
        shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True, exist_ok=True)
    tests = ["--dist", "worksteal", "--ignore=tests/deploy", "-m", chosen or ""]
    if chosen is not None:
        tests.append("--count-less")
    passed = run("coverage", "run", "-m", "pytest", "-q", "-n", JOBS, *tests)
    run("coverage", "combine", "--quiet")
    enough = run("coverage", "report", f"--fail-under={AT_LEAST:g}")
    print(f"{'' if passed or enough else 'all '}tests {'failed' if passed else 'passed'}")
    return passed or enough


if __name__ == "__main__":
    sys.exit(main())
