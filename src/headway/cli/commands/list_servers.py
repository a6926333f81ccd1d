"""`headway discover`: the servers that the configurations of other programs name."""

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Final, Literal, NamedTuple, cast

import typer

from headway.cli.config_writer import read_servers
from headway.cli.display.printable import one_line
from headway.cli.exit_codes import Refused, report_line
from headway.client_config import CLIENTS, ClientConfig
from headway.errors import SetupError
from headway.journal import without_secrets

Output = Annotated[
    Literal["text", "json"], typer.Option(help="json: one JSON value on stdout, nothing else.")
]

_SECRET: Final = re.compile(r"token|key|secret|password|auth|header", re.IGNORECASE)
"""Names of options whose values are shown to nobody."""

_URLS: Final = ("url", "httpUrl", "serverUrl")


class KnownServer(NamedTuple):
    """A server in the configuration of a program."""

    client: str
    file: str
    name: str
    place: str
    """Its URL, or the command that starts it; without secrets."""


def discover(output: Output = "text") -> None:
    """List the servers that the configurations of other programs on this machine have."""
    found = [server for client in CLIENTS.values() for server in _servers_of(client)]
    if output == "json":
        print(json.dumps([server._asdict() for server in found]))
        return
    for server in found:
        print(one_line(f"{server.name}  {server.place}"))
        print(one_line(f"    {server.client}, by {server.file}"))
    if not found:
        known = ", ".join(client.title for client in CLIENTS.values() if client.file)
        report_line(f"no servers in the configurations of {known}")


def _servers_of(client: ClientConfig) -> Iterator[KnownServer]:
    """Yield the servers of one program; a file that cannot be read is named on stderr."""
    if client.file is None:
        return
    file = client.file()
    try:
        servers = read_servers(client, file)
    except (Refused, SetupError) as error:
        report_line(f"{client.title} is left out: {error}")
        return
    for name, entry in servers.items():
        place = describe_entry(entry)
        if place:
            yield KnownServer(client.title, str(file), name, place)


def describe_entry(entry: object) -> str:
    """Return where a server is, or how it is started; empty for what is no entry."""
    if not isinstance(entry, dict):
        return ""
    values = cast("Mapping[str, Any]", entry)
    for name in _URLS:
        if isinstance(values.get(name), str):
            return without_secrets(values[name])
    command, arguments = values.get("command"), values.get("args", [])
    if not isinstance(command, str) or not isinstance(arguments, list):
        return ""
    texts = [str(each) for each in cast("list[object]", arguments)]
    return shlex.join([command, *_masked(texts)])


def _masked(arguments: Sequence[str]) -> Iterator[str]:
    """Yield a command's arguments; `…` in the place of what may be a secret."""
    is_secret = False
    for each in arguments:
        name, equals, _ = each.partition("=")
        if is_secret:
            yield "…"
        elif equals and _SECRET.search(name):
            yield f"{name}=…"
        else:
            yield without_secrets(each) if "://" in each else each
        is_secret = each.startswith("-") and not equals and bool(_SECRET.search(each))
