"""Everything an operator can set, with its default and the reason for it."""

import logging
import re
import warnings
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import InitVar, dataclass, fields, replace
from math import inf
from typing import Final, Literal

from headway.client_profiles import Profile
from headway.encryption import Encryption
from headway.errors import SetupError
from headway.rate_limits import SECONDS_IN, parse_rate

logger = logging.getLogger(__name__)

_UNITS = {"ms": 0.001, **SECONDS_IN}


def parse_duration(text: str | float) -> float:
    """Return seconds, from `500ms`, `45s`, `30m`, `2h`, `1d` or a plain number of seconds.

    Raises:
        SetupError: It is none of these, or not above zero.
    """
    seconds = parse_duration_or_zero(text)
    if seconds == 0:
        raise SetupError(f"{text!r} is not a duration; write 500ms, 45s, 30m or 2h")
    return seconds


def parse_duration_or_zero(text: str | float) -> float:
    """Return seconds as `parse_duration` does, where none are as good: `0`, `0s`.

    Raises:
        SetupError: It is no duration.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?\s*", str(text))
    if match is None:
        raise SetupError(f"{text!r} is not a duration; write 500ms, 45s, 30m or 2h")
    return float(match[1]) * _UNITS[match[2] or "s"]


def duration_text(seconds: float) -> str:
    """Return a duration as `parse_duration` takes it: `500ms`, `45s`, `30m`, `1h`."""
    for unit in ("d", "h", "m", "s"):
        if seconds >= _UNITS[unit] and seconds % _UNITS[unit] == 0:
            return f"{seconds / _UNITS[unit]:g}{unit}"
    return f"{seconds * 1000:g}ms" if 0 < seconds < 1 else f"{seconds:g}s"


def parse_window(text: str | float) -> float:
    """Return the seconds until a hand-over: a duration, `at once` or none (0), or `never` (inf).

    Raises:
        SetupError: It is none of these.
    """
    words = {"never": inf, "at once": 0.0}
    if isinstance(text, str) and text.strip() in words:
        return words[text.strip()]
    if text == inf:
        return inf
    try:
        return parse_duration_or_zero(text)
    except SetupError:
        raise SetupError(f"{text!r} is no window; write 45s, 30m, 'at once' or 'never'") from None


def is_scope(value: object) -> bool:
    """Return whether this is a scope of an access token (RFC 6749, 3.3)."""
    return isinstance(value, str) and re.fullmatch(r"[!#-\[\]-~]+", value) is not None


def is_name(text: object) -> bool:
    """Return whether this may be the name of a queue."""
    return isinstance(text, str) and re.fullmatch(r"[A-Za-z0-9_-]{1,64}", text) is not None


_COUNTS = (
    "max_runs", "max_runs_each", "max_open", "max_open_each", "threads", "max_body", "max_depth",
    "max_values", "max_arriving", "max_batch", "max_sessions", "max_sessions_each",
    "max_session_streams", "max_session_bytes", "max_subscriptions", "max_client", "max_keys",
    "max_keys_each", "max_text", "max_part", "max_result", "max_connections", "max_head",
    "max_attempts",
)  # fmt: skip

BOUNDS: Final = (
    *_COUNTS, "max_queue", "requests_each", "calls_each", "log_rate", "timeout", "session_ttl",
    "head_timeout", "body_timeout", "keep_alive", "worker_wait", "keep.ttl", "keep.max_bytes",
    "keep.stream_entries", "keep.stream_bytes",
)  # fmt: skip
"""The settings that bound something. How often each was reached is counted under its name."""

METRICS: Final = ("local", "all", "off")
"""Readers of `/metrics`: programs on this machine, everybody, nobody."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How long and how much a journal keeps."""

    ttl: float = 3600.0
    """An ended stream can be read this long. An hour covers a client that was closed over
    lunch; results are not an archive."""

    failed: float = 7 * 86400.0
    """The run of a call that failed is kept this long, where that is longer than `ttl`: yesterday's
    failure is asked about today. Where there is no room they go by when they ended, as others do;
    its key, and what it could be executed again with, are kept for `ttl`."""

    max_bytes: int = 256 * 1024 * 1024
    """All streams together; over it the callers that hold most lose what ended first. Not what goes
    on, and not their keys."""

    stream_entries: int = 10_000
    """Entries kept of one stream; a reader that is slower is sent how much it lost."""

    stream_bytes: int = 8 * 1024 * 1024
    """Bytes kept of one stream, likewise."""

    unfinished: float = 7 * 86400.0
    """In Redis a stream without an end is forgotten when nothing was added for this long: there,
    nothing may stay for ever. Longer than any run may take (`timeout`)."""

    @property
    def extra_of_failed(self) -> float:
        """Seconds that a failed run is kept for longer than others."""
        return max(0.0, self.failed - self.ttl)

    def seconds_kept(self, *, is_failure: bool) -> float:
        """Return for how many seconds a stream is kept after its end."""
        return self.ttl + (self.extra_of_failed if is_failure else 0.0)


