"""`headway run TARGET`: serve a server that somebody wrote."""

import typer

from headway.cli import options
from headway.cli.environment import take_secrets


def run(
    context: typer.Context,
    target: options.Target,
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
    """Serve an MCP server unchanged: MCPServer, lowlevel Server, FastMCP 4, Headway."""
    from headway.cli import target as targets
    from headway.cli.log_output import setup, unblocked_output
    from headway.cli.server import start

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
    unblocked_output.make_output_unblocked()
    setup.configure_logging(log_level)
    take_secrets()
    loaded = targets.load_target(target)
    setup.check_log_setup()
    return start.start_serving(
        loaded.server,
        journal=journal or options.own_journal(loaded.identity, stdio=stdio),
        listen=start.ListenOptions(host=host, port=port, path=path, grace=grace, workers=workers),
        settings=settings,
        streams=streams,
        loop=loop,
    )
