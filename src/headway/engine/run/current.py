"""The run that the current task or thread works for."""

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headway.engine.run.run import Run

current_run: ContextVar["Run | None"] = ContextVar("headway_run", default=None)
"""None where there is no run, and while a label of a track is asked for its message."""

is_muted: ContextVar[bool] = ContextVar("headway_muted", default=False)
"""Whether it is None on purpose."""
