"""Glob patterns: what they find, what they do not enter, and which are refused."""

from pathlib import PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp.server.mcpserver.exceptions import ToolError

from headway.tools import Limits
from headway.tools.patterns import Pattern

FILES = ["a.txt", "b.md", ".hidden", "src/a.py", "src/x/b.py", "src/x/y/c.py", "docs/x/a.txt"]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("**/*", FILES),
        ("**", FILES),
        ("*", ["a.txt", "b.md", ".hidden"]),
        ("*.txt", ["a.txt"]),
        ("./*.txt", ["a.txt"]),
        ("**/*.txt", ["a.txt", "docs/x/a.txt"]),
        ("**/**/*.txt", ["a.txt", "docs/x/a.txt"]),
        ("src/**", ["src/a.py", "src/x/b.py", "src/x/y/c.py"]),
        ("src/**/*.py", ["src/a.py", "src/x/b.py", "src/x/y/c.py"]),
        ("src/*/*.py", ["src/x/b.py"]),
        ("*/x/*", ["src/x/b.py", "docs/x/a.txt"]),
        ("**/x/**/*.py", ["src/x/b.py", "src/x/y/c.py"]),
        ("src/a.py", ["src/a.py"]),
        ("src", []),
        ("[ab].*", ["a.txt", "b.md"]),
        ("[!a].*", ["b.md"]),
        ("[^a].*", ["b.md"]),
        ("?.md", ["b.md"]),
        ("A.TXT", []),
    ],
)
def test_a_pattern_finds_the_files_that_it_matches(
    workplace: Any, heard: Any, pattern: str, found: list[str]
) -> None:
    workplace.limits = Limits(hidden=True)
    for name in FILES:
        workplace.write(name)
    workplace.process(pattern=pattern)
    assert sorted(part["file"] for part in heard.parts) == sorted(found)


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("**/*", ["a.py"]),
        ("*/*", []),
        ("**/__pycache__/**", ["__pycache__/b.pyc"]),
        (".venv/**/*.py", [".venv/lib/b.py"]),
        (".venv/**/__pycache__/*", [".venv/lib/__pycache__/b.pyc"]),
        ("**/node_modules/*", ["sub/node_modules/c.js"]),
    ],
)
def test_some_directories_are_entered_only_when_named(
    workplace: Any, heard: Any, pattern: str, found: list[str]
) -> None:
    workplace.limits = Limits(hidden=True)
    for name in (
        "a.py",
        "__pycache__/b.pyc",
        ".venv/lib/b.py",
        ".venv/lib/__pycache__/b.pyc",
        "sub/node_modules/c.js",
    ):
        workplace.write(name)
    workplace.process(pattern=pattern)
    assert sorted(part["file"] for part in heard.parts) == sorted(found)


def test_a_directory_that_is_asked_for_is_entered_whatever_its_name(workplace: Any) -> None:
    workplace.write("node_modules/a.js")
    assert workplace.process("node_modules").files == 1


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("", "is empty"),
        (".", "is empty"),
        ("/etc/*", "is absolute"),
        ("/", "is absolute"),
        ("../*", r"'\.\.'"),
        ("a/../../*", r"'\.\.'"),
        ("**/..", r"'\.\.'"),
        ("src/", "ends with '/'"),
        ("a**", r"'\*\*' beside"),
        ("**.py", r"'\*\*' beside"),
        ("a\0", "NUL"),
        ("*/" * 200 + "*", "more than 100 levels"),
        ("[", r"no '\]' closes"),
        ("a/[b", r"no '\]' closes"),
        ("[]", r"no '\]' closes"),
        ("[!]", r"no '\]' closes"),
        ("x" * 1025, "more than 1,024 characters"),
        ("*a" * 65, "more than 64 wildcards"),
        ("?" * 65, "more than 64 wildcards"),
    ],
)
def test_a_pattern_that_cannot_be_meant_is_refused(workplace: Any, pattern: str, says: str) -> None:
    with pytest.raises(ToolError, match=says) as refused:
        workplace.process(pattern=pattern)
    assert "relative to the directory" in str(refused.value)


def test_many_stars_cost_no_more_than_a_few(workplace: Any, heard: Any) -> None:
    workplace.write("/".join("a" * 30) + "/" + "a" * 200)
    workplace.process(pattern="**/a/" * 14 + "*a" * 50 + "b")
    assert heard.parts == []


names = st.text("ab", min_size=1, max_size=2)
segments = st.one_of(st.just("**"), st.just("*"), names, names.map(lambda name: name + "*"))


def _matches(pattern: list[str], path: list[str]) -> bool:
    """The definition, written as plainly as it can be."""
    if not pattern:
        return not path
    if pattern[0] == "**":
        return any(_matches(pattern[1:], path[start:]) for start in range(len(path)))
    return (
        bool(path) and PurePosixPath(path[0]).match(pattern[0]) and _matches(pattern[1:], path[1:])
    )


@given(st.lists(segments, min_size=1, max_size=5), st.lists(names, min_size=1, max_size=5))
def test_walking_down_agrees_with_the_definition(pattern: list[str], path: list[str]) -> None:
    compiled = Pattern("/".join(pattern))
    state = compiled.start
    for name in path[:-1]:
        state = compiled.descend(state, name)
    matches = compiled.file_matcher(state)
    last = [*pattern, "*"] if pattern[-1] == "**" else pattern
    assert bool(matches and matches(path[-1])) == _matches(last, path)
