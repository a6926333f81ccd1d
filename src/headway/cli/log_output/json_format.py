"""Records of the log as JSON, an object a line, for programs that collect logs."""

import json
import logging
from datetime import UTC, datetime
from typing import Any

from headway.cli.log_output.record_facts import run_of
from headway.cli.log_output.tracebacks import ExcInfo, folded_traceback


class JsonFormatter(logging.Formatter):
    """Writes a record as one JSON object.

    It has `time` (ISO 8601, UTC), `level`, `logger`, `message` and `process`; `run`, the reference
    of the run that it was made in; `call`, the facts of a call that ended; `exception` and `stack`.
    """

    def __init__(self, *, folds: bool = True) -> None:
        super().__init__()
        self._folds = folds

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {
            "time": moment.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
        }
        call: dict[str, Any] | None = getattr(record, "headway_call", None)
        if run := run_of(record) or (call or {}).get("reference"):
            line["run"] = run
        if call is not None:
            line["call"] = call
        if text := self._exception_text(record):
            line["exception"] = text
        if record.stack_info:
            line["stack"] = record.stack_info
        return json.dumps(line, default=str)

    def formatException(self, ei: ExcInfo) -> str:
        """Return a traceback, without the frames that are not the author's where it folds."""
        if self._folds and ei[1] is not None:
            return folded_traceback(ei[1])
        return super().formatException(ei)

    def _exception_text(self, record: logging.LogRecord) -> str | None:
        # A filter may have made the text already, and taken out what is secret.
        if record.exc_text or not record.exc_info or record.exc_info[1] is None:
            return record.exc_text
        return self.formatException(record.exc_info)
