"""The facts that a record of the log has besides its message: its run, and those of a call.

Every record that is made while a run's code works, in whatever thread or task, has the run's
reference as `headway_run`. So any formatter may write `%(headway_run)s`, and what is handed to
another thread by a queue still has it.
"""

import logging
from typing import Any, Final

from headway.engine.run.run import executing_run

ACCESS_LOGGER: Final = "uvicorn.access"


def name_runs_in_records() -> None:
    """Have every record from now on carry the reference of its run."""
    make = logging.getLogRecordFactory()
    if getattr(make, "names_runs", False):
        return

    def make_named(*args: Any, **values: Any) -> logging.LogRecord:
        record = make(*args, **values)
        run = executing_run()
        record.headway_run = "" if run is None else run.reference
        return record

    make_named.names_runs = True  # pyright: ignore[reportFunctionMemberAccess]
    logging.setLogRecordFactory(make_named)


def run_of(record: logging.LogRecord) -> str:
    """Return the reference of the run that a record was made in, or ''."""
    return getattr(record, "headway_run", "")


def show_requests() -> None:
    """Log a line for each HTTP request: address, method, path and status.

    The query is left out: a path of the server's own may have a secret there.
    """
    logger = logging.getLogger(ACCESS_LOGGER)
    logger.setLevel(logging.INFO)
    logger.addFilter(_without_query)


def _without_query(record: logging.LogRecord) -> bool:
    match record.args:
        case (client, method, str(path), *rest):
            record.args = (client, method, path.partition("?")[0], *rest)
        case _:
            pass
    return True
