"""The page of a day lists commands that are there, and a test for each."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import cast
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from tests.kit.program import programs_in
from tests.kit.waits import PATIENCE
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from headway.cli.app import app

ROOT = Path(__file__).parents[2]
ROWS = [
    tuple(cell.strip() for cell in line.strip("|").split("|"))
    for line in (ROOT / "docs" / "day.md").read_text().splitlines()
    if line.startswith("| ") and not line.startswith("| moment ")
]
COMMANDS = sorted({one for row in ROWS for one in re.findall(r"`(headway [^`]+)`", row[1])})


def options_of(words: list[str]) -> list[str]:
    """The options of the command that some words call; the words have to lead to one."""
    command: TyperCommand | TyperGroup = cast("TyperGroup", get_command(app))
    while isinstance(command, TyperGroup) and words and not words[0].startswith("-"):
        command = cast("TyperCommand | TyperGroup", command.commands[words.pop(0)])
    return [name for one in command.params for name in one.opts]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_moment_says_what_is_best_and_names_a_test_where_there_is_a_command(
    row: tuple[str, ...],
) -> None:
    _, here, elsewhere, compared, test = row
    assert elsewhere
    assert re.match(r"\*\*(ahead|behind)\*\*|equal", compared)
    if "`headway " in here:
        assert "::test_" in test
    if "nothing" in here:
        assert "behind" in compared
    for file, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", test):
        assert re.search(rf"^(async )?def {name}\(", (ROOT / file).read_text(), re.MULTILINE)


@pytest.mark.parametrize(
    "row", [row for row in ROWS if "`headway " in row[1]], ids=lambda row: row[0]
)
def test_the_tests_of_a_moment_give_the_command_its_options(row: tuple[str, ...]) -> None:
    files = re.findall(r"`(tests/[\w/]+\.py)::", row[4])
    text = "".join((ROOT / file).read_text() for file in files)
    for shown in re.findall(r"`headway ([^`]+)`", row[1]):
        command, *more = shlex.split(shown)
        wanted = [command, *(word for word in more if word.startswith("--"))]
        assert [word for word in wanted if word not in text] == []


@pytest.mark.parametrize("shown", COMMANDS)
def test_a_command_of_the_page_is_there_with_its_options(shown: str) -> None:
    words = shlex.split(shown)[1:]
    given = {word for word in words if word.startswith("--")}
    assert given <= set(options_of(words))


def test_each_command_that_there_is_has_its_moment() -> None:
    group = cast("TyperGroup", get_command(app))
    assert set(group.commands) == {shlex.split(one)[1] for one in COMMANDS} - {
        "--install-completion"
    }


def test_a_page_of_an_allowed_origin_is_let_in(tmp_path: Path) -> None:
    asked = {
        "Origin": "https://app.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    with programs_in(tmp_path) as programs:
        options = ("--port", "0", "--journal", "memory:", "--allow-origin", asked["Origin"])
        _, url = programs.serve("run", str(ROOT / "examples" / "files.py"), *options)
        with urlopen(Request(url, method="OPTIONS", headers=asked), timeout=PATIENCE) as answer:
            assert answer.headers["Access-Control-Allow-Origin"] == asked["Origin"]
        refused = Request(url, method="OPTIONS", headers=asked | {"Origin": "https://else.example"})
        with pytest.raises(HTTPError) as told:
            urlopen(refused, timeout=PATIENCE)
    told.value.close()
    assert told.value.headers["Access-Control-Allow-Origin"] is None


def test_the_shell_completes_commands() -> None:
    """What `--install-completion` puts into the shell asks for."""
    asked = {
        "_HEADWAY_COMPLETE": "complete_bash",
        "COMP_WORDS": "headway ru",
        "COMP_CWORD": "1",
    }
    program = Path(sys.executable).with_name("headway")
    done = subprocess.run(
        [program], env=os.environ | asked, capture_output=True, text=True, timeout=PATIENCE,
        check=False,
    )  # fmt: skip
    assert done.stdout.split() == ["run", "runs"]
