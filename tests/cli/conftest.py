"""Programs, and one running server that tests may share because they change nothing of it."""

import logging
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
import typer.main
from tests.kit.program import Finished, Programs, programs_in

from headway.cli import exit_codes
from headway.cli.app import app
from headway.cli.log_output.setup import QUIET_LOGGERS

EXAMPLE = Path(__file__).parent / "example.py"

Command = Callable[..., Finished]


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    with programs_in(tmp_path) as programs:
        yield programs


@cache
def whole_command() -> Callable[..., int | None]:
    """All commands, read out of their functions once."""
    return typer.main.get_command(app)


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Command]:
    """Runs a command in this process, in a directory of its own: for what needs no signals."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "path", list(sys.path))
    root = logging.getLogger()
    loggers = [root, *map(logging.getLogger, QUIET_LOGGERS)]
    handlers, levels = list(root.handlers), [logger.level for logger in loggers]

    def run(*arguments: str) -> Finished:
        code = exit_codes.run_command(
            lambda: whole_command()(list(arguments), prog_name="headway", standalone_mode=False)
        )
        shown = capsys.readouterr()
        return Finished(code, shown.out, shown.err)

    yield run
    root.handlers[:] = handlers
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


@pytest.fixture(scope="session")
def served_example(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where `example.py` is served."""
    with programs_in(tmp_path_factory.mktemp("shared")) as programs:
        _, url = programs.serve("run", f"{EXAMPLE}:mcp", "--port", "0", "--journal", "memory:")
        yield url