@dataclass(frozen=True, slots=True)
class Settings:
    """How one server behaves. Times are in seconds, sizes in bytes."""

    progress_rate: float = 4.0
    """Progress messages a second a run, at most; 0 sends every report. Four is as fast as a
    person can read and as clients redraw; the newest value always wins."""

    heartbeat: float = 10.0
    """A call with a progress token hears something at least this often. Client idle clocks
    start at 30 s; several may be missed without harm."""

    ping: float = 10.0
    """An SSE comment goes out on every open stream that was silent this long. The shortest
    proxy limit in the field is 30 s without bytes."""

    commit_after: float = 0.5
    """An answer becomes an SSE stream when it is not there after this long, so that the first
    byte is out within a second. Before that it can still be plain JSON with its own status."""

    retry: float = 6.0
    """Seconds that 2025-11-25 clients are told to wait before they resume a lost stream. The
    official ones try it twice, so a server may be away for twice as long: a crash with a restart
    of 10 s, and some room."""

    retry_closed: float = 1.0
    """The same, where the server closes a stream early and goes on: nobody is away."""

    timeout: float = 86400.0
    """A run may take this long, unless its tool says otherwise. A day is more than any call
    in the field; without a limit a hung tool holds its place for ever."""

    hand_over: float | None = None
    """A call that takes longer is answered with a handle; 0: at once, inf: never. None: after 45 s,
    and only where the client has its own way to come back. A number says that any client may
    get one: the tool `continue_run` is listed then."""

    profiles: tuple[Profile, ...] = ()
    """The operator's own rows about clients, read before those of Headway."""

    lease: float = 10.0
    """A process that gave no sign of life for this long has lost its runs: others that share
    the journal end them as interrupted. Longer than any pause of a healthy process."""

    hold_warning: float = 1.0
    """Code that holds the event loop this long is named in the log, with its call and its line: as
    long as people and clients begin to notice. 0: never."""

    hold_timeout: float = 120.0
    """An event loop that is held this long does not come back: the process gives no sign of life
    any more, and a server of `--workers` is replaced. Longer than code may compute that was meant
    to be in a thread; until then others that share the journal wait for it."""

    max_attempts: int = 3
    """Processes that may die of one run of a tool with `restart` before it ends as interrupted. One
    death may be anything; three are the run's own doing."""

    max_runs: int = 1000
    """Tool calls executing at once in one process."""

    max_queue: int = 1000
    """Tool calls waiting for a place; the next one is refused with 503."""

    max_runs_each: int = 200
    """Of these, executing or waiting, for one authenticated caller, in all processes that share a
    journal: a fifth of what one of them executes, so that one agent that runs wild leaves room
    for others."""

    where: Literal["here", "worker"] = "here"
    """Which process executes the calls of tools that do not say it themselves: the one that accepts
    them, or a worker (`headway worker`), which needs a journal in Redis."""

    worker_wait: float = 300.0
    """A call that no worker takes for this long ends with an error: longer than it takes to start
    more of them. What waits is bounded by `max_queue`, for each process that accepts calls."""

    max_open: int = 20_000
    """Requests of every kind that are not answered yet, `subscriptions/listen` among them: each
    takes some kB."""

    max_open_each: int = 1000
    """Of these, for one authenticated caller or one anonymous 2025 session, in one process: half of
    what may run and wait, so that no client takes every place, also with requests that are no calls
    and with answers that it does not wait for."""

    requests_each: float = 0.0
    """HTTP requests a second of one authenticated caller, or of one address that nobody is known
    by, in one process; five seconds' worth may come at once. 0: any number. It is for those who
    serve strangers: what is right depends on the tools."""

    calls_each: str = ""
    """Tool calls of one authenticated caller, or of one address that nobody is known by, in all
    processes that share a journal: `5/s`, `60/m`, `100/10m`. All of them may come at once, and then
    one each time that its share has passed. Empty: any number."""

    calls_of_tools: tuple[tuple[str, str], ...] = ()
    """The same of single tools, by their names, besides; it replaces what the author says
    (`calls_each`). In the file `[limits.tools]`, with `--set` `tools.NAME=10/m`."""

    threads: int = 64
    """Sync tools executing at once: each holds a thread."""

    max_body: int = 4 * 1024 * 1024
    """The largest request body, as in the official SDK."""

    max_depth: int = 128
    """How deep the JSON of a request may nest; deeper input breaks recursive validators."""

    max_values: int = 50_000
    """Arrays and objects in the JSON of one request, and five times as many values of all kinds: a
    table of fifty thousand rows. Millions fit into `max_body`, and hold all others up for seconds.
    """

    max_arriving: int = 256 * 1024 * 1024
    """Bytes held of requests that have begun to arrive and are not there yet, of all connections
    together; over it the one gives way that has been arriving longest. Sixty of the largest bodies:
    what is there at once, as most requests are, does not count."""

    max_batch: int = 1000
    """Messages of one batch, which 2025-03-26 has."""

    max_sessions: int = 10_000
    """2025 sessions at once, as in the official SDK; for the next one an idle anonymous one makes
    room, or it is refused with 503."""

    max_sessions_each: int = 1000
    """2025 sessions of one authenticated caller, in all processes that share a journal."""

    max_session_bytes: int = 64 * 1024 * 1024
    """Bytes that all 2025 sessions of a process hold: what their clients say of themselves, what
    they subscribe to, and what was said in them. A session takes some hundred; idle anonymous ones
    make room for others, and one authenticated caller may have a quarter."""

    max_subscriptions: int = 1000
    """Resources that one 2025 session may be subscribed to, and names in one
    `subscriptions/listen`: each is looked up, kept, and compared with every change."""

    max_client: int = 16 * 1024
    """Bytes of the capabilities that a client declares: kept for its session, or with each request
    at 2026-07-28. The largest in the field have one kilobyte."""

    max_session_streams: int = 1000
    """Answers of one 2025 session that are open at once, its GET stream among them; the next one
    is refused with 503. A tenth of the connections: enough for a gateway that puts all its users
    into one session, and no session can take every place."""

    max_keys: int = 200_000
    """Idempotency keys and handles in a journal, of all callers; the next call that needs one is
    refused with 503. A key is kept for `keep.ttl` whatever has to make room, so that nothing is
    executed twice: these take half of the default `keep.max_bytes`."""

    max_keys_each: int = 50_000
    """Of these, for one authenticated caller: fourteen a second, for all of an hour."""

    log_rate: float = 100.0
    """Log messages a second of one run, ten times as many at once; the others are left out and
    counted. More nobody reads, and they would push parts out of the journal. 0: all."""

    max_text: int = 1000
    """Characters of a progress message: clients show it in one line."""

    max_result: int = 4 * 1024 * 1024
    """Bytes of a tool's result; a larger one becomes a resource with a link to it, where the server
    has resources. As much as a client may send."""

    max_part: int = 1024 * 1024
    """Bytes of a part or a log message: clients hold each in memory, or in a model's context."""

    on_delete: Literal["cancel", "finish"] = "cancel"
    """The fate of the runs of a 2025 session that its client closes with DELETE."""

    stateless: bool = False
    """Serve 2025 clients without sessions: each POST by itself, nothing to resume, no GET. For
    those who want nothing shared between processes."""

    session_ttl: float = 1800.0
    """A 2025 session without a request, an open stream or a run is forgotten after this."""

    max_connections: int = 10_000
    """Connections at once; the next one is turned away with 503. Never more than the process may
    have descriptors, less a hundred (`ulimit -n`). Where `headway run` or `serve` listens."""

    max_head: int = 64 * 1024
    """The largest head of a request: its line and its headers. An event id has up to 8,300 bytes,
    proxies add a few thousand. As `max_connections`."""

    head_timeout: float = 10.0
    """The head of a request has to be there this long after it began, and the first one after the
    connection did. Longer than a bad network needs. As `max_connections`."""

    body_timeout: float = 60.0
    """The body has to be there this long after the head. The largest one (`max_body`) is, at
    70 KB a second. As `max_connections`."""

    keep_alive: float = 75.0
    """A connection without a request is closed after this long. Longer than load balancers keep
    theirs (60 s): one that is closed under a request that is on its way costs its client an
    error. As `max_connections`."""

    shutdown_delay: float = 0.0
    """Seconds after the signal to stop in which a process goes on as before and only `/readyz` says
    that it stops. Give load balancers as long as they take to notice: then they send nothing here
    when calls are refused. It is part of `grace`. After it, a connection is closed only when
    nothing was asked on it for that long."""

    grace: float = 30.0
    """Seconds that calls may go on after the server in which the app is mounted was told to stop;
    less where that server waits for less. `headway run` and `serve` have `--grace`."""

    allowed_hosts: tuple[str, ...] = ()
    """Host header values accepted besides the loopback names and the address bound."""

    allowed_origins: tuple[str, ...] = ()
    """Origins accepted besides those on the loopback names and on the request's own host."""

    check_host: bool = True
    """Refuse requests whose Host or Origin is not allowed (DNS rebinding)."""

    metrics: str = "local"
    """The readers of `/metrics`: `local`, whoever is on this machine and not behind a proxy; `all`,
    who may also call tools; `off`, nobody. It names tools and counts, and says nothing of
    anybody's calls, but what a server does is not everybody's business."""

    retention: Retention = Retention()
    """The bounds of a journal that is opened for this server."""

    encryption: Encryption | None = None
    """The keys that a journal which is opened for this server is encrypted with: all processes that
    share it need them. None: it is stored as plain JSON."""

    notice: InitVar[float | None] = None
    """The old name of `shutdown_delay`. It may be given until the next release, and not be read."""

    def __post_init__(self, notice: float | None) -> None:
        if notice is not None:
            warnings.warn(_renamed_text("notice"), FutureWarning, stacklevel=3)
            object.__setattr__(self, "shutdown_delay", notice)  # the class is frozen
        times = ("heartbeat", "ping", "retry", "timeout", "session_ttl", "lease", "worker_wait")
        limits = ("head_timeout", "body_timeout", "keep_alive", "hold_timeout", "retry_closed")
        for name in (*times, *limits):
            if not getattr(self, name) > 0:
                raise SetupError(f"{name} must be above zero")
        if self.hand_over is not None and not self.hand_over >= 0:
            raise SetupError("hand_over must not be below zero")
        for name in _COUNTS:
            if getattr(self, name) < 1:
                raise SetupError(f"{name} must be at least 1")
        if self.log_rate < 0:
            raise SetupError("log_rate cannot be negative")
        of_tools = ((f"{_OF_TOOLS}{tool}", rate) for tool, rate in self.calls_of_tools)
        for name, rate in (("calls_each", self.calls_each), *of_tools):
            if rate:
                _check_rate(name, rate)
        if self.metrics not in METRICS:
            raise SetupError(f"metrics is one of {', '.join(METRICS)}")
        if self.where not in ("here", "worker"):
            raise SetupError("where is here or worker")
        if self.on_delete not in ("cancel", "finish"):
            raise SetupError("on_delete is cancel or finish")
        times = ("progress_rate", "commit_after", "shutdown_delay", "grace", "hold_warning")
        for name in (*times, "max_queue", "requests_each"):
            if getattr(self, name) < 0:
                raise SetupError(f"{name} cannot be negative")


