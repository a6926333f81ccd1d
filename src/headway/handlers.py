"""The handlers of a served object: its author's own, and those that Headway brings or puts around.

One object may be served more than once, and by its own transport besides: what is done to it here
is done once, and the author's handlers are told apart from Headway's ever after.
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
    """Have `handler` answer a method for which the server has no handler."""
    if low.get_request_handler(method) is None:
        setattr(handler, _BROUGHT, True)
        low.add_request_handler(method, params, handler)


def has_own(low: Server[Any], method: str) -> bool:
    """Whether the author handles a method himself."""
    entry = low.get_request_handler(method)
    return entry is not None and not getattr(entry.handler, _BROUGHT, False)


def wrap_handler(
    low: Server[Any], method: str, around: str, make: Callable[[Handler], Handler]
) -> None:
    """Put a handler made of the server's own in its place, once for each name in `around`."""
    entry = low.get_request_handler(method)
    if entry is None:
        return
    known: frozenset[str] = getattr(entry.handler, _AROUND, frozenset())
    if around not in known:
        handler = make(entry.handler)
        setattr(handler, _AROUND, known | {around})
        setattr(handler, _BROUGHT, getattr(entry.handler, _BROUGHT, False))
        low.add_request_handler(method, entry.params_type, handler)
