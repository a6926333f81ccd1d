"""Python's garbage collector in a process that serves: it seldom looks at what will stay.

When a server has started, some hundred thousand objects will stay: modules, classes, schemas. And
each call that goes on keeps a hundred more. A full collection looks through all of them, on the
event loop: with thousands of calls that takes longer than an event may be late. Nearly all that
Headway makes and drops is freed without the collector.
"""

import gc
from typing import Final

THRESHOLDS: Final = (5_000, 20, 100)
"""New objects until a collection of the youngest, and how many of these until one of older ones."""


def tune_collector() -> None:
    """Have the garbage collector leave alone what is there now, and look through all of the rest
    seldom; for a process that is ours alone.

    There is no collection before: it would take longer than the rest of a start, for hardly any
    garbage.
    """
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
