"""`headway check` and `headway init`: the configuration, looked at and begun."""

import asyncio
import json
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headway.cli.config_option import option_types
from headway.cli.display.printable import one_line
from headway.cli.exit_codes import Refused, report_line
from headway.cli.journal_access.user_journals import shown_journal
from headway.cli.options import OptionalTarget
from headway.encryption import secrets_of
from headway.errors import SetupError
from headway.settings import Retention, Settings, with_values

if TYPE_CHECKING:
    from headway.cli.config_file import ConfigFile
    from headway.tokens import AuthConfig

CheckedFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        envvar="HEADWAY_CONFIG",
        metavar="FILE",
        help="The file. Default: headway.toml in the current directory.",
    ),
]


def check(
    context: typer.Context,
    target: OptionalTarget = None,
    config: CheckedFile = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print a JSON schema of the file, for editors.")
    ] = False,
) -> None:
    """Name every mistake of headway.toml, and say what would be served."""
    from headway.cli.config_file import USUAL_FILE, read_config

    if schema:
        from headway.cli.config_schema import config_schema

        print(json.dumps(config_schema(option_types(context)), indent=2))
        return
    if config is None and not USUAL_FILE.is_file():
        raise Refused(f"there is no {USUAL_FILE} here; name a file with --config, or headway init")
    file = config or USUAL_FILE
    found = read_config(file, option_types(context), tools=True)
    described = [] if target is None else asyncio.run(_describe_target(target, found.auth))
    print(f"{file} has no mistakes")
    for name, value in [*_describe_settings(found), *described]:
        print(f"  {name:10} {one_line(value)}")


def _describe_settings(config: "ConfigFile") -> list[tuple[str, str]]:
    """Return what a file changes, in words for people; a journal without its password."""
    rows = [
        (name, shown_journal(str(value)) if name == "journal" else str(value))
        for name, value in config.options.items()
    ]
    settings = with_values(Settings(), config.limits)
    rows += [("limit", text) for text in _changed(settings, Settings())]
    rows += [("limit", f"keep.{text}") for text in _changed(settings.retention, Retention())]
    rows += [("client", each.name) for each in config.profiles]
    if config.auth is not None:
        rows += [("auth", text) for text in _describe_auth(config.auth)]
    if config.audit is not None:
        required = ", required" if config.audit.required else ""
        rows.append(("audit", f"{config.audit.to}, {config.audit.arguments}{required}"))
    if config.encryption is not None:
        ids = ", ".join(each.hex() for each in secrets_of(config.encryption))
        rows.append(("encryption", f"keys {ids}; plain entries: {config.encryption.plain}"))
    return rows


def _describe_auth(auth: "AuthConfig") -> list[str]:
    """Return whose tokens let a request in, in words for people."""
    names = ", ".join(auth.tokens)
    with_scopes = f" with {' '.join(auth.scopes)}" if auth.scopes else ""
    rows = [f"tokens of {auth.issuer} for {auth.resource}{with_scopes}"] if auth.issuer else []
    rows += [f"callers that a proxy names in {auth.proxy.user_header}"] if auth.proxy else []
    rows += [f"tokens of this file{with_scopes}: {names}"] if names else []
    return rows + [
        f"{tool} needs {' '.join(scopes) or 'no further scope'}"
        for tool, scopes in auth.tools.items()
    ]


def _changed(settings: Settings | Retention, usual: Settings | Retention) -> list[str]:
    of_tools = settings.calls_of_tools if isinstance(settings, Settings) else ()
    return [
        f"{name} = {getattr(settings, name)} instead of {_shown(getattr(usual, name))}"
        for name in (each.name for each in fields(settings))
        if name not in ("retention", "calls_of_tools")
        and getattr(settings, name) != getattr(usual, name)
    ] + [f"tools.{tool} = {_shown(rate)}" for tool, rate in of_tools]


def _shown(value: object) -> object:
    return "none" if value == "" else value


async def _describe_target(target: str, auth: "AuthConfig | None") -> list[tuple[str, str]]:
    """Return the name of a server and what it offers, of a server that is started for this.

    Raises:
        ConfigError: It does not have a tool that scopes are written for.
    """
    from headway.cli.client.peer import connect_peer, list_tools

    async with connect_peer(target) as client:
        names = [tool.name for tool in await list_tools(client)]
        info = client.server_info
    if auth is not None:
        auth.check_tools(target if info is None else info.name, names)
    name = "-" if info is None else f"{info.name} {info.version or ''}".strip()
    return [("server", name), ("tools", ", ".join(names) or "none")]


TEMPLATE = """\
# What headway run, serve and worker read in this directory. An option on the command line wins over
# its variable (HEADWAY_PORT), and that over this file. See: headway check, headway run --help.

[server]
# host = "127.0.0.1"
# port = 8000
# workers = 1                       # processes on the one port
# journal = "sqlite:///journal.db"  # or redis://host:6379, for several machines
# allow_host = ["mcp.example.com"]  # what proxies send as Host
# grace = "30s"                     # for calls that run when the server is stopped

# [auth]                            # whose tokens let a request in; see headway token, too
# resource = "https://mcp.example.com/mcp"
# issuer = "https://idp.example.com/"

# [audit]                           # a line for each call: who, what, how it ended
# to = "audit.jsonl"                # or "stderr", "syslog:"

# [encryption]                      # of the journal; headway journal key --into journal.keys
# keys = "journal.keys"

[limits]
# timeout = "24h"                   # of a call whose tool says nothing
# max_runs = 1000                   # calls at once in one process
# keep.ttl = "1h"                   # how long a result can be fetched
"""


def init(
    directory: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="Where to write it. Default: here.")
    ] = Path(),
) -> None:
    """Write a headway.toml with what is most often set, all of it as comments."""
    file = directory / "headway.toml"
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(TEMPLATE)
    except FileExistsError:
        raise Refused(f"{file} is there already, and stays as it is") from None
    except OSError as error:
        raise SetupError(f"{file} cannot be written: {error.strerror}") from error
    print(file)
    if sys.stdout.isatty():
        report_line("headway check looks at it")
