"""The options of the commands: how each is called, what it takes and what it is for.

A command has an option by a parameter of its type; those of `run` and `serve` together are in
`serve_options`.
"""

import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from headway.errors import SetupError
from headway.settings import parse_duration, parse_duration_or_zero, parse_window

DURATION = "DURATION"


def duration(text: str | float) -> float:
    """Return a duration as `parse_duration` does, with its refusal as a usage error."""
    try:
        return parse_duration(text)
    except SetupError as error:
        raise typer.BadParameter(str(error)) from error


def duration_or_zero(text: str | float) -> float:
    """Return a duration as `parse_duration_or_zero` does, with its refusal as a usage error."""
    try:
        return parse_duration_or_zero(text)
    except SetupError as error:
        raise typer.BadParameter(str(error)) from error


def window(text: str | float) -> float:
    """Return a window as `parse_window` does, with its refusal as a usage error."""
    try:
        return parse_window(text)
    except SetupError as error:
        raise typer.BadParameter(str(error)) from error


def _endpoint_option(text: str) -> str:
    if not re.fullmatch(r"/[^\s?#]*", text):
        raise typer.BadParameter(f"{text!r} is not a path; write /mcp")
    return text


Target = Annotated[
    str,
    typer.Argument(
        metavar="TARGET",
        help="path/to/file.py:name or package.module:name. The name may be left out when "
        "there is one server, or one called mcp, server or app. Or the URL of a server, which is "
        "served through a proxy (needs fastmcp).",
    ),
]
OptionalTarget = Annotated[
    str | None,
    typer.Argument(metavar="[TARGET]", help="A server, to see also what it offers."),
]
Host = Annotated[
    str,
    typer.Option(
        envvar="HEADWAY_HOST",
        metavar="ADDRESS",
        help="The address to listen on, or a name, for all of its addresses.",
    ),
]
Port = Annotated[
    int,
    typer.Option(
        envvar="HEADWAY_PORT", min=0, max=65535, help="The port to listen on; 0 takes a free one."
    ),
]
UnixSocket = Annotated[
    Path | None,
    typer.Option(
        "--uds",
        envvar="HEADWAY_UDS",
        metavar="FILE",
        help="Listen on a socket in the file system instead of a port, for this user alone.",
    ),
]
Descriptor = Annotated[
    int | None,
    typer.Option(
        "--fd",
        envvar="HEADWAY_FD",
        min=0,
        help="Serve on a socket that is open already: systemd's first one is 3.",
    ),
]
Certificate = Annotated[
    Path | None,
    typer.Option(
        "--ssl-certfile",
        envvar="HEADWAY_SSL_CERTFILE",
        metavar="FILE",
        help="Speak TLS, with the certificates of this file (PEM).",
    ),
]
CertificateKey = Annotated[
    Path | None,
    typer.Option(
        "--ssl-keyfile",
        envvar="HEADWAY_SSL_KEYFILE",
        metavar="FILE",
        help="The certificate's key, where its own file does not have it.",
    ),
]
RootPath = Annotated[
    str,
    typer.Option(
        envvar="HEADWAY_ROOT_PATH",
        help="The path below which a proxy serves this server, if it strips that: /tools.",
    ),
]
ForwardedAllowIps = Annotated[
    str | None,
    typer.Option(
        envvar="HEADWAY_FORWARDED_ALLOW_IPS",
        metavar="ADDRESSES",
        help="Proxies whose X-Forwarded-For and -Proto are believed, separated by commas; networks "
        "too. Default: 127.0.0.1.",
    ),
]
Endpoint = Annotated[
    str,
    typer.Option(
        "--path",
        envvar="HEADWAY_PATH",
        callback=_endpoint_option,
        help="The path of the MCP endpoint.",
    ),
]
JournalUrl = Annotated[
    str | None,
    typer.Option(
        "--journal",
        envvar="HEADWAY_JOURNAL",
        metavar="URL",
        help="Where runs are kept: memory:, sqlite:///relative.db, sqlite:////absolute.db or "
        "redis://host:6379. "
        "Default: a SQLite file of this server's own in the user's data directory.",
    ),
]
ProgressRate = Annotated[
    float,
    typer.Option(
        envvar="HEADWAY_PROGRESS_RATE",
        min=0.0,
        help="Progress messages a second and run, at most; 0 sends every report.",
    ),
]
AllowHosts = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-host",
        envvar="HEADWAY_ALLOW_HOST",
        metavar="HOST",
        help="Accept this Host header besides localhost and --host. May be repeated.",
    ),
]
AllowOrigins = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-origin",
        envvar="HEADWAY_ALLOW_ORIGIN",
        metavar="ORIGIN",
        help="Let pages of this origin call, from browsers: https://app.example. May be repeated.",
    ),
]
Timeout = Annotated[
    float,
    typer.Option(
        envvar="HEADWAY_TIMEOUT",
        parser=duration,
        metavar=DURATION,
        help="How long a run may take where its tool says nothing: 45s, 30m, 2h.",
    ),
]
HandOver = Annotated[
    float | None,
    typer.Option(
        envvar="HEADWAY_HAND_OVER",
        parser=window,
        metavar=DURATION,
        help="After how long a call is answered with a handle while it goes on: a duration, "
        "'at once' or 'never'. Default: 45s, for clients that know tasks or resume streams; a "
        "duration is for all clients, with the tool continue_run for the others.",
    ),
]
Clients = Annotated[
    Path | None,
    typer.Option(
        "--clients",
        envvar="HEADWAY_CLIENTS",
        metavar="FILE",
        help="What you know of clients, as TOML: it decides when their calls are handed over.",
    ),
]
Grace = Annotated[
    float,
    typer.Option(
        envvar="HEADWAY_GRACE",
        parser=duration_or_zero,
        metavar=DURATION,
        help="How long calls may go on after the first SIGTERM or Ctrl+C: 10s, 5m.",
    ),
]
Stateless = Annotated[
    bool,
    typer.Option(
        "--stateless",
        envvar="HEADWAY_STATELESS",
        help="Serve 2025 clients without sessions: each POST by itself, nothing to resume. For "
        "processes that share nothing.",
    ),
]
Workers = Annotated[
    int,
    typer.Option(
        envvar="HEADWAY_WORKERS",
        min=1,
        help="Processes that serve the one port, on one journal. One that dies is replaced.",
    ),
]
Stdio = Annotated[
    bool,
    typer.Option(
        "--stdio",
        envvar="HEADWAY_STDIO",
        help="Speak on stdin and stdout, to the program that starts this one, and not over HTTP. "
        "Runs are kept in memory then, unless --journal says where.",
    ),
]
Values = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        envvar="HEADWAY_SET",
        metavar="NAME=VALUE",
        help="Any other setting or limit, as in --set max_runs=50 --set keep.ttl=2h. May be "
        "repeated. A name that does not exist lists those that do.",
    ),
]
Loop = Annotated[
    Literal["auto", "uvloop", "asyncio"],
    typer.Option(
        envvar="HEADWAY_LOOP",
        help="The event loop. auto: uvloop, unless the server sets a policy for event loops or "
        "nest_asyncio is installed, which cannot patch uvloop.",
    ),
]
LogLevel = Annotated[
    Literal["debug", "info", "warning", "error"],
    typer.Option(envvar="HEADWAY_LOG_LEVEL", help="How much to log on stderr."),
]
LogFormat = Annotated[
    Literal["text", "json"],
    typer.Option(
        envvar="HEADWAY_LOG_FORMAT", help="How to write it: lines for people, or JSON objects."
    ),
]
AccessLog = Annotated[
    bool,
    typer.Option(
        "--access-log", envvar="HEADWAY_ACCESS_LOG", help="Log a line for each HTTP request."
    ),
]
LogConfig = Annotated[
    Path | None,
    typer.Option(
        "--log-config",
        envvar="HEADWAY_LOG_CONFIG",
        metavar="FILE",
        help="Set up logging with this file instead: .json or .toml as Python's dictConfig has it, "
        "or .ini.",
    ),
]
Audit = Annotated[
    str | None,
    typer.Option(
        "--audit",
        envvar="HEADWAY_AUDIT",
        metavar="FILE|stderr|syslog:",
        help="Write a line of JSON for each call, refusal and cancel: who, what, and how it ended. "
        "[audit] in the configuration says more.",
    ),
]
EncryptionKeys = Annotated[
    Path | None,
    typer.Option(
        "--encryption-keys",
        envvar="HEADWAY_ENCRYPTION_KEYS",
        metavar="FILE",
        help="Encrypt the journal with the first key of this file, and decrypt with each of them, "
        "instead of those of [encryption] in the configuration; see headway journal key.",
    ),
]
LocalToken = Annotated[
    bool,
    typer.Option(
        "--local-token",
        envvar="HEADWAY_LOCAL_TOKEN",
        help="Make a token at the start that calls need, in a file that only this user can read; "
        "headway call and tools find it there by the server's URL.",
    ),
]
Anonymous = Annotated[
    bool,
    typer.Option(
        "--anonymous",
        envvar="HEADWAY_ANONYMOUS",
        help="Let everybody call who can connect, also from other machines. Without it a server "
        "that others can reach does not start until something says whose tokens let in.",
    ),
]
AuthFile = Annotated[
    Path | None,
    typer.Option(
        "--auth",
        envvar="HEADWAY_AUTH",
        metavar="FILE",
        help="Whose tokens let a request in: a file with [auth], instead of the configuration's.",
    ),
]
