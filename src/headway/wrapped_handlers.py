"""The handlers of a served object: its author's own, and those that Headway adds or wraps.

One object may be served several times, and by its own transport too. So each change is made once,
and Headway's handlers are marked to tell them from the author's.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final

from mcp.server.lowlevel import Server
from mcp_types import RequestParams

Handler = Callable[[Any, Any], Awaitable[Any]]

_BROUGHT: Final = "_headway_brought"
_AROUND: Final = "_headway_around"


def add_handler(
    low: Server[Any], method: str, params: type[RequestParams], handler: Handler
) -> None:
    """Add a handler for a method, unless the server has one."""
    if low.get_request_handler(method) is None:
        setattr(handler, _BROUGHT, True)
        low.add_request_handler(method, params, handler)


def has_own(low: Server[Any], method: str) -> bool:
    """Return whether the author handles a method himself."""
    entry = low.get_request_handler(method)
    return entry is not None and not getattr(entry.handler, _BROUGHT, False)


def wrap_handler(
    low: Server[Any], method: str, around: str, make: Callable[[Handler], Handler]
) -> None:
    """Replace a method's handler by `make(handler)`, once for each name `around`."""
    entry = low.get_request_handler(method)
    if entry is None:
        return
    known: frozenset[str] = getattr(entry.handler, _AROUND, frozenset())
    if around not in known:
        handler = make(entry.handler)
        setattr(handler, _AROUND, known | {around})
        setattr(handler, _BROUGHT, getattr(entry.handler, _BROUGHT, False))
        low.add_request_handler(method, entry.params_type, handler)
