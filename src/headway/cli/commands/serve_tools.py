"""`headway serve`: the ready-made tools."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headway.cli.config_option import config_of
from headway.cli.environment import take_secrets
from headway.cli.exit_codes import report_line
from headway.cli.journal_access.server_journal import own_directory, own_journal
from headway.cli.serve_options import ServeOptions, with_serve_options
from headway.errors import SetupError
from headway.log_lines import every_handler
from headway.settings import Settings

if TYPE_CHECKING:
    from headway.audit import AuditConfig
    from headway.cli.server.start import ListenOptions
    from headway.tools.config import Config

logger = logging.getLogger(__name__)

PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "https_proxy", "http_proxy", "all_proxy")
"""Variables that other programs take a proxy from."""

Roots = Annotated[
    list[Path] | None,
    typer.Option(
        "--root",
        envvar="HEADWAY_ROOT",
        metavar="DIR",
        help="A directory the tools may read. May be repeated. Default: the current one.",
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(
        envvar="HEADWAY_DATA",
        metavar="DIR",
        help="Where the tools keep what they make, such as an index. "
        "Default: a directory of this server's own in the user's data directory.",
    ),
]


@with_serve_options
def serve(
    context: typer.Context,
    root: Roots = None,
    data: Data = None,
    *,
    shared: ServeOptions,
) -> int:
    """Serve the ready-made tools: long-running work on the files below the roots."""
    from headway.cli.log_output import setup, unblocked_output
    from headway.cli.server import start
    from headway.cli.server.prefork import is_worker
    from headway.tools import build, files_of
    from headway.tools.config import Config, load

    streams = shared.take_streams(context)
    settings = shared.make_settings(context)
    unblocked_output.make_output_unblocked()
    setup.configure_logging(shared.log_level, shared.log_options())
    take_secrets()
    toml = config_of(context).toml
    chosen = Config() if toml is None else load(toml.file)
    chosen.secrets.hide_in_logs(every_handler())
    given = [path.expanduser() for path in root or chosen.roots or ()]
    roots = [path.resolve() for path in given or [_current_directory()]]
    identity = "\n".join(["serve", *sorted(map(str, roots))])
    own = chosen.data or own_directory(identity) / "data"
    url = shared.journal or chosen.journal or own_journal(identity, stdio=shared.stdio)
    audit = shared.audit_config(context)
    server = build(
        roots,
        own if data is None else data.expanduser(),
        config=chosen,
        own=[*files_of(url), *_own_files(shared, audit, settings)],
    )
    if chosen.journal is not None:
        logger.warning(
            "%s: write journal in [server]; at the top it will not be read after this release",
            chosen.file,
        )
    listen = shared.listen_options(context)
    if streams is None and not is_worker():
        _warn_of_default_root(given, roots, _whom(listen))
        _warn_of_unused_proxy(chosen)
    return start.start_serving(
        server,
        journal=url,
        listen=listen,
        settings=settings,
        audit=audit,
        streams=streams,
        loop=shared.loop,
    )


def _own_files(shared: ServeOptions, audit: "AuditConfig | None", settings: Settings) -> list[Path]:
    """Return the files of this server besides its configuration and journal: no tool reads them."""
    named = [shared.clients, shared.auth, shared.ssl_keyfile]
    if audit is not None:
        named.append(Path(audit.to))
    if settings.encryption is not None:
        named.append(settings.encryption.file)
    return [file.absolute() for file in named if file is not None]


def _current_directory() -> Path:
    """Return the current directory, which is the root where nobody named one.

    Raises:
        SetupError: The current directory is the root of the whole file system.
    """
    here = Path.cwd()
    if here == Path(here.anchor):
        raise SetupError(
            f"the current directory is {here}, all there is; name what to read: --root DIR"
        )
    return here


def _whom(listen: "ListenOptions") -> str:
    """Return who may call the tools."""
    if listen.callers.auth is not None:
        return "everybody with a good token"
    is_local = listen.host in ("127.0.0.1", "::1", "localhost")
    return ("any program on this machine" if is_local else "anybody") + " that can connect"


def _warn_of_default_root(given: Sequence[Path], roots: Sequence[Path], whom: str) -> None:
    """Report that everything in the current directory can be read, unless somebody chose roots."""
    if not given:
        report_line(
            f"no --root is given, so that the tools read all that is below {roots[0]}, the current "
            f"directory, for {whom}; choose what is read with --root DIR"
        )


def _warn_of_unused_proxy(config: "Config") -> None:
    """Warn that the tools do not use the proxy that the environment names for other programs."""
    asks = config.allows_hosts or bool(config.endpoints)
    there = next((name for name in PROXIES if os.environ.get(name)), None)
    if asks and there and config.egress.proxy is None:
        logger.warning(
            "%s is set, and the tools ask without it: each address is checked before it is "
            "connected to. "
            'Where a proxy is the only way out, write proxy = "http://host:port" in headway.toml',
            there,
        )
