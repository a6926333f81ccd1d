"""Pages that show how are true: their files are written, their commands run and compared."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from tests.kit.waits import PATIENCE

DOCS = Path(__file__).parents[2] / "docs"

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ANYTHING = "…"


def pattern_of(expected: str) -> str:
    """A pattern for an output in which `…` stands for anything, on a line of its own for lines."""
    literal = re.escape(expected.strip())
    lines = literal.replace(f"\\\n{ANYTHING}\\\n", "\n(?:.*\n)?")
    return lines.replace(ANYTHING, ".*?")


def commands(text: str) -> list[tuple[str, str]]:
    """The commands of a console block, each with what it shows."""
    shown = re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]
    return [(first, rest) for first, _, rest in (entry.partition("\n") for entry in shown)]


def run(command: str, place: Path) -> str:
    """What a command shows, errors first: results come last on a terminal too."""
    words = shlex.split(command)
    programs = {"headway": [sys.executable, "-m", "headway.cli"], "python": [sys.executable]}
    done = subprocess.run(
        [*programs[words[0]], *words[1:]],
        cwd=place, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    return (done.stderr + done.stdout).strip()


@pytest.mark.parametrize(("page", "least"), [("tutorial.md", 6), ("testing.md", 1)])
def test_a_page_does_what_it_shows(page: str, least: int, tmp_path: Path) -> None:
    seen = 0
    for kind, text in BLOCK.findall((DOCS / page).read_text()):
        if kind == "python":
            name = re.match(r"# (\w+\.py)\n", text)
            assert name, f"a file without a name: {text[:40]}"
            (tmp_path / name[1]).write_text(text)
        elif kind == "console":
            for command, expected in commands(text):
                shown = run(command, tmp_path)
                assert re.fullmatch(pattern_of(expected), shown, re.DOTALL), (command, shown)
                seen += 1
    assert seen >= least
    compiled = [compile(path.read_text(), path.name, "exec") for path in tmp_path.glob("*.py")]
    assert compiled
