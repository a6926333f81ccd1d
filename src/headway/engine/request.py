"""Requests that a transport wants executed, and the options that an author may set for a tool."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from math import inf
from typing import Any, Literal, NamedTuple

from msgspec import Raw, Struct

from headway.auth import RequestSource
from headway.engine.run.context import RunContext
from headway.protocol.methods import MethodKind, kind_of

Execute = Callable[[RunContext], Awaitable[dict[str, Any]]]


DEFAULT_QUEUE = "default"


@dataclass(frozen=True, slots=True)
class ToolOptions:
    """The options of one tool, beyond the SDK's own. None: as the server's setting says."""

    timeout: float | None = None
    """Seconds a run of it may take; None: the server's limit."""
    concurrency: int | None = None
    """Runs of it at once; None: as many as the server allows."""
    concurrency_each: int | None = None
    """Runs of it at once, of one authenticated caller; None: as many as the server allows."""
    calls_each: str = ""
    """Calls of it of one caller, as `Settings.calls_each`; empty: any number."""
    rate: float | None = None
    """Progress messages a second of a run of it; None: the server's."""
    threaded: bool = False
    """It is a sync function: a run of it needs one of the server's threads."""
    hand_over: float | None = None
    """Seconds until a call of it is answered with a handle; inf: never; None: the server's."""
    restart: bool = False
    """When its process dies, another one may begin a run of it anew."""
    detached: bool = False
    """A run of it goes on when its client is gone, where the era would have it cancelled."""
    needs_task: bool = False
    """Only clients that know tasks may call it."""
    where: Literal["here", "worker"] | None = None
    """Which process executes it; None: as the server's setting says."""
    queue: str = DEFAULT_QUEUE
    """Where its runs wait for a worker."""
    scopes: tuple[str, ...] | None = None
    """The scopes that the token of a caller must have; None: nothing is said of it."""

    @property
    def task_support(self) -> Literal["forbidden", "optional", "required"]:
        """Value of `execution.taskSupport` in the tool's listing (2025-11-25)."""
        if self.needs_task:
            return "required"
        return "forbidden" if self.hand_over == inf else "optional"


class RequestInfo(NamedTuple):
    """The facts of a request, and its caller: the part that a run keeps until its end."""

    method: str
    target: str | None
    """The name of the tool, where the method has one."""
    version: str
    """The protocol revision it is made in."""
    principal: str
    """The hash of its caller, which outlives sessions."""
    follows: str | None
    """The stream of the run that it only mirrors; nothing is executed for it."""
    owns: bool
    """Whether what it mirrors is executed by a worker, for this request alone."""
    caller: str
    """The name of its caller, for people; empty where nobody was authenticated."""
    client_name: str
    """Name and version of its client, for people."""
    kind: MethodKind
    """How requests of the method are treated."""
    options: ToolOptions
    """The options that the author set for the tool."""
    scopes: frozenset[str] | None
    """The scopes of its caller's token; None where callers are not checked."""

    @property
    def name(self) -> str:
        """The tool's name; the method's where there is no tool."""
        return self.target or self.method

    @property
    def is_limited(self) -> bool:
        """True when limits hold for it; a mirror, which executes nothing, has none."""
        return self.kind.is_limited and self.follows is None

    @property
    def may_restart(self) -> bool:
        """True when another process may go on with it: a mirror does nothing twice."""
        return self.kind.is_restartable and (self.follows is not None or self.options.restart)


class Request(Struct, frozen=True):
    """A request that a transport wants executed."""

    method: str
    target: str | None
    owner: str
    """Part of the run's stream name: only a caller that knows it can find the run."""
    context: RunContext
    execute: Execute
    version: str = ""
    """The protocol revision it is made in."""
    principal: str = ""
    """Digest of the caller, as in the names of streams; it outlives sessions."""
    follows: str | None = None
    """The stream of the run that it mirrors; then nothing is executed for it."""
    owns: bool = False
    """True when the mirrored run is executed by a worker, for this request alone."""
    client: Raw | None = None
    """The `initialize` params of its client; at 2026-07-28 the request itself says them."""
    caller: str = ""
    """The name of its caller, for people; empty where nobody was authenticated."""
    client_name: str = ""
    """Name and version of its client, for people."""
    source: RequestSource | None = None
    """Where it came from, for the audit log; None where none is kept."""
    call: str = ""
    """The part of its run's id that nobody can guess, where that was chosen already."""
    scopes: frozenset[str] | None = None
    """The scopes of its caller's token. None where callers are not checked: over stdio, and where
    a process goes on with a request that was checked when it came."""

    def info_with(self, options: ToolOptions) -> RequestInfo:
        """Return the facts of it, without its context and its code; `options` are the tool's."""
        return RequestInfo(
            self.method,
            self.target,
            self.version,
            self.principal,
            self.follows,
            self.owns,
            self.caller,
            self.client_name,
            kind_of(self.method),
            options,
            self.scopes,
        )
