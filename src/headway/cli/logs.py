"""What a serving process logs, and where: one line each, on stderr."""

import logging

QUIET = ("mcp", "uvicorn", "httpx2", "httpcore2", "asyncio")
"""Libraries that say at `info` what only their own authors want to know."""


def configure(level: str) -> None:
    """Log at `level` and above on stderr; libraries from `warning` on, unless it is `debug`."""
    number = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(
        level=number, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s", force=True
    )
    floor = number if number <= logging.DEBUG else max(number, logging.WARNING)
    for name in QUIET:
        logging.getLogger(name).setLevel(floor)
