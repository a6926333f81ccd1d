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
    """Metrics have the end and the seconds of each one, by its tool."""
    is_limited: bool = False
    """One takes its turn under `max_runs` and the options of its tool, and waits for it."""
    is_recorded: bool = False
    """The journal keeps what it says, for readers that come later: those that resume, that send an
    idempotency key again, or that have a handle. Other requests are in the memory of one process.
    """
    is_restartable: bool = False
    """Another process may execute it, where its tool allows that."""
    can_hand_over: bool = False
    """It may be answered with a handle or a task while it goes on."""
    is_endless: bool = False
    """It ends when its client or the server leaves, and never by itself."""


_SHORT: Final = MethodKind()

METHOD_KINDS: Final[Mapping[str, MethodKind]] = MappingProxyType(
    {
        TOOL_CALL: MethodKind(
            is_counted=True,
            is_limited=True,
            is_recorded=True,
            is_restartable=True,
            can_hand_over=True,
        ),
        LISTEN: MethodKind(is_endless=True),
    }
)
"""The methods that are treated in their own way; all others are short."""


def kind_of(method: str | None) -> MethodKind:
    """Return what is done with the requests of a method."""
    return METHOD_KINDS.get(method, _SHORT) if method is not None else _SHORT
