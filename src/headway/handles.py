"""What a window changes in a server's tools: `continue_run`, and results that may be a handle.

Only where author or operator set a window; a server that is served unchanged lists what it did.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from math import inf
from typing import Any, Final

import anyio
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult, ListToolsResult, TextContent, Tool, ToolExecution
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from headway.engine import Engine, Following, Run, ask, current_run
from headway.errors import JournalError, StreamNotFound
from headway.events import CancelRequested, Entry, Interrupted
from headway.protocol import tasks_2025
from headway.protocol.handles import CONTINUE, TOOL, handle_result, parse_handle, rest_of, widened

Handler = Callable[[Any, Any], Awaitable[Any]]

_MARK: Final = "_knows_handles"


def equip(low: Server[Any]) -> None:
    """Have a server that has tools list and answer `continue_run` where it hands calls over."""
    wrappers: list[tuple[str, Callable[[Server[Any], Handler], Handler]]] = [
        ("tools/list", _list),
        ("tools/call", _call),
    ]
    for method, wrap in wrappers:
        entry = low.get_request_handler(method)
        if entry is not None and not hasattr(entry.handler, _MARK):
            handler = wrap(low, entry.handler)
            setattr(handler, _MARK, True)  # one server object may be served more than once
            low.add_request_handler(method, entry.params_type, handler)


def _list(low: Server[Any], inner: Handler) -> Handler:
    async def listing(context: Any, params: Any) -> Any:
        page: ListToolsResult = await inner(context, params)
        run = current_run.get()
        if run is None:
            return page
        run.engine.tally.know(tool.name for tool in page.tools)
        has_tasks = context.session.protocol_version == tasks_2025.VERSION
        tools = [_told(tool, run.engine, has_tasks=has_tasks) for tool in page.tools]
        if run.engine.offers_handles and page.next_cursor is None and not _is_taken(low, page):
            run.engine.tally.know([CONTINUE])
            tools.append(_CONTINUE)
        return page.model_copy(update={"tools": tools})

    return listing


def _told(tool: Tool, engine: Engine, *, has_tasks: bool) -> Tool:
    """The tool as this server runs it."""
    changes: dict[str, Any] = {}
    if has_tasks:
        support = engine.options_of(tool.name).task_support
        changes["execution"] = ToolExecution(task_support=support)
    own = engine.options_of(tool.name).hand_over
    window = engine.settings.hand_over if own is None else own
    if window is not None and window < inf and tool.output_schema is not None:
        changes["output_schema"] = widened(tool.output_schema)
    return tool.model_copy(update=changes) if changes else tool


_CONTINUE: Final = Tool.model_validate(TOOL)


def _is_taken(low: Server[Any], page: ListToolsResult) -> bool:
    """Whether the server has a tool of this name itself; then that one is called."""
    return _has_own(low) or any(tool.name == CONTINUE for tool in page.tools)


def _has_own(low: Server[Any]) -> bool:
    # Servers before mcp 2.3 have no look-up.
    lookup = getattr(low, "get_tool_input_schema", None)
    return lookup is not None and lookup(CONTINUE) is not None


def _call(low: Server[Any], inner: Handler) -> Handler:
    async def calling(context: Any, params: Any) -> Any:
        run = current_run.get()
        is_ours = params.name == CONTINUE and run is not None and run.engine.offers_handles
        if not is_ours or run is None or _has_own(low):
            return await inner(context, params)
        can_ask = context.session.protocol_version not in MODERN_PROTOCOL_VERSIONS
        return await _continue(run, params.arguments or {}, can_ask=can_ask)

    return calling


async def _continue(run: Run, arguments: Mapping[str, object], *, can_ask: bool) -> CallToolResult:
    match arguments:
        case {"run_id": str(handle), **more} if _is_stop(more):
            run_id, after = parse_handle(handle)
        case _:
            return _error(
                "Give run_id as the earlier answer has it, and stop as true or false; "
                "there are no other arguments"
            )
    try:
        stream = await run.engine.keys.place_of(run, run_id)
        if arguments.get("stop"):
            return await _stop(run, stream)
        return CallToolResult.model_validate(await _waited(run, stream, after, can_ask=can_ask))
    except StreamNotFound:
        return _error(
            "No such run: it has expired, or its id is not yours. Call the tool itself again"
        )
    except JournalError:
        return _error("The run cannot be read at the moment; try again in a few seconds")


def _is_stop(more: Mapping[str, object]) -> bool:
    return not more.keys() - {"stop"} and isinstance(more.get("stop", False), bool)


async def _stop(run: Run, stream: str) -> CallToolResult:
    await ask(run.journal, stream, CancelRequested("client", "stopped with continue_run"))
    try:
        return CallToolResult.model_validate(await Following(run, stream).result())
    except MCPError as error:
        return CallToolResult(content=[TextContent(text=error.message)])


async def _waited(run: Run, stream: str, after: int, *, can_ask: bool) -> dict[str, Any]:
    """The result of the other run, or another handle when the window, or this server, is over."""
    result: dict[str, Any] | None = None
    entries: list[Entry] = []
    with anyio.CancelScope() as scope:
        timer = None if run.window == inf else run.clock.call_later(run.window, scope.cancel)
        try:
            following = Following(run, stream, after=after, ask=run.ask if can_ask else None)
            result = await following.result()
        except asyncio.CancelledError:
            # The other run may go on elsewhere: its caller can come back there.
            if not isinstance(run.stopping, Interrupted):
                raise
        finally:
            if timer is not None:
                timer.cancel()
    with anyio.CancelScope(shield=True):
        entries = await run.journal.kept(stream)
    if result is None:
        return handle_result(stream.rpartition("/")[2], entries, after)
    return rest_of(result, entries, after)


def _error(text: str) -> CallToolResult:
    return CallToolResult(content=[TextContent(text=text)], is_error=True)
