"""Python's garbage collector in a process that serves: it need not look at permanent objects.

When a server has started, some hundred thousand objects will stay: modules, classes, schemas. A
full collection looks through all of them, on the event loop, and a body with many values causes
one.
"""

import gc


def freeze_what_is_there() -> None:
    """Take the objects of this moment out of all later collections; for a process that is ours
    alone.

    There is no collection before: it would take longer than the rest of a start, for hardly any
    garbage.
    """
    gc.freeze()
