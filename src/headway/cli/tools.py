"""`headway tools`: what a server can do."""

import inspect
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from mcp_types import Tool

Place = Annotated[
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
        metavar="'NAME: VALUE'",
        help="Send this header with every request. May be repeated.",
    ),
]


def headers_of(given: Sequence[str] | None) -> dict[str, str]:
    """The headers that `Name: value` texts give."""
    headers: dict[str, str] = {}
    for text in given or ():
        name, colon, value = text.partition(":")
        if not colon or not name.strip() or not (name + value).isascii() or "\n" in text:
            raise typer.BadParameter(f"{text!r} is not a header; write 'Name: value'")
        headers[name.strip()] = value.strip()
    return headers


def tools(
    place: Place,
    era: EraOption = None,
    output: Output = "text",
    header: Headers = None,
) -> None:
    """List a server's tools with their descriptions and arguments."""
    from headway.cli import peer
    from headway.cli.loops import run

    async def listed() -> Sequence["Tool"]:
        async with peer.peer(place, era=era, headers=headers_of(header)) as client:
            return await peer.list_tools(client)

    found = run(listed, loop="asyncio")
    if output == "json":
        print(json.dumps([t.model_dump(by_alias=True, exclude_none=True) for t in found]))
    elif sys.stdout.isatty():
        _draw(found)
    else:
        print("\n\n".join("\n".join(_lines(tool)) for tool in found) or "no tools")


def _arguments(schema: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Each argument's name, what it takes, and its description."""
    from headway.cli.arguments import types_of

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


def _description(tool: "Tool") -> str:
    """A docstring comes with the indentation of its function."""
    from headway.cli.display import plain

    return inspect.cleandoc(plain(tool.description or "")).strip()


def _lines(tool: "Tool") -> Iterator[str]:
    from headway.cli.display import plain

    yield plain(tool.name)
    for line in _description(tool).splitlines():
        yield f"  {line}".rstrip()
    for name, takes, description in _arguments(tool.input_schema):
        yield plain(f"    {name}: {takes}{f'  {description}' if description else ''}")


def _draw(found: Sequence["Tool"]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from headway.cli.display import plain

    table = Table("Tool", "What it does", "Arguments", show_lines=True)
    for tool in found:
        arguments = Text()
        for name, takes, description in _arguments(tool.input_schema):
            arguments.append(plain(name), style="bold")
            arguments.append(plain(f": {takes}\n"))
            arguments.append(plain(f"  {description}\n" if description else ""), style="dim")
        arguments.rstrip()
        table.add_row(
            Text(plain(tool.name), style="cyan bold"),
            Text(_description(tool)),
            arguments,
        )
    Console().print(table if found else "no tools")
