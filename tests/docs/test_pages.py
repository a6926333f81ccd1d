"""Pages that show how are true: their files are written, their commands run and compared."""

import re
from pathlib import Path

import pytest
from tests.docs.shown import BLOCK, commands, pattern_of, run

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(("page", "least"), [("tutorial.md", 6), ("testing.md", 1), ("call.md", 1)])
def test_a_page_does_what_it_shows(page: str, least: int, tmp_path: Path) -> None:
    seen = 0
    for kind, text in BLOCK.findall((DOCS / page).read_text()):
        if kind == "python":
            name = re.match(r"# (\w+\.py)\n", text)
            assert name, f"a file without a name: {text[:40]}"
            (tmp_path / name[1]).write_text(text)
        elif kind == "console":
            for command, expected in commands(text):
                code, shown = run(command, tmp_path)
                is_failure = "headway: Error executing tool" in expected
                assert (code != 0) == is_failure, (command, shown)
                assert re.fullmatch(pattern_of(expected), shown, re.DOTALL), (command, shown)
                seen += 1
    assert seen >= least
    compiled = [compile(path.read_text(), path.name, "exec") for path in tmp_path.glob("*.py")]
    assert compiled
