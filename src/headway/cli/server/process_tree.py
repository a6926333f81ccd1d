"""The processes that this one started, found and ended.

They are found by their parents, in the table of processes. A process group of our own would be
simpler, but it would take the server out of the group of its terminal: Ctrl+C would not reach it
any more. If we were started as the leader of a group, all of that group is ours too, and with it
processes that a shell left in the background before it ended. A daemon, which made itself
independent, is not ours to end.
"""

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

CHILD_POLL_INTERVAL = 0.02
"""Seconds between looks whether processes that were asked to end have ended."""


class Process(NamedTuple):
    """One row of the table of processes."""

    pid: int
    parent: int
    group: int


def children() -> list[int]:
    """Return all descendants of this process, and the processes of our own group."""
    me = os.getpid()
    table = _process_table()
    ours = {me}
    grows = True
    while grows:
        more = {row.pid for row in table if row.pid not in ours and row.parent in ours}
        more |= {row.pid for row in table if row.pid not in ours and row.group in ours}
        ours |= more
        grows = bool(more)
    return sorted(ours - {me})


def end_children(number: int) -> int:
    """Send a signal to all of them, and return their number."""
    found = children() if os.name == "posix" else []
    for pid in found:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
    return len(found)


def kill_children() -> None:
    """Kill all of them at once, and those that they start in the meantime."""
    for _ in range(3):
        if not end_children(signal.SIGKILL):
            return


def end_children_within(seconds: float) -> None:
    """Ask all of them to end, and kill those that do not within some seconds."""
    limit = time.monotonic() + seconds
    if end_children(signal.SIGTERM):
        while children() and time.monotonic() < limit:
            time.sleep(CHILD_POLL_INTERVAL)
        kill_children()


def _process_table() -> list[Process]:
    if Path("/proc/self/stat").exists():
        return list(filter(None, map(_process_row, Path("/proc").glob("[0-9]*/stat"))))
    return _list_processes()


def _process_row(file: Path) -> Process | None:
    try:
        # The name, in parentheses, may hold anything.
        fields = file.read_text("utf-8", "replace").rpartition(")")[2].split()
    except OSError:  # the process has just ended
        return None
    is_dead = fields[0] in "ZX"
    return None if is_dead else Process(int(file.parent.name), int(fields[1]), int(fields[2]))


def _list_processes() -> list[Process]:
    """Return the table of processes by `ps`, where there is no `/proc`, as on macOS."""
    command = ["ps", "-A", "-o", "pid=,ppid=,pgid="]
    try:
        shown = subprocess.run(command, capture_output=True, text=True, timeout=1, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    rows = (line.split() for line in shown.stdout.splitlines())
    return [Process(*map(int, row)) for row in rows if len(row) == 3]
