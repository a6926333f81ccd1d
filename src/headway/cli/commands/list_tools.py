"""`headway tools`: what a server can do."""

import inspect
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer

from headway.cli import environment
from headway.cli.local_token import find_token

if TYPE_CHECKING:
    from mcp_types import Prompt, Resource, ResourceTemplate, Tool

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

Auth = Annotated[
    Literal["oauth"] | None,
    typer.Option(
        help="oauth: log in with a browser, where the server wants it. The login is kept in a file "
        "of yours, and used from then on.",
    ),
]

LARGEST_FILE = 64 * 1024
"""Bytes of a file with headers."""


def headers_of(given: Sequence[str] | None, place: str = "") -> dict[str, str]:
    """Return the headers that `Name: value` texts and `@file` give, and the token's.

    Where nobody gives a token, the one counts that a server of this user at the URL `place` has
    left (`--local-token`).

    Raises:
        BadParameter: One of them is no header; its value is not repeated where it comes from a
            file.
    """
    headers: dict[str, str] = {}
    for text in given or ():
        if text.startswith("@"):
            for number, line in enumerate(_lines_of(text[1:]), 1):
                if line.strip() and not line.startswith("#"):
                    headers.update([_parse_header(line, f"line {number} of {text[1:]}")])
        else:
            headers.update([_parse_header(text, repr(text))])
    token = environment.token() or find_token(place)
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
    resources: Annotated[
        bool, typer.Option("--resources", help="List the resources, and their templates, too.")
    ] = False,
    prompts: Annotated[bool, typer.Option("--prompts", help="List the prompts, too.")] = False,
    output: Output = "text",
    header: Headers = None,
    auth: Auth = None,
) -> None:
    """List a server's tools with their descriptions and arguments."""
    from headway.cli.client import peer
    from headway.cli.server.event_loop import run_until_done

    headers = headers_of(header, place)

    async def listed() -> _Lists:
        async with peer.connect_peer(
            place, era=era, headers=headers, asks_login=auth is not None
        ) as client:
            return _Lists(
                await peer.list_tools(client),
                await peer.list_resources(client) if resources else None,
                await peer.list_prompts(client) if prompts else None,
            )

    found = run_until_done(listed, loop="asyncio")
    if output == "json":
        print(json.dumps(found.as_json()))
        return
    if sys.stdout.isatty():
        _draw_table(found.tools)
    else:
        print("\n\n".join("\n".join(_lines(tool)) for tool in found.tools) or "no tools")
    for line in found.other_lines():
        print(line)


class _Lists(NamedTuple):
    """The lists of a server; None for one that nobody asked for."""

    tools: Sequence["Tool"]
    resources: "Sequence[Resource | ResourceTemplate] | None"
    prompts: "Sequence[Prompt] | None"

    def as_json(self) -> object:
        """Return the list of tools, or where more was asked for, an object with each list."""
        lists = {
            name: [each.model_dump(mode="json", by_alias=True, exclude_none=True) for each in some]
            for name, some in self._asdict().items()
            if some is not None
        }
        return lists["tools"] if len(lists) == 1 else lists

    def other_lines(self) -> Iterator[str]:
        """Yield the lines about resources and prompts, below a heading each."""
        from headway.cli.display.resource_lines import prompt_lines, resource_lines

        for name, some, lines_of in (
            ("resources", self.resources, resource_lines),
            ("prompts", self.prompts, prompt_lines),
        ):
            if some is None:
                continue
            yield ""
            yield f"{name.capitalize()}:" if some else f"no {name}"
            for each in some:
                yield ""
                yield from lines_of(each)  # pyright: ignore[reportArgumentType] - of its list


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
    """Return the tool's description, without the indentation of a docstring."""
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
