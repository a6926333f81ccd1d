"""Methods that Headway answers for every server: log levels and subscriptions."""

from typing import Any, Final

from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError
from mcp_types import (
    METHOD_NOT_FOUND,
    EmptyResult,
    SetLevelRequestParams,
    SubscribeRequestParams,
    UnsubscribeRequestParams,
)

from headway.protocol.methods import TOOL_CALL
from headway.wrapped_handlers import add_handler

_SPEAKING: Final = (TOOL_CALL, "prompts/get", "resources/read", "completion/complete")
"""The methods in which an author's code runs, which may log."""


async def _accept_request(_context: Any, _params: Any) -> EmptyResult:
    return EmptyResult()


async def _refuse_subscribe(_context: Any, _params: Any) -> EmptyResult:
    raise MCPError(METHOD_NOT_FOUND, "Method not found", "resources/subscribe")


async def _refuse_unsubscribe(_context: Any, _params: Any) -> EmptyResult:
    raise MCPError(METHOD_NOT_FOUND, "Method not found", "resources/unsubscribe")


def install_log_levels(low: Server[Any], *, publishes: bool) -> None:
    """Let a server answer for log levels and subscriptions, where they mean something.

    Levels are answered where code may log. Subscriptions are answered where the server has
    resources and `publishes` changes; elsewhere no client would ever be notified, so all but those
    to runs are refused as if there were no handler. A handler of the server itself stays.
    """
    if any(low.get_request_handler(method) is not None for method in _SPEAKING):
        add_handler(low, "logging/setLevel", SetLevelRequestParams, _accept_request)
    if low.get_request_handler("resources/list") is not None:
        subscribe = _accept_request if publishes else _refuse_subscribe
        unsubscribe = _accept_request if publishes else _refuse_unsubscribe
        add_handler(low, "resources/subscribe", SubscribeRequestParams, subscribe)
        add_handler(low, "resources/unsubscribe", UnsubscribeRequestParams, unsubscribe)
