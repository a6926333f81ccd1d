"""The commands under one name. What a command does is in its own file."""

from typing import Annotated

import typer

from headway.cli.commands import call, list_runs, list_tools, run_target, run_worker, serve_tools

app = typer.Typer(
    help="Run MCP servers so that long tools stream, survive and finish.",
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("serve")(serve_tools.serve)
app.command("run")(run_target.run)
app.command("worker")(run_worker.worker)
app.command("tools")(list_tools.tools)
app.command("call")(call.call)
app.command("runs")(list_runs.runs)
app.command("cancel")(list_runs.cancel)


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