def _check_rate(name: str, rate: str) -> None:
    try:
        parse_rate(rate)
    except SetupError as error:
        raise SetupError(f"{name}: {error}") from None


_RENAMED: Final = {"notice": "shutdown_delay"}
"""Old names of settings that are still accepted, for one release, with a warning."""


def _renamed_text(old: str) -> str:
    return (
        f"the setting {old!r} is now called {_RENAMED[old]!r}; "
        "the old name will not be accepted after this release"
    )


_SIMPLE = (int, float, str)


def with_values(settings: Settings, given: Iterable[str]) -> Settings:
    """Return the settings with each `name=value` of `given`; `keep.name` is for the journal.

    Raises:
        SetupError: There is no such setting, or that is no value for it.
    """
    kept = settings.retention
    for text in given:
        name, equals, value = text.partition("=")
        if equals and name in _RENAMED:
            logger.warning("%s", _renamed_text(name))
            name = _RENAMED[name]
        if equals and is_tool_limit(name):
            rates = {**dict(settings.calls_of_tools), name.removeprefix(_OF_TOOLS): value}
            settings = replace(settings, calls_of_tools=tuple(rates.items()))
            continue
        target, field = settings, name
        if name.startswith("keep."):
            target, field = kept, name.removeprefix("keep.")
        known = {f.name: getattr(target, f.name) for f in fields(target)}
        if (
            not equals
            or field not in known
            or not isinstance(known[field], int | float | str | bool)
        ):
            names = ", ".join(setting_names())
            raise SetupError(f"{text!r}: write NAME=VALUE, where NAME is one of {names}")
        changed = replace(target, **{field: _parse_value(name, value, known[field])})
        if isinstance(changed, Retention):
            kept = changed
        else:
            settings = changed
    return replace(settings, retention=kept)


_OF_TOOLS: Final = "tools."


def is_tool_limit(name: str) -> bool:
    """Return whether a name that `with_values` takes is the rate of a single tool."""
    return name.startswith(_OF_TOOLS) and name != _OF_TOOLS


def _parse_value(name: str, text: str, like: object) -> object:
    """Return the value that `text` is, of the type of `like`.

    Raises:
        SetupError: It is none.
    """
    if isinstance(like, bool):
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
    elif isinstance(like, str):
        return text
    elif isinstance(like, int) and text.replace("_", "").isdecimal():
        return int(text)
    elif isinstance(like, float):
        with suppress(SetupError):
            return parse_duration_or_zero(text)
    is_time = isinstance(like, float)
    usual = duration_text(like) if isinstance(like, float) else repr(like)
    also = "; write a duration: 500ms, 45s, 30m, 2h" if is_time else ""
    raise SetupError(f"{name}: {text!r} is no value for it{also}. Its default is {usual}")


def setting_names() -> list[str]:
    """Return the names that `with_values` takes."""
    own = [f.name for f in fields(Settings) if isinstance(f.default, _SIMPLE)]
    return [*own, *(f"keep.{f.name}" for f in fields(Retention))]
