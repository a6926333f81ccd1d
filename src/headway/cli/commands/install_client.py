"""`headway install CLIENT TARGET|URL`: a server in the configuration of another program."""

import sys
from contextlib import redirect_stdout
from difflib import get_close_matches
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from headway.cli.display.printable import one_line
from headway.cli.environment import take_secrets
from headway.cli.exit_codes import Refused, report_line
from headway.client_config import (
    CLIENTS,
    NAME,
    ClientConfig,
    Entry,
    StdioCommand,
    name_for_url,
    usable_name,
)

ClientName = Annotated[
    str,
    typer.Argument(
        metavar="CLIENT",
        help=f"The program: {', '.join(CLIENTS)}.",
        autocompletion=lambda: list(CLIENTS),
    ),
]
TargetOrUrl = Annotated[
    str,
    typer.Argument(
        metavar="TARGET|URL",
        help="A server that the program starts (path/to/file.py:name), or the URL of one.",
    ),
]
ServerName = Annotated[
    str | None,
    typer.Option("--name", help="What the program calls the server. Default: the server's name."),
]
Write = Annotated[
    bool,
    typer.Option(
        "--write",
        help="Add it to the program's file. All that is there stays as it is.",
    ),
]


def install(
    client: ClientName, target: TargetOrUrl, name: ServerName = None, write: Write = False
) -> None:
    """Print what connects a program to a server, or write it into its configuration."""
    row = _find_client(client)
    if name is not None and not NAME.fullmatch(name):
        raise Refused(f"--name {name!r}: a name has letters, digits, - and _, and at most 64")
    if write and row.file is None:
        raise Refused(
            f"{row.title} has no file of its own; leave --write out, and use what it says"
        )
    usual, entry = _describe_server(row, target)
    block = row.render(name or usual, entry)
    _check_text(block)
    if not write or row.file is None:
        print(_without_harm(block))
        if row.file is not None and sys.stdout.isatty():
            report_line(f"this is for {row.file()}; --write adds it there")
        return
    from headway.cli.config_writer import write_entry

    file, name = row.file(), name or usual
    if write_entry(row, file, name, entry):
        report_line(
            f"{row.title} knows {name!r} now, by {file}; start it again to have it read that"
        )
    else:
        report_line(f"{file} has {name!r} already, as it should be")


def _check_text(block: str) -> None:
    try:
        block.encode()
    except UnicodeEncodeError as error:
        raise Refused("the server's path is no UTF-8, and no configuration can have it") from error


def _without_harm(text: str) -> str:
    """Return a text whose lines are harmless for a terminal."""
    return "\n".join(map(one_line, text.split("\n")))


def _find_client(name: str) -> ClientConfig:
    if name in CLIENTS:
        return CLIENTS[name]
    close = get_close_matches(name, CLIENTS, n=1)
    meant = f"did you mean {close[0]}?" if close else f"there are {', '.join(CLIENTS)}"
    raise Refused(f"there is no client {name!r}; {meant}")


def _describe_server(client: ClientConfig, target: str) -> tuple[str, Entry]:
    """Return a name for a server, and what a client's configuration says of it."""
    if target.startswith(("http://", "https://")):
        _check_url(target)
        return name_for_url(target), client.of_url(target)
    if client.of_command is None:
        raise Refused(f"{client.title} starts no server; give it the URL of one that runs")
    name, command = _stdio_command(target)
    return name, client.of_command(command)


def _check_url(url: str) -> None:
    """See that clients can use a URL.

    Raises:
        Refused: It has no host, or a password, or characters that no URL has.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise Refused(f"this is no URL: {error}") from error
    if "@" in parts.netloc:
        raise Refused("clients take no URL with a password in it; configure a header with them")
    if not parts.hostname or not url.isascii() or not url.isprintable() or " " in url:
        raise Refused(f"{url!r} is no URL; write http://host:port/mcp")


def _stdio_command(target: str) -> tuple[str, StdioCommand]:
    """Return the name of a server, and how it is started from any directory.

    Desktop programs have another PATH and another directory: every path is absolute.
    """
    from headway.cli.config_file import USUAL_FILE
    from headway.cli.target import load_target
    from headway.server import inspect_server

    take_secrets()
    with redirect_stdout(sys.stderr):  # what the server's own code prints is no configuration
        loaded = load_target(target)
    config = ("--config", str(USUAL_FILE.absolute())) if USUAL_FILE.is_file() else ()
    command, *before = _own_command()
    arguments = (*before, "run", loaded.identity, "--stdio", *config)
    environment = _path_for_modules(loaded.identity)
    name = usable_name(inspect_server(loaded.server).name)
    return name, StdioCommand(command, arguments, environment)


def _own_command() -> list[str]:
    """Return the absolute command `headway` of this very environment."""
    suffix = ".exe" if sys.platform == "win32" else ""
    program = Path(sys.executable).with_name(f"headway{suffix}")
    return [str(program)] if program.is_file() else [sys.executable, "-P", "-m", "headway"]


def _path_for_modules(identity: str) -> dict[str, str]:
    """Return the variable by which a module of the current directory is found from elsewhere."""
    place, here = identity.rpartition(":")[0], str(Path.cwd())
    if Path(place).is_absolute() or not PathFinder.find_spec(place.partition(".")[0], [here]):
        return {}
    return {"PYTHONPATH": here}
