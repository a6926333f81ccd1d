"""Everything an operator can set, with its default and the reason for it."""

import re
from dataclasses import dataclass
from math import inf

from headway.errors import SetupError
from headway.profiles import Profile

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(text: str | float) -> float:
    """Seconds, from `500ms`, `45s`, `30m`, `2h`, `1d` or a plain number of seconds.

    Raises:
        SetupError: It is none of these, or not above zero.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?\s*", str(text))
    seconds = float(match[1]) * _UNITS[match[2] or "s"] if match else 0.0
    if seconds <= 0:
        raise SetupError(f"{text!r} is not a duration; write 500ms, 45s, 30m or 2h")
    return seconds


def parse_window(text: str | float) -> float:
    """Seconds until a call is handed over: a duration, `at once` (0) or `never` (inf).

    Raises:
        SetupError: It is none of these.
    """
    words = {"never": inf, "at once": 0.0}
    if isinstance(text, str) and text.strip() in words:
        return words[text.strip()]
    if text in (0, inf):
        return float(text)
    try:
        return parse_duration(text)
    except SetupError:
        raise SetupError(f"{text!r} is no window; write 45s, 30m, 'at once' or 'never'") from None


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

    retry: float = 1.0
    """What 2025-11-25 clients are told to wait before they reconnect a stream."""

    timeout: float = 86400.0
    """A run may take this long, unless its tool says otherwise. A day is more than any call
    in the field; without a limit a hung tool holds its place for ever."""

    hand_over: float | None = None
    """A call that takes longer is answered with a handle; 0: at once, inf: never. None: after 45 s,
    and only where the client has its own way to come back. A number says that any client may
    get one: the tool `continue_run` is listed then."""

    profiles: tuple[Profile, ...] = ()
    """What the operator knows of clients, asked before what Headway knows."""

    lease: float = 10.0
    """A process that gave no sign of life for this long has lost its runs: others that share
    the journal end them as interrupted. Longer than any pause of a healthy process."""

    max_runs: int = 1000
    """Tool calls executing at once in one process."""

    max_queue: int = 1000
    """Tool calls waiting for a place; the next one is refused with 503."""

    threads: int = 64
    """Sync tools executing at once: each holds a thread."""

    max_body: int = 4 * 1024 * 1024
    """The largest request body, as in the official SDK."""

    max_depth: int = 128
    """How deep the JSON of a request may nest; deeper input breaks recursive validators."""

    max_sessions: int = 10_000
    """2025 sessions at once, as in the official SDK; the next one is refused with 503."""

    session_ttl: float = 1800.0
    """A 2025 session without a request, an open stream or a run is forgotten after this."""

    allowed_hosts: tuple[str, ...] = ()
    """Host header values accepted besides the loopback names and the address bound."""

    allowed_origins: tuple[str, ...] = ()
    """Origins accepted besides those on the loopback names and on the request's own host."""

    check_host: bool = True
    """Refuse requests whose Host or Origin is not allowed (DNS rebinding)."""

    def __post_init__(self) -> None:
        for name in ("heartbeat", "ping", "retry", "timeout", "session_ttl", "lease"):
            if not getattr(self, name) > 0:
                raise SetupError(f"{name} must be above zero")
        if self.hand_over is not None and not self.hand_over >= 0:
            raise SetupError("hand_over must not be below zero")
        for name in ("max_runs", "threads", "max_body", "max_depth", "max_sessions"):
            if getattr(self, name) < 1:
                raise SetupError(f"{name} must be at least 1")
        if self.progress_rate < 0 or self.commit_after < 0 or self.max_queue < 0:
            raise SetupError("progress_rate, commit_after and max_queue cannot be negative")


@dataclass(frozen=True, slots=True)
class Retention:
    """How long and how much a journal keeps."""

    ttl: float = 3600.0
    """An ended stream can be read this long. An hour covers a client that was closed over
    lunch; results are not an archive."""

    max_bytes: int = 256 * 1024 * 1024
    """All streams together; over it the streams that ended first are dropped early."""

    stream_entries: int = 10_000
    """Entries kept of one stream; a reader further behind is told what it lost."""

    stream_bytes: int = 8 * 1024 * 1024
    """Bytes kept of one stream, likewise."""
