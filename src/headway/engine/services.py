"""The things that all parts of the engine share, and the engine's options."""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING

from headway.clock import Clock
from headway.counters import Counters
from headway.engine.lifecycle import Lifecycle
from headway.engine.request import Execute, Request, RequestInfo, ToolOptions
from headway.engine.tool_access import ScopePolicy, ToolAccess
from headway.events import RequestStored
from headway.journal import Journal
from headway.settings import Settings

if TYPE_CHECKING:
    from headway.engine.idempotency import RunNames
    from headway.engine.remote.remote_answers import RemoteAnswers
    from headway.engine.remote.run_inbox import RunInboxes
    from headway.engine.run.call_records import CallRecords

NO_OPTIONS = ToolOptions()


def _no_tool_options(_tool: str) -> None:
    return None


def _ignore_release(_stream: str) -> None:
    pass


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """The facts that an engine needs about the server whose requests it executes."""

    tool_options: Callable[[str], ToolOptions | None] = _no_tool_options
    """Returns what the author set for a tool, by its name; None: nothing."""
    has_windows: Callable[[], bool] = bool
    """Returns whether the author set a hand-over window for a tool."""
    max_result: float = inf
    """Bytes; a larger result becomes a resource. inf where the server has no resources."""
    executor_for: Callable[[RequestStored], Execute] | None = None
    """Returns what executes a request that only the journal knows; None: nothing can."""
    on_run_released: Callable[[str], None] = _ignore_release
    """Called with the stream of a run that stops here and that its client may ask for again."""
    server_name: str = ""
    """The name of the server, for people who look into a journal that several share."""
    caller_note: Callable[[], str] = str
    """Returns what the callers of tools are to know of this process; empty mostly."""
    records: "CallRecords | None" = None
    """Writes what the audit log has of calls; None where none is kept."""
    is_worker: bool = False
    """Whether the process is a worker: it takes runs out of queues, and recovers no others."""
    policy: ScopePolicy = field(default_factory=ScopePolicy)
    """The scopes that its tools need."""


@dataclass(frozen=True, slots=True)
class Services:
    """The things that all parts of one engine share."""

    journal: Journal
    settings: Settings
    clock: Clock
    options: EngineOptions
    counters: Counters
    names: "RunNames"
    """Finds runs by idempotency keys and handles."""
    inboxes: "RunInboxes"
    """Asks something of runs, and acts on what is asked of those of this process."""
    remote_answers: "RemoteAnswers"
    """Brings runs the answers that clients give to other processes."""
    access: ToolAccess
    """Decides who may call a tool, and who may have what its runs said."""
    lifecycle: Lifecycle = field(default_factory=Lifecycle)

    def info_of(self, request: Request) -> RequestInfo:
        """Return the facts of a request, with what the author set for its tool."""
        return request.info_with(self.options_of(request.target))

    def options_of(self, tool: str | None) -> ToolOptions:
        """Return what the author set for a tool."""
        return self.options.tool_options(tool or "") or NO_OPTIONS

    @property
    def offers_handles(self) -> bool:
        """True when a call may be answered with a plain handle: author or operator said when."""
        server = self.settings.hand_over
        return (server is not None and server < inf) or self.options.has_windows()

    @property
    def offers_tasks(self) -> bool:
        """True when a call may become a task, for a client that knows tasks."""
        return self.settings.hand_over != inf or self.options.has_windows()
