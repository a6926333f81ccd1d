"""The form of a log record: one line, and below it a traceback that cannot pass for a record."""

import logging

from headway.cli.display.printable import one_line
from headway.cli.log_output.record_facts import run_of
from headway.cli.log_output.tracebacks import ExcInfo, folded_traceback


class LineFormatter(logging.Formatter):
    """Writes a record as one line, whatever a client or a tool has put into it.

    Control characters are escaped, so that nothing in a message ends its line or drives the
    reader's terminal. Lines of a traceback are indented. `folds` leaves out frames that are not the
    author's. A record that was made in a run names it.
    """

    INDENT = "    "

    def __init__(self, form: str, *, folds: bool = True) -> None:
        super().__init__(form)
        self._folds = folds

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the first line."""
        record.message = one_line(record.message)
        line = one_line(super().formatMessage(record))
        run = run_of(record)
        return f"{line} (run {run})" if run and run not in record.message else line

    def formatException(self, ei: ExcInfo) -> str:
        """Return the lines of a traceback."""
        error = ei[1]
        text = (
            folded_traceback(error)
            if self._folds and error is not None
            else super().formatException(ei)
        )
        return self._indent_lines(text)

    def formatStack(self, stack_info: str) -> str:
        """Return the lines of a stack."""
        return self._indent_lines(stack_info)

    def _indent_lines(self, text: str) -> str:
        return "\n".join(self.INDENT + one_line(line) for line in text.split("\n"))
