"""Log lines that raise nothing: a call does not fail, or never end, for a line about it.

A logger runs code of others: the filters and handlers that a server's author or an operator has put
on it. Python's own handlers keep their errors to themselves; filters do not, and neither do all
handlers. What they raise would break off whatever was about to be done after the line.
"""

import logging
import sys
import traceback
from collections.abc import MutableMapping
from typing import Any


class QuietLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger for the code that carries calls: a line that cannot be written is lost.

    Why is printed on stderr, without the line, as long as `logging.raiseExceptions` says so.
    """

    def process(
        self, msg: object, kwargs: MutableMapping[str, Any]
    ) -> tuple[object, MutableMapping[str, Any]]:
        """Return what is logged: nothing is added, and `extra` stays."""
        return msg, kwargs

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Log a line, whatever the filters and handlers do."""
        try:
            # One more, so that the record names the line of the caller and not this one.
            kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 1
            self.logger.log(level, msg, *args, **kwargs)
        except Exception as error:  # noqa: BLE001 - of any kind: it is others' code
            report_lost_line(error)


def quiet_logger(name: str) -> QuietLogger:
    """Return the logger of that name as one that raises nothing."""
    return QuietLogger(logging.getLogger(name))


def report_lost_line(error: Exception) -> None:
    """Print where a line of the log was lost; what was to be in it may be a secret."""
    if not logging.raiseExceptions:
        return
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    try:
        sys.stderr.write(f"headway: a line of the log is lost: {type(error).__name__}{place}\n")
    except (AttributeError, OSError, ValueError):  # there is none, or it is closed
        return


def every_handler() -> list[logging.Handler]:
    """Return the handlers of all loggers that there are: a file may put some on any of them."""
    loggers = [logging.getLogger(), *logging.root.manager.loggerDict.values()]
    found = [each for one in loggers if isinstance(one, logging.Logger) for each in one.handlers]
    return list(dict.fromkeys(found))
