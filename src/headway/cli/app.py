"""The commands under one name. What a command does is in its own file."""

from typing import Annotated

import typer

from headway.cli.commands import (
    access_token,
    attach,
    call,
    cancel_run,
    check_config,
    generate_cli,
    install_client,
    keep_journal,
    list_runs,
    list_servers,
    list_tools,
    open_dashboard,
    read_resource,
    retry_run,
    run_target,
    run_worker,
    serve_tools,
    show_run,
    watch_run,
)

app = typer.Typer(
    help="Run MCP servers so that long tools stream, survive and finish.",
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("serve")(serve_tools.serve)
app.command("run")(run_target.run)
app.command("dev")(run_target.dev)
app.command("worker")(run_worker.worker)
app.command("tools")(list_tools.tools)
app.command("call")(call.call)
app.command("read")(read_resource.read)
app.command("prompt")(read_resource.prompt)
app.command("attach")(attach.attach)
app.command("runs")(list_runs.runs)
app.command("show")(show_run.show)
app.command("watch")(watch_run.watch)
app.command("result")(watch_run.result)
app.command("logs")(watch_run.logs)
app.command("check")(check_config.check)
app.command("init")(check_config.init)
app.command("dashboard")(open_dashboard.dashboard)
app.command("cancel")(cancel_run.cancel)
app.command("retry")(retry_run.retry)
app.add_typer(keep_journal.app, name="journal")
app.command("install")(install_client.install)
app.command("discover")(list_servers.discover)
app.command("generate-cli")(generate_cli.generate_cli)
app.command("token")(access_token.token)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"headway {version('headway')}")
        raise typer.Exit


@app.callback()
def options(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Run MCP servers so that long tools stream, survive and finish."""
