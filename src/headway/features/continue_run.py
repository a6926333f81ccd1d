"""Changes in a server's tools for hand-over: `continue_run`, and results that may be a handle.

Both exist only where author or operator set a window: any other server lists what it listed before.
"""

import asyncio
from collections.abc import Mapping
from functools import partial
from math import inf
from typing import Any, TypeGuard, cast

import anyio
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult, TextContent
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from headway.engine import Engine, MirrorRun, Run, ask_run, executing_run
from headway.errors import JournalError, ResultDropped, StreamNotFound
from headway.events import CancelRequested, Entry, Interrupted
from headway.protocol import tasks_2025
from headway.protocol.continue_run_tool import (
    CONTINUE_RUN,
    TOOL,
    handle_result,
    parse_handle,
    rest_of,
    with_handle_schema,
)
from headway.protocol.idempotency_key import GONE
from headway.protocol.methods import TOOL_CALL
from headway.stream_names import run_id_of
from headway.wrapped_handlers import Handler, wrap_handler


def install_continue_run(low: Server[Any]) -> None:
    """Let a server that has tools answer `continue_run` where it hands calls over."""
    wrap_handler(low, TOOL_CALL, "handles", partial(_answer_continue_run, low))


def list_tools(
    low: Server[Any], engine: Engine, version: str, page: dict[str, Any]
) -> dict[str, Any]:
    """Return a page of a server's tools as they are run here, the last with `continue_run`.

    It has the tools that the caller may call; the counters are told of all.
    """
    listed: object = page.get("tools")
    if not isinstance(listed, list):  # a middleware's own
        return page
    tools = [_as_run_here(tool, engine, version) for tool in cast("list[object]", listed)]
    names = [tool["name"] for tool in tools if _has_name(tool)]
    tools = [tool for tool in tools if _is_for_caller(tool)]
    is_last = page.get("nextCursor") is None
    # A server's own tool of this name takes precedence.
    has_own = _has_own_tool(low) or CONTINUE_RUN in names
    if engine.services.offers_handles and is_last and not has_own:
        names.append(CONTINUE_RUN)
        tools.append(TOOL)
    engine.counters.register_tools(names)
    return {**page, "tools": tools}


def _is_for_caller(tool: object) -> bool:
    """Return whether the caller who lists the tools may call this one."""
    run = executing_run()
    if run is None or not _has_name(tool):
        return True
    return run.services.access.may_call(tool["name"], run.request.scopes)


def _has_name(tool: object) -> TypeGuard[Mapping[str, Any]]:
    match tool:
        case {"name": str()}:
            return True
        case _:
            return False


def _as_run_here(tool: object, engine: Engine, version: str) -> object:
    """Return the tool as this server runs it; the author's own object is not changed."""
    if not _has_name(tool):
        return tool
    changes: dict[str, Any] = {}
    options = engine.services.options_of(tool["name"])
    if version == tasks_2025.VERSION and "execution" not in tool:
        changes["execution"] = {"taskSupport": options.task_support}
    window = engine.settings.hand_over if options.hand_over is None else options.hand_over
    schema = tool.get("outputSchema")
    if window is not None and window < inf and schema is not None:
        changes["outputSchema"] = with_handle_schema(schema)
    return {**tool, **changes} if changes else tool


def _has_own_tool(low: Server[Any]) -> bool:
    # Servers before mcp 2.3 have no look-up.
    lookup = getattr(low, "get_tool_input_schema", None)
    return lookup is not None and lookup(CONTINUE_RUN) is not None


def _answer_continue_run(low: Server[Any], inner: Handler) -> Handler:
    async def call_tool(context: Any, params: Any) -> Any:
        run = executing_run()
        is_ours = params.name == CONTINUE_RUN and run is not None and run.services.offers_handles
        if not is_ours or run is None or _has_own_tool(low):
            return await inner(context, params)
        can_ask = context.session.protocol_version not in MODERN_PROTOCOL_VERSIONS
        return await _continue_run(run, params.arguments or {}, can_ask=can_ask)

    return call_tool


async def _continue_run(
    run: Run, arguments: Mapping[str, object], *, can_ask: bool
) -> CallToolResult:
    match arguments:
        case {"run_id": str(handle), **more} if _is_stop(more):
            run_id, after = parse_handle(handle)
        case _:
            return _error_result(
                "Give run_id as the earlier answer has it, and stop as true or false; "
                "there are no other arguments"
            )
    try:
        stream = await run.services.names.stream_of(run, run_id)
        if arguments.get("stop"):
            return await _stop_run(run, stream)
        return CallToolResult.model_validate(
            await _wait_for_result(run, stream, after, can_ask=can_ask)
        )
    except ResultDropped:
        return _error_result(GONE)
    except StreamNotFound:
        return _error_result(
            "No such run: it has expired, or its id is not yours. Call the tool itself again"
        )
    except JournalError:
        return _error_result("The run cannot be read at the moment; try again in a few seconds")


def _is_stop(more: Mapping[str, object]) -> bool:
    return not more.keys() - {"stop"} and isinstance(more.get("stop", False), bool)


async def _stop_run(run: Run, stream: str) -> CallToolResult:
    await ask_run(run.journal, stream, CancelRequested("client", "stopped with continue_run"))
    try:
        return CallToolResult.model_validate(await MirrorRun(run, stream).result())
    except MCPError as error:
        return CallToolResult(content=[TextContent(text=error.message)])


async def _wait_for_result(run: Run, stream: str, after: int, *, can_ask: bool) -> dict[str, Any]:
    """Return the other run's result, or another handle when the window or this server ends."""
    result: dict[str, Any] | None = None
    entries: list[Entry] = []
    with anyio.CancelScope() as scope:
        window = run.hooks.window
        timer = None if window == inf else run.services.clock.call_later(window, scope.cancel)
        try:
            following = MirrorRun(run, stream, after=after, ask=run.ask_client if can_ask else None)
            result = await following.result()
        except asyncio.CancelledError:
            # The other run may go on elsewhere: its caller can come back there.
            if not isinstance(run.stop_event, Interrupted):
                raise
        finally:
            if timer is not None:
                timer.cancel()
    with anyio.CancelScope(shield=True):
        entries = await run.journal.read_all_kept(stream)
    if result is None:
        return handle_result(run_id_of(stream), entries, after)
    return rest_of(result, entries, after)


def _error_result(text: str) -> CallToolResult:
    return CallToolResult(content=[TextContent(text=text)], is_error=True)
