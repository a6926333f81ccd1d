"""Event loops that say which test made them, so that one left open is not blamed on another."""

import asyncio
import os
import sys
import traceback

_FRAMES = 12


def name_makers() -> None:
    """Have each event loop of this process tell in its `repr` where it was made.

    Python warns of an open loop when it is collected, which may be in a later test.
    """
    kind = asyncio.BaseEventLoop
    begin, describe = kind.__init__, kind.__repr__

    def init(self: asyncio.BaseEventLoop) -> None:
        begin(self)
        frames = traceback.walk_stack(sys._getframe(1))
        made = traceback.StackSummary.extract(frames, limit=_FRAMES, lookup_lines=False)
        places = " < ".join(f"{f.filename.rpartition('/')[2]}:{f.lineno}" for f in made)
        vars(self)["made"] = f"{os.environ.get('PYTEST_CURRENT_TEST', 'no test')}: {places}"

    def tell(self: asyncio.BaseEventLoop) -> str:
        return f"{describe(self)[:-1]} made in {vars(self).get('made')}>"

    kind.__init__ = init
    kind.__repr__ = tell
