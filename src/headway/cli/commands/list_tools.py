"""`headway tools`: what a server can do."""

import inspect
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from headway.cli import environment

if TYPE_CHECKING:
    from mcp_types import Tool

TargetOrUrl = Annotated[
    str,
    typer.Argument(
        metavar="URL_OR_TARGET",
        help="http://host:port/path of a running server, or path/to/file.py:name or "
        "package.module:name of one to start for this command.",
    ),
]
EraOption = Annotated[
    Literal["2025", "2026"] | None,
    typer.Option("--era", help="Speak this protocol era. Default: the newest both know."),
]
Output = Annotated[
    Literal["text", "json"], typer.Option(help="json: one JSON value on stdout, nothing else.")
]
Headers = Annotated[
    list[str] | None,
    typer.Option(
        "--header",
        metavar="'NAME: VALUE'|@FILE",
        help="Send this header with every request, or those of a file, one a line: unlike an "
        "argument, nobody else sees them. May be repeated. HEADWAY_TOKEN in the environment is "
        "sent as 'Authorization: Bearer …'.",
    ),
]

LARGEST_FILE = 64 * 1024
"""Bytes of a file with headers."""


def headers_of(given: Sequence[str] | None) -> dict[str, str]:
    """Return the headers that `Name: value` texts and `@file` give, and the token's.

    Raises:
        BadParameter: One of them is none; its value is not repeated where it comes from a file.
    """
    headers: dict[str, str] = {}
    for text in given or ():
        if text.startswith("@"):
            for number, line in enumerate(_lines_of(text[1:]), 1):
                if line.strip() and not line.startswith("#"):
                    headers.update([_parse_header(line, f"line {number} of {text[1:]}")])
        else:
            headers.update([_parse_header(text, repr(text))])
    token = environment.token()
    if token and "authorization" not in {name.lower() for name in headers}:
        headers.update([_parse_header(f"Authorization: Bearer {token.strip()}", environment.TOKEN)])
    environment.take_secrets()
    return headers


def _parse_header(text: str, shown: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    is_whole = bool(_NAME.fullmatch(name.strip())) and bool(_VALUE.fullmatch(value.strip()))
    if not colon or not is_whole:
        raise typer.BadParameter(f"{shown} is not a header; write 'Name: value'")
    return name.strip(), value.strip()


_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""RFC 9110, 5.1."""

_VALUE = re.compile(r"[\t\x20-\x7e]*")


def _lines_of(name: str) -> list[str]:
    try:
        with Path(name).open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
        if len(data) > LARGEST_FILE:
            raise typer.BadParameter(f"{name} has more than the {LARGEST_FILE} bytes of headers")
        return data.decode("ascii").splitlines()
    except OSError as error:
        raise typer.BadParameter(f"{name} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"{name} has more than ASCII in it") from error


def tools(
    place: TargetOrUrl,
    era: EraOption = None,
    output: Output = "text",
    header: Headers = None,
) -> None:
    """List a server's tools with their descriptions and arguments."""
    from headway.cli.client import peer
    from headway.cli.server.event_loop import run_until_done

    headers = headers_of(header)

    async def listed() -> Sequence["Tool"]:
        async with peer.connect_peer(place, era=era, headers=headers) as client:
            return await peer.list_tools(client)

    found = run_until_done(listed, loop="asyncio")
    if output == "json":
        print(json.dumps([t.model_dump(by_alias=True, exclude_none=True) for t in found]))
    elif sys.stdout.isatty():
        _draw_table(found)
    else:
        print("\n\n".join("\n".join(_lines(tool)) for tool in found) or "no tools")


def _argument_names(schema: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield each argument's name, what it takes, and its description."""
    from headway.cli.client.arguments import types_of

    required = schema.get("required") or ()
    properties: dict[str, Any] = schema.get("properties") or {}
    for name, part in properties.items():
        choices = part.get("enum")
        takes = " | ".join(map(str, choices or sorted(types_of(part, schema)))) or "any"
        if name in required:
            takes += ", required"
        elif part.get("default") is not None:
            takes += f" = {json.dumps(part['default'], ensure_ascii=False)}"
        yield name, takes, str(part.get("description") or "")


def _tool_description(tool: "Tool") -> str:
    """Return a docstring comes with the indentation of its function."""
    from headway.cli.display.printable import plain

    return inspect.cleandoc(plain(tool.description or "")).strip()


def _lines(tool: "Tool") -> Iterator[str]:
    from headway.cli.display.printable import one_line, plain

    yield one_line(tool.name)
    for line in _tool_description(tool).splitlines():
        yield f"  {line}".rstrip()
    for name, takes, description in _argument_names(tool.input_schema):
        told = plain(f"  {description}").replace("\n", "\n      ") if description else ""
        yield f"    {one_line(f'{name}: {takes}')}{told}"


def _draw_table(found: Sequence["Tool"]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from headway.cli.display.printable import one_line, plain

    table = Table("Tool", "What it does", "Arguments", show_lines=True)
    for tool in found:
        arguments = Text()
        for name, takes, description in _argument_names(tool.input_schema):
            arguments.append(one_line(name), style="bold")
            arguments.append(f"{one_line(f': {takes}')}\n")
            arguments.append(plain(f"  {description}\n" if description else ""), style="dim")
        arguments.rstrip()
        table.add_row(
            Text(one_line(tool.name), style="cyan bold"),
            Text(_tool_description(tool)),
            arguments,
        )
    Console().print(table if found else "no tools")
