"""The treatment of each method's requests, as a table.

A tool call is the only request that lasts: it is counted, limited, kept and handed over. All other
methods answer at once, except `subscriptions/listen`, which never ends by itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

TOOL_CALL: Final = "tools/call"

LISTEN: Final = "subscriptions/listen"


@dataclass(frozen=True, slots=True)
class MethodKind:
    """The treatment of a method's requests. The fields are independent of each other."""

    is_counted: bool = False
    """Metrics have the end and the seconds of each call, by its tool."""
    is_limited: bool = False
    """Its calls wait for their turn under `max_runs` and the options of the tool."""
    is_recorded: bool = False
    """The journal stores its runs, for readers that come later: clients that resume, that send an
    idempotency key again, or that have a handle. Runs of other requests are in the memory of one
    process.
    """
    is_restartable: bool = False
    """Another process may execute it, where its tool allows that."""
    can_hand_over: bool = False
    """It may be answered with a handle or a task while it goes on."""
    is_endless: bool = False
    """It ends when its client or the server leaves, and never by itself."""
    shows_runs: bool = False
    """Its answer may have what runs of other requests said."""


_SHORT: Final = MethodKind()
_SHOWS_RUNS: Final = MethodKind(shows_runs=True)

METHOD_KINDS: Final[Mapping[str, MethodKind]] = MappingProxyType(
    {
        TOOL_CALL: MethodKind(
            is_counted=True,
            is_limited=True,
            is_recorded=True,
            is_restartable=True,
            can_hand_over=True,
        ),
        LISTEN: MethodKind(is_endless=True, shows_runs=True),
        "resources/read": _SHOWS_RUNS,
        "tasks/get": _SHOWS_RUNS,
        "tasks/result": _SHOWS_RUNS,
        "tasks/list": _SHOWS_RUNS,
        "tasks/cancel": _SHOWS_RUNS,
    }
)
"""The methods that are treated in their own way; all others are short."""


def kind_of(method: str | None) -> MethodKind:
    """Return the treatment of a method's requests."""
    return METHOD_KINDS.get(method, _SHORT) if method is not None else _SHORT
