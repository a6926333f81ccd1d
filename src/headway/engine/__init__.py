"""The engine: executes runs and writes them to the journal."""

from headway.engine.engine import Engine
from headway.engine.failures import as_exception, contained, lifespan_of
from headway.engine.idempotency import id_key
from headway.engine.lifespan_context import SetVariable, inherit, set_since
from headway.engine.limits.admission import BUSY, stopping
from headway.engine.limits.semaphore import Gate
from headway.engine.loop_watchdog import Watchdog
from headway.engine.process_names import is_id_of_run, process_of
from headway.engine.recovery.drain import finish, give_back, leave_shields
from headway.engine.remote.mirror import Following, gone
from headway.engine.remote.process_inbox import order
from headway.engine.remote.run_inbox import ask, inbox_of, read_inbox
from headway.engine.request import DEFAULT_QUEUE, Execute, Request, ToolOptions
from headway.engine.run.accounting import losses
from headway.engine.run.context import RunContext, as_event, tell
from headway.engine.run.current import current_run
from headway.engine.run.large_results import result_of, text_of
from headway.engine.run.questions import client_error
from headway.engine.run.run import Run
from headway.engine.run.threads import unheard
from headway.engine.submit import admit, launch, launch_once

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
