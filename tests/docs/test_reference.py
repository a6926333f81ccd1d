"""The reference that is made from the code says what the code says, and is held to it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.kit.waits import PATIENCE

from headway.cli.exit_codes import CODES
from headway.settings import Settings, setting_names, with_values

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
SETTINGS = re.findall(
    r"^\| `([\w.]+)` \| (?:`([^`]+)`|none)", (REFERENCE / "settings.md").read_text(), re.MULTILINE
)
COMMANDS = (REFERENCE / "command-line.md").read_text()


def make(place: Path, *words: str) -> tuple[int, str]:
    """The exit code of the script that makes the pages, run in a copy of them, and what it says."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "reference_pages.py"), *words],
        cwd=place, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    return done.returncode, done.stderr + done.stdout


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    (tmp_path / "src").symlink_to(ROOT / "src")
    shutil.copytree(REFERENCE, tmp_path / "docs" / "reference")
    return tmp_path


def test_a_table_that_somebody_changes_is_refused_and_is_made_anew(copy: Path) -> None:
    page = copy / "docs" / "reference" / "settings.md"
    true = page.read_text()
    assert make(copy, "--check") == (0, "")
    page.write_text(true.replace("| `max_runs` | `1000` |", "| `max_runs` | `2000` |"))
    code, said = make(copy, "--check")
    assert code == 1
    assert "docs/reference/settings.md is not what the code says" in said
    assert make(copy) == (0, "")
    assert page.read_text() == true


def test_what_stands_around_a_table_is_left_alone(copy: Path) -> None:
    page = copy / "docs" / "reference" / "metrics.md"
    page.write_text("# Numbers\n" + page.read_text())
    assert make(copy, "--check") == (0, "")
    assert page.read_text().startswith("# Numbers\n")


def test_every_setting_has_its_row() -> None:
    assert {name for name, _ in SETTINGS} >= set(setting_names())


@pytest.mark.parametrize(
    ("name", "default"), [one for one in SETTINGS if one[0] in setting_names()]
)
def test_a_default_is_written_as_the_command_line_takes_it(name: str, default: str) -> None:
    assert with_values(Settings(), [f"{name}={default}"]) == Settings()


def test_each_exit_code_that_an_error_has_is_explained() -> None:
    explained = {int(code) for code in re.findall(r"^\| (\d+) \|", COMMANDS, re.MULTILINE)}
    assert explained >= {0, *CODES.values()}


def test_the_page_has_the_commands_that_the_help_lists() -> None:
    commands = list(dict.fromkeys(re.findall(r"^### `headway ([\w-]+)", COMMANDS, re.MULTILINE)))
    done = subprocess.run(
        [sys.executable, "-m", "headway", "--help"],
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    listed = re.findall(r"^[│|] ([\w-]+) ", done.stdout.partition("Commands")[2], re.MULTILINE)
    assert commands == listed
