"""Run `make test`'s tests with the oldest versions of the dependencies that pyproject.toml allows.

    make test-oldest
    make test-oldest ARGS="--python 3.12 tests/wire"

A bound that is too low is found by a user: the resolver picks what he has already, and something
does not run. The environment is one of its own, `.tools/oldest`.
"""

import argparse
import subprocess
import sys

from pythons import CHECKOUT, UV, VERSIONS, environment_for, interpreter, run_tests

OLDEST = "oldest"


def install_oldest(environment: str) -> None:
    """Replace what the package itself names by the oldest version of each that it allows."""
    python = f"{environment}/bin/python"
    compiled = subprocess.run(
        [
            *(UV, "pip", "compile", "--quiet", "--no-header", "--no-annotate"),
            *("pyproject.toml", "--all-extras", "--resolution", "lowest-direct"),
            *("--python", python),
        ],
        cwd=CHECKOUT, check=True, capture_output=True,
    ).stdout  # fmt: skip
    subprocess.run(
        [UV, "pip", "install", "--quiet", "--python", python, "--requirements", "-"],
        cwd=CHECKOUT, check=True, input=compiled,
    )  # fmt: skip


def main() -> int:
    """Return 0 when the tests passed."""
    parser = argparse.ArgumentParser(prog="make test-oldest", description=__doc__)
    parser.add_argument("--python", choices=VERSIONS, help="if it is on the machine")
    options, of_pytest = parser.parse_known_args()
    python = interpreter(options.python) if options.python else None
    environment = environment_for(OLDEST, python or sys.executable)
    install_oldest(str(environment))
    return run_tests(environment, *of_pytest)


if __name__ == "__main__":
    sys.exit(main())
