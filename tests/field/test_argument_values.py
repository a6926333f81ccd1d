"""Arguments whose values mean something elsewhere: told what they are here."""

from pathlib import Path
from typing import Any

import pytest

from headway import Headway
from headway.testing import Outcome, run_tool
from headway.tools import build

pytestmark = pytest.mark.anyio


@pytest.fixture
def server(tmp_path: Path) -> Headway:
    root = tmp_path / "root"
    for name in ("docs/a.py", "docs/b.js", "top.py", "[x].txt", "a{b}.txt", "a b.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x\n")
    return build([root], tmp_path / "data")


async def process(server: Headway, **arguments: Any) -> Outcome:
    return await run_tool(
        server, "process_files", {"directory": ".", **arguments}, raise_on_error=False
    )


@pytest.mark.parametrize(
    ("directory", "says"),
    [
        ("~", "'~' is nobody's home directory"), ("~/docs", "'~' is nobody's home directory"),
        ("$HOME", "variables are not replaced"), ("${HOME}/docs", "variables are not replaced"),
        ("%USERPROFILE%\\docs", "variables are not replaced"), ("file:///srv", "no URL"),
        ("file:docs", "no URL"), ("C:\\docs", "separated by '/'"),
        ("docs\\sub", "separated by '/'"),
        ("docs/*", "wildcards go into the pattern"), ("my%20docs", "nothing is decoded"),
        (" docs", "spaces and quotes count"), ("'docs'", "spaces and quotes count"),
    ],
)  # fmt: skip
async def test_a_directory_that_is_meant_otherwise_is_told_so(
    server: Headway, directory: str, says: str
) -> None:
    outcome = await process(server, directory=directory)
    assert outcome.is_error
    assert says in (outcome.error or "")
    assert "relative to it" in (outcome.error or "")


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("*.{py,js}", "'{a,b}', which means nothing in a glob"), ("{docs,src}/**", "'{a,b}'"),
        (r".*\.py", "backslash"), (r"docs\*.py", "backslash"), ("^.*py$", "regular expression"),
        ("(a|b).py", "regular expression"), (".+", "regular expression"),
        ("*.py,*.js", "is a list"), ("*.py *.js", "is a list"), ("*.py; *.js", "is a list"),
        ("*.py|*.js", "is a list"), ("!*.md", "begins with '!'"), ("~/docs/*", "'~' or a variable"),
        ("$HOME/*", "'~' or a variable"), ("file:///srv/*", "is a URL"), ("C:/docs/*", "a drive"),
        (" *.py", "spaces or quotes"), ("'*.py'", "spaces or quotes"),
    ],
)  # fmt: skip
async def test_a_pattern_that_is_no_glob_is_refused_and_finds_not_nothing(
    server: Headway, pattern: str, says: str
) -> None:
    outcome = await process(server, pattern=pattern)
    assert outcome.is_error, outcome.result
    assert says in (outcome.error or "")
    assert "such as '*.txt'" in (outcome.error or "")


@pytest.mark.parametrize(
    ("pattern", "files"),
    [
        ("[[]x[]].txt", 1), ("a{b}.txt", 1), ("a b.txt", 1), ("[^t]*.txt", 3), ("[!t]*.txt", 3),
        ("**/*.[pj][ys]", 3), ("docs/*", 2),
    ],
)  # fmt: skip
async def test_names_with_such_characters_can_be_named(
    server: Headway, pattern: str, files: int
) -> None:
    outcome = await process(server, pattern=pattern)
    assert outcome.result["files"] == files, outcome.error


async def test_a_directory_of_such_a_name_is_found(server: Headway, tmp_path: Path) -> None:
    (tmp_path / "root" / "~").mkdir()
    assert (await process(server, directory="~")).result["files"] == 0


async def test_several_roots_are_named_by_their_last_part(tmp_path: Path) -> None:
    for name in ("one/docs", "two/docs", "src"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "file.txt").write_text(f"word {name}\n")
    roots = [tmp_path / "one" / "docs", tmp_path / "two" / "docs", tmp_path / "src"]
    server = build(roots, tmp_path / "data")
    assert "docs, docs-2, src" in (server.instructions or "")
    for directory, told in [
        (".", "docs"),
        ("docs-2", "docs-2"),
        ("src/", "src"),
        (str(roots[1]), "docs-2"),
    ]:
        outcome = await process(server, directory=directory, operation="index")
        assert (outcome.result["directory"], outcome.result["files"]) == (told, 1)
    found = await run_tool(server, "search", {"query": "two"})
    (hit,) = found.result["hits"]
    assert hit["link"] == "docs-2/file.txt"
    missing = await process(server, directory="nowhere")
    assert "docs, docs-2, src; a path begins with one of these names" in (missing.error or "")
