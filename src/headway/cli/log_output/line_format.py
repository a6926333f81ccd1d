"""How a record of the log is written: a line, and below it a traceback that cannot pass for one."""

import logging
from types import TracebackType

from headway.cli.display.printable import one_line
from headway.cli.log_output.tracebacks import folded_traceback

_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class LineFormatter(logging.Formatter):
    """Writes a record as one line, whatever a client or a tool has put into it.

    Control characters are escapes, so that nothing in a message ends its line or drives the
    terminal of who reads the log. Lines of a traceback are indented. `folds` leaves out frames
    that are not the author's.
    """

    INDENT = "    "

    def __init__(self, form: str, *, folds: bool = True) -> None:
        super().__init__(form)
        self._folds = folds

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the first line."""
        record.message = one_line(record.message)
        return one_line(super().formatMessage(record))

    def formatException(self, ei: _ExcInfo) -> str:
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
