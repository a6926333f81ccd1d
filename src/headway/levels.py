"""What every server answers because Headway makes it work: log levels and subscriptions."""

from typing import Any

from mcp.server.lowlevel import Server
from mcp_types import (
    EmptyResult,
    SetLevelRequestParams,
    SubscribeRequestParams,
    UnsubscribeRequestParams,
)


async def _accept(_context: Any, _params: Any) -> EmptyResult:
    return EmptyResult()


def equip(low: Server[Any]) -> None:
    """Have the methods answered that Headway itself makes work: levels and subscriptions.

    A handler that the server brings stays.
    """
    ours: list[tuple[str, type, str | None]] = [
        ("logging/setLevel", SetLevelRequestParams, None),
        ("resources/subscribe", SubscribeRequestParams, "resources/list"),
        ("resources/unsubscribe", UnsubscribeRequestParams, "resources/list"),
    ]
    for method, params, needs in ours:
        has_need = needs is None or low.get_request_handler(needs) is not None
        if has_need and low.get_request_handler(method) is None:
            low.add_request_handler(method, params, _accept)
