"""`headway generate-cli`: a program with a command for each tool of a server."""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from headway.cli.commands.list_tools import Auth, EraOption, Headers, TargetOrUrl, headers_of
from headway.cli.display.printable import one_line, plain
from headway.cli.exit_codes import Refused, report_line
from headway.errors import SetupError

if TYPE_CHECKING:
    from mcp_types import Tool

Into = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Write it there, as a program. Default: on stdout."),
]

_USABLE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]*")
"""Names of tools and arguments that a command line can have."""

PROGRAM = '''\
#!/usr/bin/env python3
"""A command for each tool of a server, by `headway call`. Made by `headway generate-cli`.

Options that a tool does not have are those of `headway call`: --quiet, --output json, --detach.
HEADWAY_PLACE names another server with the same tools.
"""

import argparse
import json
import os
import shutil
import sys

PLACE = {place}
TOOLS = json.loads(
    {tools}
)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="tool", required=True, metavar="TOOL")
    for tool in TOOLS:
        told = tool["description"].replace("%", "%%")
        command = commands.add_parser(
            tool["name"], description=told, help=told.partition("\\n")[0], allow_abbrev=False
        )
        for argument in tool["arguments"]:
            command.add_argument(
                "--" + argument["name"],
                dest="argument " + argument["name"],
                required=argument["required"],
                metavar=argument["takes"],
                help=argument["description"].replace("%", "%%"),
            )
    chosen, others = parser.parse_known_args()
    values = vars(chosen)
    pairs = [
        name.partition(" ")[2] + "=" + value
        for name, value in values.items()
        if name.startswith("argument ") and value is not None
    ]
    headway = shutil.which("headway")
    if headway is None:
        sys.exit("headway is not installed here: see its README")
    place = os.environ.get("HEADWAY_PLACE", PLACE)
    os.execv(headway, [headway, "call", place, values["tool"], *pairs, *others])


if __name__ == "__main__":
    main()
'''


def generate_cli(
    place: TargetOrUrl,
    into: Into = None,
    era: EraOption = None,
    header: Headers = None,
    auth: Auth = None,
) -> None:
    """Make a program of a server: a command for each tool, an option for each argument."""
    from headway.cli.client import peer
    from headway.cli.server.event_loop import run_until_done

    headers = headers_of(header, place)

    async def listed() -> Sequence["Tool"]:
        async with peer.connect_peer(
            place, era=era, headers=headers, asks_login=auth is not None
        ) as client:
            return await peer.list_tools(client)

    listed_tools = run_until_done(listed, loop="asyncio")
    found = [tool for tool in listed_tools if _USABLE.fullmatch(tool.name)]
    if not found:
        raise Refused(f"{place} has no tools whose names can be commands")
    if left_out := [one_line(tool.name) for tool in listed_tools if tool not in found]:
        report_line(f"left out, because a command cannot be called so: {', '.join(left_out)}")
    text = program_for(place, found)
    if into is None:
        sys.stdout.write(text)
        return
    _write(into, text)
    many = "1 command" if len(found) == 1 else f"{len(found)} commands"
    report_line(f"{into} has {many}; see {into} --help")


def program_for(place: str, tools: Sequence["Tool"]) -> str:
    """Return the program; what the server says stands in it as text alone."""
    rows = [
        {
            "name": tool.name,
            "description": plain(tool.description or ""),
            "arguments": _arguments(tool.input_schema),
        }
        for tool in tools
    ]
    where = place if place.startswith(("http://", "https://")) else _absolute(place)
    # ASCII without quotes of Python inside: no name of a tool can end the text.
    return PROGRAM.format(place=ascii(where), tools=ascii(json.dumps(rows)))


def _arguments(schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    from headway.cli.client.arguments import types_of

    required = schema.get("required") or ()
    properties: dict[str, Any] = schema.get("properties") or {}
    return [
        {
            "name": name,
            "required": name in required,
            "takes": "|".join(sorted(types_of(part, schema))).upper() or "JSON",
            "description": one_line(str(part.get("description") or "")),
        }
        for name, part in properties.items()
        if _USABLE.fullmatch(name)
    ]


def _absolute(target: str) -> str:
    """Return a target that means the same in any directory; a package's name does already."""
    place, colon, name = target.rpartition(":")
    file = Path(place if colon else target)
    return f"{file.resolve()}{colon}{name if colon else ''}" if file.is_file() else target


def _write(file: Path, text: str) -> None:
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(text)
        file.chmod(file.stat().st_mode | 0o111)
    except FileExistsError:
        raise Refused(f"{file} is there already, and stays as it is") from None
    except OSError as error:
        raise SetupError(f"{file} cannot be written: {error.strerror}") from error
