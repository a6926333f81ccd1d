"""What is said where no run is: nobody hears it, and whoever wrote it is told once."""

import logging
from typing import Final

logger = logging.getLogger(__name__)

_told: Final[set[str]] = set()


def warn_unheard(what: str) -> None:
    """Say once, in the log, that this function was called outside of a run, and what to do."""
    if what not in _told:
        _told.add(what)
        logger.warning(
            "%s() was called outside of a run, so nobody hears it. In a tool that is served by "
            "something else than Headway: serve it with `headway run FILE:NAME`, headway.run(mcp) "
            "or headway.asgi(mcp). In a test: use headway.testing.run_tool, or record(). In a "
            "thread of your own: start it in contextvars.copy_context().run",
            what,
        )
