"""`headway call`: run a tool, watch it, get its result."""

import asyncio
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast
from uuid import uuid4

import typer

from headway.cli.commands.list_tools import EraOption, Headers, Output, TargetOrUrl, headers_of
from headway.cli.display.printable import json_text
from headway.cli.exit_codes import Cancelled, Refused, ToolFailed
from headway.cli.options import DURATION, duration

if TYPE_CHECKING:
    from mcp.client.client import Client
    from mcp_types import (
        CallToolResult,
        ContentBlock,
        LoggingMessageNotificationParams,
        RequestParamsMeta,
    )

    from headway.cli.display.call_display import Display


def call(
    place: TargetOrUrl,
    tool: Annotated[str, typer.Argument(metavar="TOOL", help="The tool's name.")],
    pairs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="Arguments. A value is JSON where it parses and the tool wants no string.",
        ),
    ] = None,
    document: Annotated[
        str | None,
        typer.Option("--json", metavar="OBJECT", help="All arguments as one JSON object."),
    ] = None,
    era: EraOption = None,
    output: Output = "text",
    timeout: Annotated[
        float | None,
        typer.Option(
            parser=duration,
            metavar=DURATION,
            help="Cancel the run when it takes longer: 45s, 30m, 2h. Default: wait.",
        ),
    ] = None,
    header: Headers = None,
    debug: Annotated[
        bool,
        typer.Option(
            "--debug", help="Of what the tool raised show all frames, those of the SDK too."
        ),
    ] = False,
) -> None:
    """Call a tool and show its progress; the result goes to stdout, everything else to stderr.

    Ctrl+C cancels the run. What a tool of a TARGET raises is shown with its traceback.
    """
    from headway.cli.server.event_loop import run_until_done

    request = _Request(
        place, tool, pairs or [], document, era, timeout, headers_of(header), debug=debug
    )
    try:
        result = run_until_done(lambda: _call_tool(request), loop="asyncio")
    except KeyboardInterrupt as error:
        raise Cancelled("cancelled") from error
    _print_result(result, output)
    if result.is_error:
        text = "\n".join(_result_texts(result.content)) or "the tool reported an error"
        raise ToolFailed(_shown_result(text, sys.stderr.isatty()))


@dataclass(frozen=True, slots=True)
class _Request:
    place: str
    tool: str
    pairs: list[str]
    document: str | None
    era: Literal["2025", "2026"] | None
    timeout: float | None
    headers: Mapping[str, str]
    debug: bool


async def _call_tool(request: _Request) -> "CallToolResult":
    from headway.cli.client.peer import connect_peer
    from headway.cli.display.call_display import display, log_line
    from headway.cli.display.terminal_questions import Questions

    screen = display(f"Calling {request.tool}")

    async def on_log(params: "LoggingMessageNotificationParams") -> None:
        screen.line(log_line(params.logger, params.level, params.data))

    async with connect_peer(
        request.place,
        era=request.era,
        headers=dict(request.headers),
        on_log=on_log,
        on_question=Questions(screen),
        debug=request.debug,
    ) as client:
        arguments = await _checked_arguments(client, request)
        with screen:
            return await _within_limit(client, request, arguments, screen)


async def _checked_arguments(client: "Client", request: _Request) -> dict[str, Any]:
    from headway.cli.client.arguments import check_arguments, collect_arguments, open_schema
    from headway.cli.client.peer import list_tools

    tools = {tool.name: tool for tool in await list_tools(client)}
    tool = tools.get(request.tool)
    if tool is None:
        there = f"it has {', '.join(tools)}" if tools else "it has none"
        raise Refused(f"{request.place} has no tool {request.tool!r}; {there}")
    arguments = collect_arguments(request.pairs, request.document, tool.input_schema)
    is_ours = request.document is None
    check_arguments(
        request.tool, arguments, tool.input_schema if is_ours else open_schema(tool.input_schema)
    )
    return arguments


async def _within_limit(
    client: "Client", request: _Request, arguments: dict[str, Any], screen: "Display"
) -> "CallToolResult":
    from headway.protocol.continue_run_tool import CONTINUE_RUN, handle_in
    from headway.protocol.idempotency_key import META_KEY

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        screen.progress(progress, total, message)

    # What is sent again on the way, by a proxy or by the client itself, is not done again.
    meta = cast("RequestParamsMeta", {META_KEY: str(uuid4())})
    limit = asyncio.timeout(request.timeout)
    try:
        async with limit:
            result = await client.call_tool(
                request.tool, arguments, progress_callback=on_progress, meta=meta
            )
            # Its own bar asks for progress, so it is handed a call only where an operator says so.
            while (handle := handle_in(result.meta, result.structured_content)) is not None:
                rest = {"run_id": handle}
                result = await client.call_tool(CONTINUE_RUN, rest, progress_callback=on_progress)
            return result
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise ToolFailed(
            f"{request.tool} did not finish within {request.timeout:g} s and was cancelled"
        ) from error


def _print_result(result: "CallToolResult", output: Literal["text", "json"]) -> None:
    if output == "json":
        body = result.model_dump(by_alias=True, exclude_none=True, mode="json")
        kept = "structuredContent" if "structuredContent" in body else "content"
        print(json_text({"isError": result.is_error, kept: body[kept]}, sys.stdout))
    elif not result.is_error:
        texts = list(_result_texts(result.content))
        if not texts and result.structured_content is not None:
            texts = [json_text(result.structured_content, sys.stdout, indent=2)]
        print(_shown_result("\n".join(texts), sys.stdout.isatty()))


def _shown_result(text: str, on_terminal: bool) -> str:
    """Return a terminal obeys control characters; a file or a pipe gets them as they are."""
    from headway.cli.display.printable import plain

    return plain(text) if on_terminal else text


def _result_texts(content: "list[ContentBlock]") -> Iterator[str]:
    """Return the content of a result as text; content that is not text is named."""
    for block in content:
        match block.type:
            case "text":
                yield block.text
            case "image" | "audio":
                yield f"[{block.type}, {block.mime_type}, {len(block.data) * 3 // 4} bytes]"
            case "resource_link":
                yield f"[resource {block.uri}]"
            case "resource":
                resource = block.resource
                text = getattr(resource, "text", None)
                yield text if isinstance(text, str) else f"[resource {resource.uri}]"
