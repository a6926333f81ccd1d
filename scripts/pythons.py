"""Run `make test`'s tests on every other Python that Headway supports and this machine has.

    make test-pythons
    make test-pythons ARGS="--only 3.13"

Each has an environment of its own below `.tools`. One that is not on the machine is named.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
UV = CHECKOUT / ".tools" / ".venv" / "bin" / "uv"

VERSIONS = ("3.11", "3.12", "3.13", "3.14")


def interpreter(version: str) -> str | None:
    """Return the path of a Python of this version, or None; nothing is downloaded."""
    # pyenv has a command for every version, which runs those alone that were chosen.
    kept = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    if kept:
        return str(kept[-1])
    found = subprocess.run(
        [UV, "python", "find", "--no-python-downloads", "--no-project", version],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return found.stdout.strip() if found.returncode == 0 else None


def test_on(version: str, python: str) -> int:
    """Return the exit code of the tests on one Python."""
    environment = CHECKOUT / ".tools" / f"python{version}"
    env = {**os.environ, "UV_PROJECT_ENVIRONMENT": str(environment)}
    made = subprocess.run(
        [UV, "sync", "--frozen", "--quiet", "--python", python], cwd=CHECKOUT, env=env, check=False
    )
    if made.returncode:
        return made.returncode
    stamp = environment / ".installed"
    stamp.touch()
    command = ["make", "test", f"RUN={environment / 'bin'}/", f"STAMP={stamp}"]
    return subprocess.run(command, cwd=CHECKOUT, check=False).returncode


def main() -> int:
    """Return 0 when the tests passed on each Python that is here."""
    parser = argparse.ArgumentParser(prog="make test-pythons", description=__doc__)
    parser.add_argument("--only", choices=VERSIONS)
    chosen: str | None = parser.parse_args().only
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    code = 0
    for version in [chosen] if chosen else [one for one in VERSIONS if one != own]:
        python = interpreter(version)
        if python is None:
            print(f"Python {version}: not on this machine, not tested", flush=True)
            continue
        print(f"Python {version}: {python}", flush=True)
        code = test_on(version, python) or code
    return code


if __name__ == "__main__":
    sys.exit(main())
