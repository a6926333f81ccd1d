"""The options that `run` and `serve` share, and the settings and the socket that they describe.

`ServeOptions` has each of them once, and `with_serve_options` gives them to a command.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import typer

from headway.cli import options
from headway.cli.audit_option import audit_config
from headway.cli.clients_file import read_profiles
from headway.cli.config_option import ConfigOption, config_of
from headway.cli.encryption_option import chosen_encryption
from headway.cli.exit_codes import Refused
from headway.settings import Settings, with_values

if TYPE_CHECKING:
    from headway.audit import AuditConfig
    from headway.cli.log_output.setup import LogOptions
    from headway.cli.server.known_callers import KnownCallers
    from headway.cli.server.standard_streams import Streams
    from headway.cli.server.start import ListenOptions

HTTP_ONLY = {
    "host": "--host",
    "port": "--port",
    "path": "--path",
    "allow_host": "--allow-host",
    "allow_origin": "--allow-origin",
    "grace": "--grace",
    "workers": "--workers",
    "stateless": "--stateless",
    "uds": "--uds",
    "fd": "--fd",
    "ssl_certfile": "--ssl-certfile",
    "ssl_keyfile": "--ssl-keyfile",
    "root_path": "--root-path",
    "forwarded_allow_ips": "--forwarded-allow-ips",
    "access_log": "--access-log",
    "auth": "--auth",
    "local_token": "--local-token",
    "anonymous": "--anonymous",
    "reload": "--reload",
    "reload_dir": "--reload-dir",
}
"""Parameters that only make sense over HTTP, each with its option."""


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """The options that `run` and `serve` share, in the order in which `--help` lists them.

    A field's type is what typer makes the option from; a field's default is the option's.
    """

    config: ConfigOption = None
    stdio: options.Stdio = False
    host: options.Host = "127.0.0.1"
    port: options.Port = 8000
    uds: options.UnixSocket = None
    fd: options.Descriptor = None
    path: options.Endpoint = "/mcp"
    journal: options.JournalUrl = None
    progress_rate: options.ProgressRate = 4.0
    allow_host: options.AllowHosts = None
    allow_origin: options.AllowOrigins = None
    timeout: options.Timeout = "24h"  # pyright: ignore[reportAssignmentType] - typer parses it
    hand_over: options.HandOver = None
    ssl_certfile: options.Certificate = None
    ssl_keyfile: options.CertificateKey = None
    root_path: options.RootPath = ""
    forwarded_allow_ips: options.ForwardedAllowIps = None
    auth: options.AuthFile = None
    local_token: options.LocalToken = False
    anonymous: options.Anonymous = False
    audit: options.Audit = None
    encryption_keys: options.EncryptionKeys = None
    clients: options.Clients = None
    workers: options.Workers = 1
    stateless: options.Stateless = False
    grace: options.Grace = "30s"  # pyright: ignore[reportAssignmentType]
    loop: options.Loop = "auto"
    set_: options.Values = None
    log_level: options.LogLevel = "info"
    log_format: options.LogFormat = "text"
    access_log: options.AccessLog = False
    log_config: options.LogConfig = None

    def take_streams(self, context: typer.Context) -> "Streams | None":
        """Take stdin and stdout away from all other code where `--stdio` asks for it.

        Call it before anything is loaded that might print. Returns None without `--stdio`.

        Raises:
            Refused: The command line has options that only make sense over HTTP. The environment
                may set them: it is meant for many servers.
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

    def make_settings(self, context: typer.Context) -> Settings:
        """Return the settings that the options and the configuration describe.

        Raises:
            SetupError: The file with clients or keys is missing or wrong, or a value of `--set` is.
        """
        config = config_of(context)
        chosen = Settings(
            profiles=(*read_profiles(self.clients), *config.profiles)
            if self.clients is not None
            else config.profiles,
            progress_rate=self.progress_rate,
            timeout=self.timeout,
            hand_over=self.hand_over,
            stateless=self.stateless,
            allowed_hosts=tuple(self.allow_host or ()),
            allowed_origins=tuple(self.allow_origin or ()),
            encryption=chosen_encryption(context, self.encryption_keys),
        )
        return with_values(chosen, (*config.limits, *(self.set_ or ())))

    def log_options(self) -> "LogOptions":
        """Return how the log is written."""
        from headway.cli.log_output.setup import LogOptions

        return LogOptions(self.log_format, self.access_log, self.log_config)

    def listen_options(
        self,
        context: typer.Context,
        watched: Sequence[Path] = (),
        on_reloading: Callable[[str], None] | None = None,
    ) -> "ListenOptions":
        """Return where to listen, with how many processes, and whose changes are watched.

        Of a port, `uds` and `fd` the one is taken that was named last: on the command line, else in
        a variable, else in the configuration.

        Raises:
            Refused: Two of them were named in the same way.
            ConfigError: The file of `--auth` cannot be read, or something in it is wrong.
        """
        from headway.cli.server.start import ListenOptions

        named = {name: _rank(context, name) for name in ("uds", "fd", "port", "host")}
        highest = max(named.values())
        uds = self.uds if named["uds"] == highest else None
        fd = self.fd if named["fd"] == highest else None
        if uds is not None and fd is not None:
            raise Refused("--uds cannot go with --fd: one socket is served")
        return ListenOptions(
            host=self.host,
            port=self.port,
            path=self.path,
            grace=self.grace,
            workers=self.workers,
            uds=uds,
            fd=fd,
            certificate=self.ssl_certfile,
            key=self.ssl_keyfile,
            root_path=self.root_path,
            forwarded_allow_ips=self.forwarded_allow_ips,
            callers=self._callers(context),
            reload=tuple(watched),
            on_reloading=on_reloading,
        )

    def audit_config(self, context: typer.Context) -> "AuditConfig | None":
        """Return the audit log that is kept; None: none.

        Raises:
            Refused: `--audit` names no place for one.
        """
        return audit_config(context, self.audit)

    def _callers(self, context: typer.Context) -> "KnownCallers":
        """Return who may call.

        Raises:
            SetupError: Something is wrong with the tokens of the file.
        """
        from headway.cli.server.known_callers import KnownCallers
        from headway.tokens import read_auth

        auth = config_of(context).auth if self.auth is None else read_auth(self.auth)
        if not self.local_token:
            return KnownCallers(auth, is_anonymous=self.anonymous)
        from headway.cli.local_token import LocalToken

        local = LocalToken()
        return KnownCallers(local.added_to(auth), local, self.anonymous)


def _rank(context: typer.Context, parameter: str) -> int:
    """Return how much an option's source counts: the command line most."""
    source = getattr(context.get_parameter_source(parameter), "name", "")
    order = ("DEFAULT", "DEFAULT_MAP", "ENVIRONMENT", "COMMANDLINE")
    return order.index(source) if source in order else 0


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
