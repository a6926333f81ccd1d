"""The exception that a tool raised, for a caller in the same process.

On its way to a client an exception becomes a text. A test wants the exception itself.
"""

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

_raised: ContextVar[list[Exception] | None] = ContextVar("headway_raised", default=None)


@contextmanager
def collect_raised() -> Generator[list[Exception]]:
    """Yield a list that gets what tools of a `Headway` raise, when they are called in here."""
    errors: list[Exception] = []
    token = _raised.set(errors)
    try:
        yield errors
    finally:
        _raised.reset(token)


def note_raised(error: Exception) -> None:
    """Note the exception of a tool; the author's own where the SDK has put it into one of its."""
    errors = _raised.get()
    if errors is not None:
        cause = error.__cause__
        errors.append(cause if isinstance(cause, Exception) else error)
