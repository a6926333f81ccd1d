"""What a serving process logs, and where: one line each, on stderr."""

import logging

from headway.cli.logform import LineFormatter

QUIET = ("mcp", "uvicorn", "httpx2", "httpcore2", "asyncio")
"""Libraries that say at `info` what only their own authors want to know."""


def configure(level: str, *, folds: bool = True) -> None:
    """Log at `level` and above on stderr; libraries from `warning` on, unless it is `debug`.

    Tracebacks leave out what carries a call, unless `folds` is false or the level is `debug`.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    handler = logging.StreamHandler()
    form = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
    handler.setFormatter(LineFormatter(form, folds=folds and number > logging.DEBUG))
    logging.basicConfig(level=number, handlers=[handler], force=True)
    floor = number if number <= logging.DEBUG else max(number, logging.WARNING)
    for name in QUIET:
        logging.getLogger(name).setLevel(floor)
