"""What a page shows: its blocks, the commands in them, and what they are to print."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from tests.kit.waits import PATIENCE

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ANYTHING = "…"


def pattern_of(expected: str) -> str:
    """A pattern for an output in which `…` stands for anything, on a line of its own for lines."""
    literal = re.escape(expected.strip())
    lines = literal.replace(f"\\\n{ANYTHING}\\\n", "\n(?:.*\n)?")
    return lines.replace(ANYTHING, ".*?")


def commands(text: str) -> list[tuple[str, str]]:
    """The commands of a console block, each with what it shows."""
    shown = re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]
    return [(first, rest) for first, _, rest in (entry.partition("\n") for entry in shown)]


def run(command: str, place: Path) -> tuple[int, str]:
    """The exit code of a command and what it shows, errors first: so they come on a terminal."""
    words = shlex.split(command)
    programs = {"headway": [sys.executable, "-m", "headway"], "python": [sys.executable]}
    done = subprocess.run(
        [*programs.get(words[0], words[:1]), *words[1:]],
        cwd=place, capture_output=True, text=True, timeout=PATIENCE, check=False,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )  # fmt: skip
    # A busy machine holds the event loop, which the log names.
    told = [line for line in done.stderr.splitlines(True) if "loop_watchdog" not in line]
    return done.returncode, ("".join(told) + done.stdout).strip()
