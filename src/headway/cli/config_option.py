"""The option `--config`: the file from which all other options take what nothing else says."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_type_hints

import typer

from headway.cli.exit_codes import report_line

if TYPE_CHECKING:
    from typer.core import TyperGroup

    from headway.cli.config_file import ConfigFile, OptionTypes


def _take_config(context: typer.Context, file: Path | None) -> Path | None:
    """Have the options take from the configuration what nothing else says."""
    if context.resilient_parsing:  # the shell completes a word
        return file
    from headway.cli.config_file import read_config
    from headway.cli.server.prefork import is_worker
    from headway.cli.server.reload import noting_failure

    with noting_failure():
        config = read_config(file, option_types(context), tools=context.info_name == "serve")
    context.default_map = dict(config.options)
    context.obj = config
    if file is None and config.toml is not None and not is_worker():
        report_line(f"settings are from {config.toml.file.absolute()}")
    return file


ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        envvar="HEADWAY_CONFIG",
        metavar="FILE",
        is_eager=True,
        callback=_take_config,
        help="What else would be options, settings and tables for the tools of serve; options win "
        "over it. Default: headway.toml in the current directory, if there is one.",
    ),
]


def config_of(context: typer.Context) -> "ConfigFile":
    """Return the configuration that a command's `--config` has read."""
    from headway.cli.config_file import ConfigFile

    return context.obj if isinstance(context.obj, ConfigFile) else ConfigFile()


def option_types(context: typer.Context) -> "OptionTypes":
    """Return the types of the options that the configuration may have."""
    from headway.cli.commands.run_worker import worker
    from headway.cli.config_file import NOT_IN_FILE, OptionTypes
    from headway.cli.serve_options import ServeOptions

    commands = cast("TyperGroup", context.find_root().command).commands
    parameters = {each.name: each for name in ("worker", "run") for each in commands[name].params}

    def check(name: str, value: object) -> None:
        try:
            parameters[name].process_value(context, value)
        except typer.BadParameter as error:
            raise ValueError(error.message) from error

    shared, own = get_type_hints(ServeOptions), get_type_hints(worker)
    return OptionTypes(
        {name: hint for name, hint in shared.items() if name not in NOT_IN_FILE},
        {name: own[name] for name in ("queue", "concurrency", "health_port")},
        check,
    )
