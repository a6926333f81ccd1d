"""The engine: executes runs and writes them to the journal."""

from headway.engine.context import RunContext, as_event, tell
from headway.engine.current import current_run
from headway.engine.engine import BUSY, Engine, Request, ToolOptions
from headway.engine.run import Run

__all__ = [
    "BUSY",
    "Engine",
    "Request",
    "Run",
    "RunContext",
    "ToolOptions",
    "as_event",
    "current_run",
    "tell",
]
