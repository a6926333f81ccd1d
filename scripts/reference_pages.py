"""The tables of `docs/reference/`: made from settings, commands and metrics, or checked.

    python scripts/reference_pages.py            write them anew
    python scripts/reference_pages.py --check    fail where one is not what the code says

What stands around a table is written by hand, and stays.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields
from itertools import chain
from math import inf
from pathlib import Path
from typing import Any, Final, cast, get_args

from api_reference import SOURCE, Sources, documented_fields
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption
from typer.main import get_command

from headway.cli import exit_codes
from headway.cli.app import app
from headway.cli.serve_options import ServeOptions
from headway.observability.metrics import COUNTERS, GAUGES, HISTOGRAMS
from headway.settings import Retention, Settings, setting_names

PAGES: Final = Path("docs/reference")

BEGIN: Final = "<!-- made by scripts/reference_pages.py: {} -->"
END: Final = "<!-- end of what is made -->"

OPTIONS_OF: Final = {
    "encryption": "encryption_keys",
    "allowed_hosts": "allow_host",
    "allowed_origins": "allow_origin",
    "profiles": "clients",
}
"""Settings whose option has another name."""

RATES: Final = ("progress_rate", "log_rate")
"""Settings that are a number of something a second; all other fractions are times."""

UNITS: Final = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
SIZES: Final = (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024))


def cell(text: str) -> str:
    """Return a text as the cell of a table has to have it."""
    return " ".join(text.split()).replace("|", "\\|")


def row(*cells: str) -> str:
    """Return the row of a table."""
    return f"| {' | '.join(cells)} |"


# Settings


def settings_table() -> Iterator[str]:
    """Yield the rows of all settings, those of the journal last."""
    yield from ("| setting | default | what it does, and why it is so |", "|---|---|---|")
    yield from _settings_of(Settings, "")
    yield from _settings_of(Retention, "keep.")


def _settings_of(owner: type[Settings | Retention], prefix: str) -> Iterator[str]:
    node = Sources().find(SOURCE / "settings.py", owner.__name__)
    texts = {name: said for name, _, said in documented_fields(cast("Any", node))}
    for field in fields(owner):
        if field.name == "retention":
            continue  # its own fields follow
        name = prefix + field.name
        default = written(field.name, cast("object", field.default))
        said = texts[field.name]
        yield row(f"`{name}`", default, cell(said + _other_way(name, said)))


def _other_way(name: str, said: str) -> str:
    """Return how a setting is set where that is not `--set` alone, and nobody has said it."""
    options = {one.name: one.name for one in fields(ServeOptions)} | OPTIONS_OF
    if name in options:
        option = f"`--{options[name].replace('_', '-')}`"
        return "" if option in said else f" Option: {option}."
    return "" if name in (*setting_names(), "calls_of_tools") else " In code only."


def written(name: str, default: object) -> str:
    """Return a default as `--set` takes it, and as people say it where that is something else."""
    assert default is not MISSING
    if default in (None, (), ""):
        return "none"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, float) and default not in (0, inf) and name not in RATES:
        unit, size = next((each for each in UNITS if default % each[1] == 0), ("s", 1))
        return f"`{default / size:g}{unit}`"
    if isinstance(default, float):
        return f"`{default:g}`"
    for unit, size in SIZES:
        if isinstance(default, int) and default and default % size == 0:
            return f"`{default}` ({default // size} {unit})"
    return f"`{default}`"


# The command line


def commands() -> Iterator[str]:
    """Yield a section for each command: what it does, its arguments and its options."""
    yield from _commands(cast("TyperGroup", get_command(app)), "headway")


def _commands(group: TyperGroup, words: str) -> Iterator[str]:
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from _commands(command, f"{words} {name}")
        else:
            yield from _command(f"{words} {name}", cast("TyperCommand", command))


def _command(words: str, command: TyperCommand) -> Iterator[str]:
    arguments = [one for one in command.params if isinstance(one, TyperArgument)]
    options = [one for one in command.params if isinstance(one, TyperOption)]
    usage = " ".join([words, *(_metavar(one) for one in arguments)])
    yield from (f"### `{usage}`", "", *(command.help or "").splitlines(), "")
    if arguments:
        yield from ("| argument | |", "|---|---|")
        yield from (row(f"`{_metavar(one)}`", cell(one.help or "")) for one in arguments)
        yield ""
    if options:
        yield from ("| option | variable | default | |", "|---|---|---|---|")
        yield from map(_option, options)
        yield ""


def _option(option: TyperOption) -> str:
    names = ", ".join(option.opts)
    value = "" if option.default is False else f" {_metavar(option)}"
    variable = f"`{option.envvar}`" if option.envvar else ""
    help_text = option.help or ""
    is_told = option.default in (None, False, (), "") or "Default:" in help_text
    default = "" if is_told else f"`{option.default}`".replace(".0`", "`")
    return row(f"`{cell(names + value)}`", variable, default, cell(help_text))


def _metavar(parameter: TyperOption | TyperArgument) -> str:
    """Return what stands for a value: its declared name, its choices or its kind."""
    if parameter.metavar:
        return parameter.metavar
    kind = parameter.type_descriptor.annotation
    choices = [str(each) for each in get_args(kind)]
    return "|".join(choices) or {int: "NUMBER", float: "NUMBER"}.get(kind, parameter.name.upper())


def exit_code_table() -> Iterator[str]:
    """Yield the table that stands above the code of the exit codes."""
    yield from (line for line in (exit_codes.__doc__ or "").splitlines() if line.startswith("|"))


# Metrics


def metrics_table() -> Iterator[str]:
    """Yield the rows of all metrics."""
    yield from ("| name | type | labels | what it says |", "|---|---|---|---|")
    kinds = (
        *(("gauge", one.name, one) for one in GAUGES),
        *(("counter", f"{one.name}_total", one) for one in COUNTERS),
        *(("histogram", one.name, one) for one in HISTOGRAMS),
    )
    for kind, name, family in kinds:
        labels = ", ".join(f"`{label}`" for label in family.labels)
        yield row(f"`{name}`", kind, labels, cell(family.says.rstrip(".")))


MADE: Final[dict[str, tuple[str, Callable[[], Iterator[str]]]]] = {
    "settings": ("settings.md", settings_table),
    "commands": ("command-line.md", commands),
    "exit codes": ("command-line.md", exit_code_table),
    "metrics": ("metrics.md", metrics_table),
}
"""What is made, in which page, and by what."""


def filled(page: str, name: str, lines: Iterator[str]) -> str:
    """Return a page with what is made between its marks."""
    begin = BEGIN.format(name)
    before, mark, after = page.partition(begin)
    _, end, rest = after.partition(END)
    if not mark or not end:
        raise SystemExit(f"a page has no {begin} … {END}")
    return "\n".join(chain((before + begin, ""), lines, ("", END))).replace("\n\n\n", "\n\n") + rest


def main() -> int:
    """Write the pages, or with `--check` return 1 where one is not up to date."""
    pages = {name: (PAGES / name).read_text() for name, _ in MADE.values()}
    made = dict(pages)
    for name, (page, make) in MADE.items():
        made[page] = filled(made[page], name, make())
    old = [name for name in pages if made[name] != pages[name]]
    if "--check" not in sys.argv[1:]:
        for name in old:
            (PAGES / name).write_text(made[name])
        return 0
    for name in old:
        print(f"{PAGES / name} is not what the code says: python scripts/reference_pages.py")
    return bool(old)


if __name__ == "__main__":
    sys.exit(main())
