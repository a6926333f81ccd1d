"""Logging a journal's failure instead of raising it, where nobody waits for the outcome."""

from headway.errors import JournalError
from headway.log_lines import quiet_logger

logger = quiet_logger(__name__)


class log_journal_errors:
    """A context manager that logs a `JournalError` and goes on after the block."""

    def __init__(self, message: str, *args: object) -> None:
        self._message, self._args = message, args

    def __enter__(self) -> None:
        pass

    def __exit__(self, _type: object, error: BaseException | None, _trace: object) -> bool:
        if isinstance(error, JournalError):
            logger.warning("%s: %s", self._message % self._args, error)
            return True
        return False
