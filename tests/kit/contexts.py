"""What coverage.py measures is counted for the test file that runs, in every process.

Nothing happens where coverage.py does not measure. `scripts/test_map.py` reads the outcome.
"""

import inspect
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

CONTEXT = "run:context"
CONFIG = "COVERAGE_PROCESS_CONFIG"
"""In which coverage.py hands its configuration to the programs that are started."""

COUNTED_ALONE = "COUNTED_ALONE"
"""The same for the process that others are forked from."""

COUNTS_PROGRAMS = CONFIG in os.environ


def counted_for() -> str | None:
    """Return the test file that is counted for at the moment."""
    current = _current()
    return None if current is None else current.get_option(CONTEXT)


_paused: list[Any] = []
"""What counts in this process, while it does not."""


def count_for(file: str) -> None:
    """Count for a test file what this process, and those that it starts, execute from now on."""
    if _paused:
        _go_on(_paused.pop())
    current = _current()
    if current is None or counted_for() == file:
        return
    current.switch_context(file)
    current.set_option(CONTEXT, file)  # of processes that this one forks
    if COUNTS_PROGRAMS:
        os.environ[CONFIG] = current.config.serialize()


def count_nothing() -> None:
    """Count neither this process nor those that it starts, until `count_for`."""
    current = _current()
    if current is not None:
        current.stop()
        current.set_option(CONTEXT, None)
        _paused.append(current)
    os.environ.pop(CONFIG, None)


def _go_on(stopped: Any) -> None:
    """Start what was stopped: its own `start` would patch `os` and the signals once more."""
    stopped._collector.start()
    stopped._started = True
    stopped._instances.append(stopped)


@contextmanager
def counted_alone(config: str) -> Iterator[None]:
    """Count what this process does while this is open, and nothing of what it forks later.

    What `begin_to_count` would do in each of those is done once: looking at all modules.
    """
    from coverage import Coverage

    counting = Coverage(config_file=f":data:{config}")
    counting.set_option("run:patch", [])
    counting.set_option("run:sigterm", False)
    counting.start()
    try:
        yield
    finally:
        counting.stop()
        counting.save()
        inspect.stack()


def begin_to_count(config: str) -> None:
    """Count this process from now on, which was forked from one that is not counted."""
    from coverage import process_startup

    os.environ[CONFIG] = config
    process_startup(force=True)


def _current() -> Any:
    coverage = sys.modules.get("coverage")
    return None if coverage is None else coverage.Coverage.current()
