"""The engine: executes runs and writes them to the journal."""

from headway.engine.context import RunContext, as_event, tell
from headway.engine.current import current_run
from headway.engine.drain import finish, give_back
from headway.engine.engine import BUSY, Engine
from headway.engine.following import Following
from headway.engine.inbox import ask, inbox_of, read_inbox
from headway.engine.keys import id_key
from headway.engine.once import launch_once
from headway.engine.request import Execute, Request, ToolOptions
from headway.engine.run import Run

__all__ = [
    "BUSY",
    "Engine",
    "Execute",
    "Following",
    "Request",
    "Run",
    "RunContext",
    "ToolOptions",
    "as_event",
    "ask",
    "current_run",
    "finish",
    "give_back",
    "id_key",
    "inbox_of",
    "launch_once",
    "read_inbox",
    "tell",
]
