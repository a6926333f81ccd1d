"""`headway serve`: the ready-made tools."""

from pathlib import Path
from typing import Annotated

import typer

from headway.cli import options
from headway.cli.environment import take_secrets

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


def serve(
    context: typer.Context,
    root: Roots = None,
    config: ConfigFile = None,
    data: Data = None,
    stdio: options.Stdio = False,
    host: options.Host = "127.0.0.1",
    port: options.Port = 8000,
    path: options.Endpoint = "/mcp",
    journal: options.JournalUrl = None,
    progress_rate: options.ProgressRate = 4.0,
    allow_host: options.AllowHosts = None,
    allow_origin: options.AllowOrigins = None,
    timeout: options.Timeout = "24h",  # pyright: ignore[reportArgumentType]
    hand_over: options.HandOver = None,
    clients: options.Clients = None,
    workers: options.Workers = 1,
    stateless: options.Stateless = False,
    grace: options.Grace = "30s",  # pyright: ignore[reportArgumentType]
    loop: options.Loop = "auto",
    set_: options.Values = None,
    log_level: options.LogLevel = "info",
) -> int:
    """Serve the ready-made tools: long-running work on the files below the roots."""
    from headway.cli import logs, output, start
    from headway.tools import build
    from headway.tools.config import Config, load

    streams = options.streams(context, stdio=stdio)
    settings = options.settings(
        progress_rate=progress_rate,
        allow_hosts=allow_host,
        allow_origins=allow_origin,
        timeout=timeout,
        hand_over=hand_over,
        clients=clients,
        values=set_,
        stateless=stateless,
    )
    output.never_wait()
    logs.configure(log_level)
    take_secrets()
    chosen = Config() if config is None else load(config)
    roots = [path.resolve() for path in root or chosen.roots or [Path()]]
    identity = "\n".join(["serve", *sorted(map(str, roots))])
    own = chosen.data or options.own_directory(identity) / "data"
    return start.start(
        build(roots, data or own, config=chosen),
        journal=journal or chosen.journal or options.own_journal(identity, stdio=stdio),
        listen=start.Listen(host=host, port=port, path=path, grace=grace, workers=workers),
        settings=settings,
        streams=streams,
        loop=loop,
    )
