"""The things that all parts of the engine share, and the engine's options."""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf

from headway.clock import Clock
from headway.counters import Counters
from headway.engine.lifecycle import Lifecycle
from headway.engine.request import Execute, ToolOptions
from headway.events import RequestStored
from headway.journal import Journal
from headway.settings import Settings

NO_OPTIONS = ToolOptions()


def _no_tool_options(_tool: str) -> ToolOptions:
    return NO_OPTIONS


def _ignore_release(_stream: str) -> None:
    pass


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """The facts that an engine needs about the server whose requests it executes."""

    tool_options: Callable[[str], ToolOptions] = _no_tool_options
    """Returns what the author set for a tool, by its name."""
    has_windows: Callable[[], bool] = bool
    """Returns whether the author set a hand-over window for a tool."""
    max_result: float = inf
    """Bytes; a larger result becomes a resource. inf where the server has no resources."""
    executor_for: Callable[[RequestStored], Execute] | None = None
    """Returns what executes a request that only the journal knows; None: nothing can."""
    on_run_released: Callable[[str], None] = _ignore_release
    """Called with the stream of a run that stops here and that its client may ask for again."""
    is_worker: bool = False
    """Whether the process is a worker: it takes runs out of queues, and recovers no others."""


@dataclass(frozen=True, slots=True)
class Services:
    """The things that all parts of one engine share."""

    journal: Journal
    settings: Settings
    clock: Clock
    options: EngineOptions
    counters: Counters = field(default_factory=Counters)
    lifecycle: Lifecycle = field(default_factory=Lifecycle)

    def options_of(self, tool: str | None) -> ToolOptions:
        """Return what the author set for a tool."""
        return self.options.tool_options(tool or "")

    @property
    def offers_handles(self) -> bool:
        """True when a call may be answered with a plain handle: author or operator said when."""
        server = self.settings.hand_over
        return (server is not None and server < inf) or self.options.has_windows()

    @property
    def offers_tasks(self) -> bool:
        """True when a call may become a task, for a client that knows tasks."""
        return self.settings.hand_over != inf or self.options.has_windows()
