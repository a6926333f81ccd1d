"""`headway call`: run a tool, watch it, get its result."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal
from uuid import uuid4

import typer

from headway.cli.commands.list_tools import (
    Auth,
    EraOption,
    Headers,
    Output,
    TargetOrUrl,
    headers_of,
)
from headway.cli.commands.watched_call import (
    RETRY_FOR,
    Parts,
    Quiet,
    RetryFor,
    Timeout,
    TraceTo,
    View,
    opened_call,
    run_watching,
    way_back,
)
from headway.cli.display.line_file import open_files
from headway.cli.display.printable import json_text, one_line
from headway.cli.display.result_text import print_result
from headway.cli.exit_codes import Refused, report_line

if TYPE_CHECKING:
    from mcp_types import CallToolResult, Tool

    from headway.cli.client.tool_call import CallRequest


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
    timeout: Timeout = None,
    retry_for: RetryFor = RETRY_FOR,
    key: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            help="The call's idempotency key: a call that is repeated with its key is not done "
            "again. Default: a new one.",
        ),
    ] = None,
    detach: Annotated[
        bool,
        typer.Option("--detach", help="Start the call, print its id, and leave it running."),
    ] = False,
    quiet: Quiet = False,
    parts: Parts = None,
    trace: TraceTo = None,
    header: Headers = None,
    auth: Auth = None,
    debug: Annotated[
        bool,
        typer.Option(
            "--debug", help="Of what the tool raised show all frames, those of the SDK too."
        ),
    ] = False,
) -> None:
    """Call a tool and show its progress; the result goes to stdout, everything else to stderr.

    On a terminal Ctrl+C asks whether the call is to go on without you; elsewhere it cancels the
    call. What a tool of a TARGET raises is shown with its traceback.
    """
    request = _Request(place, tool, pairs or [], document, _checked_key(key))
    if detach and timeout is not None:
        raise Refused("--timeout needs somebody who waits, and with --detach nobody does")
    headers = headers_of(header, place)
    with open_files(parts, trace) as files:
        way = (place, era, headers, header or (), timeout, retry_for)
        view = View(*way, quiet, parts, files, debug, auth is not None)
        if detach:
            _print_run(run_watching(lambda: _start(request, view)), output)
        else:
            print_result(run_watching(lambda: _call(request, view)), output)


def _checked_key(key: str | None) -> str:
    from headway.protocol.idempotency_key import LONGEST_KEY, is_key

    if key is not None and not is_key(key):
        raise Refused(f"--key is a text of 1 to {LONGEST_KEY} characters, a UUID for example")
    return str(uuid4()) if key is None else key


def _print_run(task_id: str, output: Literal["text", "json"]) -> None:
    print(json_text({"run": task_id}, sys.stdout) if output == "json" else one_line(task_id))


@dataclass(frozen=True, slots=True)
class _Request:
    place: str
    tool: str
    pairs: list[str]
    document: str | None
    key: str


async def _call(request: _Request, view: View) -> "CallToolResult":
    wish = _wish_of(request, view)
    async with opened_call(view, f"Calling {request.tool}", wish=wish) as call:
        return await call.result(request.tool)


async def _start(request: _Request, view: View) -> str:
    wish = _wish_of(request, view)
    async with opened_call(view, f"Starting {request.tool}", wish=wish) as call:
        task_id = await call.start()
    report_line(f"{request.tool} goes on; come back with: {way_back(task_id, view)}")
    return task_id


def _wish_of(request: _Request, view: View) -> "CallRequest":
    from headway.cli.client.tool_call import CallRequest

    def check(tools: "Sequence[Tool]") -> dict[str, Any]:
        return _checked_arguments(tools, request, may_be_hidden=view.is_known)

    return CallRequest(request.tool, check, request.key)


def _checked_arguments(
    tools: "Sequence[Tool]", request: _Request, *, may_be_hidden: bool
) -> dict[str, Any]:
    """Return the arguments of a call, checked by the schema of its tool.

    A tool that `may_be_hidden` need not be listed: a server hides what needs another scope, and
    says so when it is called.
    """
    from headway.cli.client.arguments import check_arguments, collect_arguments, open_schema
    from headway.cli.client.http_client import shown_url

    named = {tool.name: tool for tool in tools}
    tool = named.get(request.tool)
    if tool is None and may_be_hidden:
        return collect_arguments(request.pairs, request.document, {"additionalProperties": True})
    if tool is None:
        there = f"it has {one_line(', '.join(named))}" if named else "it has none"
        raise Refused(f"{shown_url(request.place)} has no tool {request.tool!r}; {there}")
    arguments = collect_arguments(request.pairs, request.document, tool.input_schema)
    is_ours = request.document is None
    check_arguments(
        request.tool, arguments, tool.input_schema if is_ours else open_schema(tool.input_schema)
    )
    return arguments
