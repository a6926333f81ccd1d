"""README does what it shows, and says what a word means before it uses it."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.docs.shown import BLOCK, commands, pattern_of, run
from tests.kit.program import Programs, programs_in

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "README.md").read_text()
ADDRESS = "http://127.0.0.1:8000/mcp"


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    with programs_in(tmp_path) as programs:
        yield programs


def blocks(heading: str) -> list[tuple[str, str]]:
    """The blocks below a heading, each with its kind."""
    return BLOCK.findall(PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0])


def test_the_first_blocks_start_a_server_and_show_progress(
    programs: Programs, tmp_path: Path
) -> None:
    (_, start), (_, shown_call), *_ = blocks("Try it")
    install, (serve, said) = commands(start)
    assert install[0] == "pip install '.[tools]'"
    assert serve == "headway serve --root ."
    _, url = programs.serve(*serve.split()[1:], "--port", "0")
    assert said.startswith(f"headway: serving headway-tools at {ADDRESS} ")
    ((call, expected),) = commands(shown_call)
    code, shown = run(call.replace(ADDRESS, url), tmp_path)
    assert code == 0
    assert re.fullmatch(pattern_of(expected), shown, re.DOTALL)


def test_its_tool_is_written_and_called_as_it_stands(tmp_path: Path) -> None:
    (_, source), (_, shown_call), *_ = blocks("Write a long tool")
    (tmp_path / "server.py").write_text(source)
    for name, lines in (("a.txt", 12), ("b.txt", 40), ("c.txt", 7)):
        (tmp_path / name).write_text("line\n" * lines)
    ((command, expected),) = commands(shown_call)
    code, shown = run(command.replace("/srv/texts", str(tmp_path)), tmp_path)
    assert code == 0
    assert re.fullmatch(pattern_of(expected), shown)


def test_mcp_is_spelled_out_before_it_is_used() -> None:
    text = re.sub(r"`[^`]*`", "", PAGE)
    assert text.index("MCP, the Model Context Protocol") == text.index("MCP")


@pytest.mark.parametrize("word", ["journal", "task", "revision", "era", "run_id", "handle"])
def test_a_word_of_the_house_is_not_used_before_serving_is_explained(word: str) -> None:
    beginning = PAGE.partition("## Serve what you have")[0]
    prose = re.sub(r"\]\([^)]*\)", "]", BLOCK.sub("", beginning))
    assert not re.search(rf"\b{word}s?\b", prose.replace("a task of some", ""))
