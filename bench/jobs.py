"""What the load generator is asked to do, and what it answers: one JSON line each."""

import msgspec

from bench.wire import Era


class Job(msgspec.Struct, tag=True, frozen=True, kw_only=True):
    """Something to do to one server."""

    port: int
    pid: int
    timeout: float = 30.0


class Calls(Job, frozen=True, kw_only=True):
    """Tool calls for some time, one after the other on each connection."""

    era: Era
    connections: int
    seconds: float


class Events(Job, frozen=True, kw_only=True):
    """Calls that report progress back to back, for some time, on some streams at once."""

    era: Era
    streams: int
    events: int
    seconds: float


class Paced(Job, frozen=True, kw_only=True):
    """Streams that report progress now and then; the server's CPU is looked at for some time."""

    era: Era
    streams: int
    interval: float
    seconds: float


class Memory(Job, frozen=True, kw_only=True):
    """How much the server grows by idle sessions, then by sessions and requests with a stream."""

    sessions: int
    streams: int


AnyJob = Calls | Events | Paced | Memory


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of a job by name, None for what the server does not offer; or what went wrong."""

    figures: dict[str, float | None] = {}
    error: str | None = None
