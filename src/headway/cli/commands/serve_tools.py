"""`headway serve`: the ready-made tools."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headway.cli.environment import take_secrets
from headway.cli.exit_codes import report_line
from headway.cli.options import ServeOptions, own_directory, own_journal, with_serve_options
from headway.errors import SetupError

if TYPE_CHECKING:
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
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        envvar="HEADWAY_CONFIG",
        metavar="FILE",
        help="headway.toml: roots, sources of search, hosts of process_batch. Options win over it.",
    ),
]


@with_serve_options
def serve(
    context: typer.Context,
    root: Roots = None,
    config: ConfigFile = None,
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
    settings = shared.make_settings()
    unblocked_output.make_output_unblocked()
    setup.configure_logging(shared.log_level)
    take_secrets()
    chosen = Config() if config is None else load(config)
    chosen.secrets.hide_in_logs(logging.getLogger().handlers)
    given = [path.expanduser() for path in root or chosen.roots or ()]
    roots = [path.resolve() for path in given or [_current_directory()]]
    identity = "\n".join(["serve", *sorted(map(str, roots))])
    own = chosen.data or own_directory(identity) / "data"
    url = shared.journal or chosen.journal or own_journal(identity, stdio=shared.stdio)
    server = build(
        roots,
        own if data is None else data.expanduser(),
        config=chosen,
        own=[*files_of(url), *filter(None, [shared.clients])],
    )
    if streams is None and not is_worker():
        _warn_of_default_root(given, roots, shared.host)
        _warn_of_unused_proxy(chosen)
    return start.start_serving(
        server,
        journal=url,
        listen=shared.listen_options(),
        settings=settings,
        streams=streams,
        loop=shared.loop,
    )


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


def _warn_of_default_root(given: Sequence[Path], roots: Sequence[Path], host: str) -> None:
    """Report that everything in the current directory can be read, unless somebody chose roots."""
    if not given:
        who = (
            "any program on this machine"
            if host in ("127.0.0.1", "::1", "localhost")
            else "anybody"
        )
        report_line(
            f"no --root is given, so that the tools read all that is below {roots[0]}, the current "
            f"directory, for {who} that can connect; choose what is read with --root DIR"
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
