"""The engine: executes runs and writes them to the journal."""

from headway.engine.context import RunContext, as_event, tell
from headway.engine.counting import losses
from headway.engine.current import current_run
from headway.engine.drain import finish, give_back, leave_shields
from headway.engine.engine import Engine
from headway.engine.failures import as_exception, contained, lifespan_of
from headway.engine.following import Following, gone
from headway.engine.gate import Gate
from headway.engine.inbox import ask, inbox_of, read_inbox
from headway.engine.inherited import SetVariable, inherit, set_since
from headway.engine.keys import id_key
from headway.engine.once import admit, launch, launch_once
from headway.engine.orders import order
from headway.engine.places import BUSY, stopping
from headway.engine.processes import is_id_of_run, process_of
from headway.engine.questions import client_error
from headway.engine.request import DEFAULT_QUEUE, Execute, Request, ToolOptions
from headway.engine.results import result_of, text_of
from headway.engine.run import Run
from headway.engine.threads import unheard
from headway.engine.watchdog import Watchdog

__all__ = [
    "BUSY",
    "DEFAULT_QUEUE",
    "Engine",
    "Execute",
    "Following",
    "Gate",
    "Request",
    "Run",
    "RunContext",
    "SetVariable",
    "ToolOptions",
    "Watchdog",
    "admit",
    "as_event",
    "as_exception",
    "ask",
    "client_error",
    "contained",
    "current_run",
    "finish",
    "give_back",
    "gone",
    "id_key",
    "inbox_of",
    "inherit",
    "is_id_of_run",
    "launch",
    "launch_once",
    "leave_shields",
    "lifespan_of",
    "losses",
    "order",
    "process_of",
    "read_inbox",
    "result_of",
    "set_since",
    "stopping",
    "tell",
    "text_of",
    "unheard",
]
