"""The options of the commands that serve, and the settings and paths that are made from them.

`run` and `serve` share their options: `ServeOptions` declares each of them once, and
`with_serve_options` gives them to a command. `worker` takes some of them one by one.
"""

import hashlib
import inspect
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints
from urllib.parse import quote

import typer

from headway.cli.clients_file import read_profiles
from headway.cli.exit_codes import Refused
from headway.errors import SetupError
from headway.settings import Settings, parse_duration, parse_window, with_values

if TYPE_CHECKING:
    from headway.cli.server.standard_streams import Streams
    from headway.cli.server.start import ListenOptions

DURATION = "DURATION"


def duration(text: str | float) -> float:
    """`parse_duration`, with its refusal as a usage error."""
    try:
        return parse_duration(text)
    except SetupError as error:
        raise typer.BadParameter(str(error)) from error


def window(text: str | float) -> float:
    """`parse_window`, with its refusal as a usage error."""
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
        "there is one server, or one called mcp, server or app.",
    ),
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
        parser=duration,
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
        help="Speak on stdin and stdout, to the program that starts this one, and not over HTTP. "
        "Runs are kept in memory then, unless --journal says where.",
    ),
]
Values = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
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


HTTP_ONLY = {
    "host": "--host",
    "port": "--port",
    "path": "--path",
    "allow_host": "--allow-host",
    "allow_origin": "--allow-origin",
    "grace": "--grace",
    "workers": "--workers",
    "stateless": "--stateless",
}
"""Parameters that only make sense over HTTP, each with its option."""


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """The options that `run` and `serve` share, in the order in which `--help` lists them.

    A field's type is what typer makes the option from; a field's default is the option's.
    """

    stdio: Stdio = False
    host: Host = "127.0.0.1"
    port: Port = 8000
    path: Endpoint = "/mcp"
    journal: JournalUrl = None
    progress_rate: ProgressRate = 4.0
    allow_host: AllowHosts = None
    allow_origin: AllowOrigins = None
    timeout: Timeout = "24h"  # pyright: ignore[reportAssignmentType] - typer parses it
    hand_over: HandOver = None
    clients: Clients = None
    workers: Workers = 1
    stateless: Stateless = False
    grace: Grace = "30s"  # pyright: ignore[reportAssignmentType]
    loop: Loop = "auto"
    set_: Values = None
    log_level: LogLevel = "info"

    def take_streams(self, context: typer.Context) -> "Streams | None":
        """Take stdin and stdout away from everybody else where `--stdio` asks for it.

        To be called before anything is loaded that might print. Returns None without `--stdio`.

        Raises:
            Refused: The command line has options that only make sense over HTTP. The environment
                may hold theirs: it speaks to many servers.
            SetupError: stdin or stdout is closed.
        """
        if not self.stdio:
            return None
        given = [
            option
            for name, option in HTTP_ONLY.items()
            if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"
        ]
        if given:
            raise Refused(
                f"{', '.join(given)} cannot go with --stdio, where nothing is listened on"
            )
        from headway.cli.server.standard_streams import take_streams

        return take_streams()

    def make_settings(self) -> Settings:
        """Return the settings that the options describe.

        Raises:
            SetupError: The file with clients is missing or wrong, or a value of `--set` is.
        """
        chosen = Settings(
            profiles=() if self.clients is None else read_profiles(self.clients),
            progress_rate=self.progress_rate,
            timeout=self.timeout,
            hand_over=self.hand_over,
            stateless=self.stateless,
            allowed_hosts=tuple(self.allow_host or ()),
            allowed_origins=tuple(self.allow_origin or ()),
        )
        return with_values(chosen, self.set_ or ())

    def listen_options(self) -> "ListenOptions":
        """Return where to listen, and with how many processes."""
        from headway.cli.server.start import ListenOptions

        return ListenOptions(
            host=self.host, port=self.port, path=self.path, grace=self.grace, workers=self.workers
        )


def with_serve_options(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command the options of `ServeOptions` after its own; it takes them as `shared`.

    typer makes a command's options from its signature. The one returned has the parameters of
    `command`, and the fields of `ServeOptions` in the place of `shared`.
    """

    def called(**values: Any) -> int:
        shared = {field.name: values.pop(field.name) for field in fields(ServeOptions)}
        return command(**values, shared=ServeOptions(**shared))

    own = inspect.signature(command).parameters.values()
    hints = get_type_hints(ServeOptions, include_extras=True)
    parameters = [parameter for parameter in own if parameter.name != "shared"] + [
        inspect.Parameter(
            field.name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=field.default,
            annotation=hints[field.name],
        )
        for field in fields(ServeOptions)
    ]
    called.__doc__ = command.__doc__
    called.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    setattr(called, "__signature__", inspect.Signature(parameters))  # noqa: B010 - pyright
    return called


def own_directory(identity: str) -> Path:
    """Return where the server `identity` keeps what is its own, in the user's data directory.

    Two servers never share one by accident: its name has a hash of the whole identity.
    """
    base = os.environ.get("XDG_DATA_HOME", "")
    home = Path(base) if Path(base).is_absolute() else Path.home() / ".local" / "share"
    digest = hashlib.sha256(identity.encode()).hexdigest()[:12]
    readable = re.sub(r"[^A-Za-z0-9]+", "-", Path(identity).name).strip("-")[:40]
    return home / "headway" / f"{readable}-{digest}"


def own_journal(identity: str, *, stdio: bool = False) -> str:
    """Return the URL of the server's own SQLite journal, whose directory is made where it is
    missing.

    Over a pipe it is `memory:`. There a client and its server end together: nobody could come
    back for a session or a result. And one desktop client may start any number of copies, in
    places where nothing can be written.

    Raises:
        SetupError: The directory cannot be made.
    """
    if stdio:
        return "memory:"
    directory = own_directory(identity)
    try:
        # Results of tools are nobody else's to read.
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SetupError(
            f"cannot make {directory} for the journal ({error.strerror}); "
            "choose a place with --journal"
        ) from error
    return "sqlite:///" + quote(str(directory / "journal.db"))
