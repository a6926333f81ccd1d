"""The differences of the protocol revisions, as a table. No other module compares versions."""

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Era:
    """One protocol revision's way of streaming."""

    version: str
    has_sessions: bool
    """Handshake, `Mcp-Session-Id`, GET and DELETE; else each POST stands for itself."""
    cut_cancels: bool
    """A lost reader stops the run (2026-07-28: MUST); else the run goes on and is resumable."""
    has_event_ids: bool
    """Frames carry ids that `Last-Event-ID` can name."""
    primes: bool
    """A stream opens with an id, empty data and `retry`. Older clients choke on it."""
    takes_batches: bool
    """A POST may carry an array of messages."""
    asks_on_streams: bool
    """A question to the client is a request on the stream; else it is in the task's state."""
    logs_by_request: bool
    """Log messages only for a request that names a level; else the session's level counts."""
    tells_errors: bool
    """The text of an exception that a handler lets out goes to the client, as in the official SDK;
    else it stays in the log, and the client gets a reference to it."""


_2025 = Era(
    version="2025-06-18",
    has_sessions=True,
    cut_cancels=False,
    has_event_ids=True,
    primes=False,
    takes_batches=False,
    asks_on_streams=True,
    logs_by_request=False,
    tells_errors=True,
)


def without_sessions(era: Era) -> Era:
    """Return the revision as served without sessions: nothing can be resumed."""
    return replace(era, has_sessions=False, has_event_ids=False, primes=False)


def _like_2025(version: str, *, primes: bool = False, takes_batches: bool = False) -> Era:
    return Era(
        version=version,
        has_sessions=_2025.has_sessions,
        cut_cancels=_2025.cut_cancels,
        has_event_ids=_2025.has_event_ids,
        primes=primes,
        takes_batches=takes_batches,
        asks_on_streams=_2025.asks_on_streams,
        logs_by_request=_2025.logs_by_request,
        tells_errors=_2025.tells_errors,
    )


MODERN: Final = Era(
    version="2026-07-28",
    has_sessions=False,
    cut_cancels=True,
    has_event_ids=False,
    primes=False,
    takes_batches=False,
    asks_on_streams=False,
    logs_by_request=True,
    tells_errors=False,
)

ERAS: Final = MappingProxyType(
    {
        era.version: era
        for era in (
            _like_2025("2024-11-05"),
            _like_2025("2025-03-26", takes_batches=True),
            _2025,
            _like_2025("2025-11-25", primes=True),
            MODERN,
        )
    }
)
"""Every revision served, by its version."""

DEFAULT_VERSION: Final = "2025-03-26"
"""The version of a client that sends no `MCP-Protocol-Version` (transports, 2025-06-18)."""

LOG_LEVELS: Final = (
    "debug", "info", "notice", "warning", "error", "critical", "alert", "emergency",
)  # fmt: skip
"""RFC 5424 severities, as MCP names them, ascending."""

_RANK: Final = {level: rank for rank, level in enumerate(LOG_LEVELS)}
NO_LOGS: Final = len(LOG_LEVELS)
"""The rank above all levels: no message passes."""


def rank_of(level: object) -> int:
    """Return a level's rank among the levels; `NO_LOGS` for none or an unknown one."""
    return _RANK.get(level, NO_LOGS) if isinstance(level, str) else NO_LOGS


def without_promises(result: dict[str, Any]) -> dict[str, Any]:
    """Return an `initialize` result that promises nothing which only a session could deliver."""
    for kind in ("tools", "prompts", "resources"):
        offered = result.get("capabilities", {}).get(kind)
        if offered is not None:
            offered.pop("listChanged", None)
            offered.pop("subscribe", None)
    return result
