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


def environment_for(name: str, python: str) -> Path:
    """Return an environment below `.tools` with all that the lock file says.

    Raises:
        subprocess.CalledProcessError: It cannot be made.
    """
    environment = CHECKOUT / ".tools" / name
    env = {**os.environ, "UV_PROJECT_ENVIRONMENT": str(environment)}
    subprocess.run(
        [UV, "sync", "--frozen", "--quiet", "--python", python], cwd=CHECKOUT, env=env, check=True
    )
    (environment / ".installed").touch()
    return environment


def run_tests(environment: Path, *arguments: str) -> int:
    """Return the exit code of `make test` in an environment."""
    stamp = environment / ".installed"
    command = ["make", "test", f"RUN={environment / 'bin'}/", f"STAMP={stamp}"]
    command.append(f"ARGS={' '.join(arguments)}")
    return subprocess.run(command, cwd=CHECKOUT, check=False).returncode


def main() -> int:
    """Return 0 when the tests passed on each Python that is here."""
    parser = argparse.ArgumentParser(prog="make test-pythons", description=__doc__)
    parser.add_argument("--only", choices=VERSIONS)
    parser.add_argument("--skip", choices=VERSIONS, help="it is tested another way")
    options = parser.parse_args()
    chosen: str | None = options.only
    left_out = (f"{sys.version_info.major}.{sys.version_info.minor}", options.skip)
    code = 0
    for version in [chosen] if chosen else [one for one in VERSIONS if one not in left_out]:
        python = interpreter(version)
        if python is None:
            print(f"Python {version}: not on this machine, not tested", flush=True)
            continue
        print(f"Python {version}: {python}", flush=True)
        code = run_tests(environment_for(f"python{version}", python)) or code
    return code


if __name__ == "__main__":
    sys.exit(main())
