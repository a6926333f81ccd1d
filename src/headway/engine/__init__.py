"""The engine: executes runs and writes them to the journal."""

from headway.engine.engine import Engine
from headway.engine.lifecycle import Lifecycle, Phase
from headway.engine.lifespan_context import SetVariable, inherit_variables, variables_set_since
from headway.engine.limits.admission import BUSY_CODE, stopping_error
from headway.engine.limits.semaphore import FairSemaphore
from headway.engine.loop_watchdog import Watchdog
from headway.engine.remote.mirror import MirrorRun, result_gone_error
from headway.engine.remote.process_inbox import send_control, send_retry
from headway.engine.remote.run_inbox import ask_run, handed_over_event, read_inbox
from headway.engine.request import DEFAULT_QUEUE, Execute, Request, ToolOptions
from headway.engine.run.context import RunContext, as_event, notify_run
from headway.engine.run.current_run import ToolRun, current_run
from headway.engine.run.end_counts import lost_outputs
from headway.engine.run.end_line import log_calls
from headway.engine.run.large_results import message_of
from headway.engine.run.questions import client_error
from headway.engine.run.run import Run, executing_run
from headway.engine.run.threads import warn_unheard, warn_unused
from headway.engine.services import EngineOptions
from headway.engine.submit import check_limits, retry_run, submit
from headway.engine.tool_access import ScopePolicy
from headway.engine.tool_failures import as_exception, contain_failures, lifespan_of

__all__ = [
    "BUSY_CODE",
    "DEFAULT_QUEUE",
    "Engine",
    "EngineOptions",
    "Execute",
    "FairSemaphore",
    "Lifecycle",
    "MirrorRun",
    "Phase",
    "Request",
    "Run",
    "RunContext",
    "ScopePolicy",
    "SetVariable",
    "ToolOptions",
    "ToolRun",
    "Watchdog",
    "as_event",
    "as_exception",
    "ask_run",
    "check_limits",
    "client_error",
    "contain_failures",
    "current_run",
    "executing_run",
    "handed_over_event",
    "inherit_variables",
    "lifespan_of",
    "log_calls",
    "lost_outputs",
    "message_of",
    "notify_run",
    "read_inbox",
    "result_gone_error",
    "retry_run",
    "send_control",
    "send_retry",
    "stopping_error",
    "submit",
    "variables_set_since",
    "warn_unheard",
    "warn_unused",
]
