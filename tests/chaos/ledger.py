"""What tools have really done: one line for each deed, in a file that survives its writers.

A line is `time pid what job nonce [number]`. The nonce names one execution of a tool.
"""

import os
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

VARIABLE = "CHAOS_LEDGER"

KNOWN = "CHAOS_KNOWN"
"""Set where callers are known by their tokens: each is the name of its bearer."""

WORKERS = "CHAOS_WORKERS"
"""Set where workers execute every other tool."""


class Pen:
    """Writes for one execution; every line is on its way to the file before the deed is over."""

    def __init__(self, job: str) -> None:
        self.job = job
        self.nonce = token_hex(4)
        self._file = os.open(os.environ[VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self.note("begin")

    def note(self, what: str, number: int | None = None) -> None:
        tail = "" if number is None else f" {number}"
        line = f"{time.time():.4f} {os.getpid()} {what} {self.job} {self.nonce}{tail}\n"
        os.write(self._file, line.encode())

    def close(self) -> None:
        os.close(self._file)

    def done(self) -> str:
        """The tool's result."""
        self.note("end")
        return f"done {self.job} {self.nonce}"


@dataclass(frozen=True)
class Line:
    at: float
    pid: int
    what: str
    job: str
    nonce: str
    number: int


def read_ledger(path: Path) -> dict[str, list[Line]]:
    """The lines of each job, in order."""
    found: dict[str, list[Line]] = defaultdict(list)
    text = path.read_text() if path.exists() else ""
    for raw in text.splitlines():
        at, pid, what, job, nonce, *number = raw.split(" ")
        line = Line(float(at), int(pid), what, job, nonce, int(number[0]) if number else 0)
        found[job].append(line)
    return found
