"""`headway run TARGET`: serve a server that somebody wrote."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from headway.cli.config_option import config_of
from headway.cli.environment import take_secrets
from headway.cli.exit_codes import Refused
from headway.cli.journal_access.server_journal import own_journal
from headway.cli.options import Target
from headway.cli.serve_options import ServeOptions, with_serve_options

Reload = Annotated[
    bool,
    typer.Option(
        "--reload",
        envvar="HEADWAY_RELOAD",
        help="Load the newest code when a file changes. Sessions live on, and calls that run end "
        "with the code that they began with.",
    ),
]
ReloadDirs = Annotated[
    list[Path] | None,
    typer.Option(
        "--reload-dir",
        envvar="HEADWAY_RELOAD_DIR",
        metavar="DIR",
        exists=True,
        help="Watch this directory. May be repeated. Default: the one of the target.",
    ),
]


NoInspector = Annotated[
    bool,
    typer.Option(
        "--no-inspector",
        envvar="HEADWAY_NO_INSPECTOR",
        help="Serve and reload, and start no Inspector.",
    ),
]


@with_serve_options
def run(
    context: typer.Context,
    target: Target,
    reload: Reload = False,
    reload_dir: ReloadDirs = None,
    *,
    shared: ServeOptions,
) -> int:
    """Serve an MCP server unchanged: MCPServer, lowlevel Server, FastMCP 4, Headway."""
    return _serve_target(context, target, shared, reload_dir, reload=reload or bool(reload_dir))


@with_serve_options
def dev(
    context: typer.Context,
    target: Target,
    reload_dir: ReloadDirs = None,
    no_inspector: NoInspector = False,
    *,
    shared: ServeOptions,
) -> int:
    """Serve a server that you write: run --reload, with the MCP Inspector connected to it."""
    from headway.cli.server.inspector import inspector
    from headway.cli.server.prefork import is_worker

    if shared.stdio:
        raise Refused("dev serves over HTTP; leave --stdio out")
    if no_inspector or is_worker():
        return _serve_target(context, target, shared, reload_dir, reload=True)
    with inspector() as start_inspector:
        return _serve_target(
            context, target, shared, reload_dir, reload=True, on_reloading=start_inspector
        )


def _serve_target(
    context: typer.Context,
    target: str,
    shared: ServeOptions,
    reload_dir: list[Path] | None,
    *,
    reload: bool,
    on_reloading: Callable[[str], None] | None = None,
) -> int:
    from headway.cli import target as targets
    from headway.cli.log_output import setup, unblocked_output
    from headway.cli.server import start
    from headway.cli.server.reload import note_for_worker, noting_failure

    streams = shared.take_streams(context)
    settings = shared.make_settings(context)
    unblocked_output.make_output_unblocked()
    setup.configure_logging(shared.log_level, shared.log_options())
    take_secrets()
    with noting_failure():
        loaded = targets.load_target(target)
        setup.check_log_setup()
        watches = reload and streams is None
        if watches and targets.is_url(target) and not reload_dir:
            raise Refused(f"{target} has no files here to watch; leave --reload out")
        watched = reload_dir or [targets.directory_of(loaded)] if watches else []
        toml = config_of(context).toml
        if watched and toml is not None:
            watched = [*watched, toml.file]
        return start.start_serving(
            loaded.server,
            journal=shared.journal or own_journal(loaded.identity, stdio=shared.stdio),
            listen=shared.listen_options(context, watched, on_reloading),
            settings=settings,
            audit=shared.audit_config(context),
            streams=streams,
            loop=shared.loop,
            note=note_for_worker(),
        )
