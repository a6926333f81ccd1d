"""Counts in which functions a server spends its processor time, for `python -m bench.profile`.

The kernel sends SIGPROF once in each millisecond of processor time; the handler notes the stack.
"""

import json
import os
import signal
from collections import Counter
from pathlib import Path
from types import FrameType

VARIABLE = "BENCH_SAMPLES"
"""Names the file that the samples are written to; where it is not set nothing is sampled."""

INTERVAL = 0.001
DEEPEST = 60

_names: dict[object, str] = {}


class Sampler:
    """Begins with a first SIGUSR2; a second one ends it and writes each stack with its number."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._seen: Counter[tuple[str, ...]] = Counter()
        self._is_on = False

    def switch(self, _signal: int, _frame: FrameType | None) -> None:
        """Begin, or end and write."""
        self._is_on = not self._is_on
        every = INTERVAL if self._is_on else 0
        signal.setitimer(signal.ITIMER_PROF, every, every)
        if not self._is_on:
            rows = [[list(stack), count] for stack, count in self._seen.items()]
            beside = self._file.with_suffix(".part")
            beside.write_text(json.dumps(rows))
            beside.replace(self._file)

    def note(self, _signal: int, frame: FrameType | None) -> None:
        """Count the stack of this moment, the innermost function first."""
        stack: list[str] = []
        while frame is not None and len(stack) < DEEPEST:
            stack.append(name_of(frame))
            frame = frame.f_back
        self._seen[tuple(stack)] += 1


def name_of(frame: FrameType) -> str:
    """`headway/engine/engine.py:start_run`."""
    code = frame.f_code
    name = _names.get(code)
    if name is None:
        file = code.co_filename
        for root in ("/site-packages/", "/src/", "/bench/", "/lib/"):
            _, found, below = file.rpartition(root)
            if found:
                file = below if root != "/bench/" else f"bench/{below}"
                break
        name = _names[code] = f"{file}:{code.co_qualname}"
    return name


def sample_where_asked() -> None:
    """Let this process be sampled, where the variable says so."""
    file = os.environ.get(VARIABLE)
    if file:
        sampler = Sampler(Path(file))
        signal.signal(signal.SIGPROF, sampler.note)
        signal.signal(signal.SIGUSR2, sampler.switch)
