"""CPU time: that of one process, and that of everybody else on the machine."""

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil


def cpu_of(pid: int) -> float:
    """CPU seconds a process has used; on Linux from its own clock, which counts nanoseconds."""
    if sys.platform == "linux":
        return time.clock_gettime(((~pid) << 3) | 2)
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def turns_of(pid: int) -> tuple[float, int]:
    """Seconds a process has waited for a core, and how often it got one; zero where not known."""
    try:
        _, waited, turns = Path(f"/proc/{pid}/schedstat").read_text().split()
    except OSError:
        return 0.0, 0
    return int(waited) / 1e9, int(turns)


class Neighbours:
    """How much of the machine is used by processes that are not ours, from now on."""

    def __init__(self, ours: Sequence[int]) -> None:
        self._ours = (*ours, os.getpid())
        self._begin = time.perf_counter()
        self._before = self._foreign()

    def share(self) -> float:
        """Of all cores, 0 to 1, since this was made."""
        cores = psutil.cpu_count() or 1
        seconds = (time.perf_counter() - self._begin) * cores
        return max(0.0, self._foreign() - self._before) / seconds

    def _foreign(self) -> float:
        times = psutil.cpu_times()
        busy = sum(times) - times.idle - getattr(times, "iowait", 0.0)
        # On Linux the time of guests is counted among the users' too.
        busy -= getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
        return busy - sum(cpu_of(pid) for pid in self._ours)
