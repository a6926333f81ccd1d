"""Every error of Headway has an exit code and a sentence."""

import inspect
from pathlib import Path

import pytest
from tests.cli.conftest import Command

from headway import errors
from headway.cli import exit_codes
from headway.errors import HeadwayError, JournalUnavailable, SetupError

ALL = [
    value
    for module in (errors, exit_codes)
    for value in vars(module).values()
    if inspect.isclass(value) and issubclass(value, HeadwayError) and value is not HeadwayError
]


@pytest.mark.parametrize("kind", ALL)
def test_every_error_has_a_row_of_its_own_or_of_its_kind(kind: type[HeadwayError]):
    rows = [base for base in kind.__mro__ if base in exit_codes.CODES]
    assert rows[0] is not HeadwayError


def test_an_error_becomes_its_code_and_one_sentence(capsys: pytest.CaptureFixture[str]):
    def command() -> None:
        raise SetupError("port 1 is in use")

    assert exit_codes.run_command(command) == 3
    assert capsys.readouterr().err == "headway: port 1 is in use\n"


def test_subclasses_use_the_code_of_their_kind():
    assert exit_codes.code_of(JournalUnavailable("locked")) == 3


def test_ctrl_c_outside_a_command_is_130(capsys: pytest.CaptureFixture[str]):
    def command() -> None:
        raise KeyboardInterrupt

    assert exit_codes.run_command(command) == 130
    assert capsys.readouterr().err == "headway: cancelled\n"


def test_what_is_no_error_of_ours_is_a_bug_and_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        exit_codes.run_command(lambda: 1 / 0)


def test_a_group_of_one_is_what_is_in_it():
    error = SetupError("inside")
    group = BaseExceptionGroup("outer", [BaseExceptionGroup("inner", [error])])
    assert exit_codes.root_of(group) is error


def test_a_group_of_several_stays_a_group():
    group = ExceptionGroup("both", [ValueError(), TypeError()])
    assert exit_codes.root_of(group) is group


@pytest.mark.parametrize(("given", "says"), [("option", "'--port'"), ("variable", "HEADWAY_PORT")])
def test_a_usage_error_names_what_was_given(
    command: Command, monkeypatch: pytest.MonkeyPatch, given: str, says: str
):
    if given == "variable":
        monkeypatch.setenv("HEADWAY_PORT", "80000")
    finished = command("run", "x.py", *(["--port", "80000"] if given == "option" else []))
    assert (finished.code, finished.out) == (2, "")
    assert finished.err.startswith(f"headway: Invalid value for {says}: ")


def test_a_setting_that_is_no_duration_says_how_its_default_is_written(
    command: Command, tmp_path: Path
):
    (tmp_path / "server.py").write_text("from headway import Headway\nmcp = Headway('x')\n")
    finished = command("run", "server.py", "--set", "keep.ttl=2parsecs")
    assert "keep.ttl: '2parsecs' is no value for it" in finished.err
    assert "Its default is 1h" in finished.err


def test_a_syntax_error_shows_the_authors_line_and_none_of_ours(command: Command, tmp_path: Path):
    (tmp_path / "broken.py").write_text("def tool(:\n    pass\n")
    finished = command("call", "broken.py", "tool")
    assert finished.code == 3
    assert "def tool(:" in finished.err
    assert finished.err.count("File ") == 1
    assert "importlib" not in finished.err
