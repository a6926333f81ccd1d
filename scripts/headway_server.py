"""A server as a user would serve it, for checks that talk to it from outside."""

import contextlib
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from pathlib import Path

STARTS_WITHIN = 30
"""Seconds that the server has to say where it is."""


@contextlib.contextmanager
def served(log: Path, *arguments: str) -> Generator[str]:
    """`headway ARGUMENTS` on a free port with a journal file of its own; its URL."""
    with tempfile.TemporaryDirectory() as folder, log.open("w") as said:
        command = [
            sys.executable, "-m", "headway", *arguments, "--port", "0",
            "--journal", f"sqlite:///{folder}/journal.db",
        ]  # fmt: skip
        with subprocess.Popen(command, stderr=said) as process:
            try:
                yield _url_of(process, log)
            finally:
                process.terminate()


def _url_of(process: subprocess.Popen[bytes], log: Path) -> str:
    """The URL that a starting server names."""
    late = time.monotonic() + STARTS_WITHIN
    while process.poll() is None and time.monotonic() < late:
        found = re.search(r"serving .+? at (http://\S+)", log.read_text())
        if found:
            return found[1]
        time.sleep(0.05)
    sys.exit(f"the server did not start:\n{log.read_text()}")
