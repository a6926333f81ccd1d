"""`headway run TARGET`: serve a server that somebody wrote."""

import typer

from headway.cli.environment import take_secrets
from headway.cli.options import ServeOptions, Target, own_journal, with_serve_options


@with_serve_options
def run(context: typer.Context, target: Target, *, shared: ServeOptions) -> int:
    """Serve an MCP server unchanged: MCPServer, lowlevel Server, FastMCP 4, Headway."""
    from headway.cli import target as targets
    from headway.cli.log_output import setup, unblocked_output
    from headway.cli.server import start

    streams = shared.take_streams(context)
    settings = shared.make_settings()
    unblocked_output.make_output_unblocked()
    setup.configure_logging(shared.log_level)
    take_secrets()
    loaded = targets.load_target(target)
    setup.check_log_setup()
    return start.start_serving(
        loaded.server,
        journal=shared.journal or own_journal(loaded.identity, stdio=shared.stdio),
        listen=shared.listen_options(),
        settings=settings,
        streams=streams,
        loop=shared.loop,
    )
