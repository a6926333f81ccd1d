"""What a client may ask for: each refusal says what is allowed."""

from pathlib import Path
from typing import Any

import pytest
from mcp.server.mcpserver.exceptions import ToolError

from headway.errors import SetupError
from headway.tools.roots import Roots


@pytest.mark.parametrize(
    ("directory", "says"),
    [
        ("/", "outside what is allowed"),
        ("/etc", "outside what is allowed"),
        ("/etc/missing", "outside what is allowed"),
        ("..", r"may not contain '\.\.'"),
        ("sub/../..", r"may not contain '\.\.'"),
        ("sub/..", r"may not contain '\.\.'"),
        ("a\0b", "NUL"),
        ("missing", "does not exist"),
        ("file.txt", "is not a directory"),
        ("file.txt/below", "is not a directory"),
        ("out", "outside what is allowed"),
        ("out/deep", "outside what is allowed"),
        ("sub/out", "outside what is allowed"),
        ("out-missing", "outside what is allowed"),
        ("loop", "is not a directory"),
        ("x" * 5000, "cannot be opened"),
        ("\ud800", "cannot be a path"),
    ],
)
def test_a_directory_that_is_not_allowed_is_refused(
    workplace: Any, directory: str, says: str
) -> None:
    workplace.write("file.txt")
    workplace.write("sub/file.txt")
    (workplace.outside / "deep").mkdir()
    (workplace.root / "out").symlink_to(workplace.outside)
    (workplace.root / "out-missing").symlink_to(workplace.outside / "missing")
    (workplace.root / "sub" / "out").symlink_to("../../outside")
    (workplace.root / "loop").symlink_to("loop")
    with pytest.raises(ToolError, match=says) as refused:
        workplace.process(directory)
    if says != "is not a directory":
        assert "relative to it" in str(refused.value)
    assert str(workplace.root) not in str(refused.value)
    str(refused.value).encode()


def test_a_sibling_whose_name_starts_the_same_is_outside(workplace: Any) -> None:
    sibling = workplace.root.with_name("root-two")
    sibling.mkdir()
    with pytest.raises(ToolError, match="outside"):
        workplace.process(str(sibling))


def test_a_link_that_stays_inside_is_resolved(workplace: Any) -> None:
    workplace.write("real/a.txt")
    (workplace.root / "link").symlink_to("real")
    summary = workplace.process("link")
    assert (summary.files, summary.directory) == (1, "real")


def test_a_root_that_is_a_link_can_be_named_either_way(workplace: Any, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(workplace.root)
    workplace.write("sub/a.txt")
    roots = Roots([tmp_path / "alias"])
    for asked in (tmp_path / "alias" / "sub", workplace.root / "sub", "sub"):
        assert roots.find_directory(str(asked)).absolute == str(workplace.root / "sub")


def test_all_roots_are_allowed_and_relative_means_the_first(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "sub").mkdir(parents=True)
    roots = Roots([tmp_path / "one", tmp_path / "two"])
    assert roots.find_directory("sub").absolute == str(tmp_path / "one" / "sub")
    assert roots.find_directory(str(tmp_path / "two" / "sub")).root == str(tmp_path / "two")


def test_the_root_of_the_file_system_can_be_a_root(tmp_path: Path) -> None:
    place = Roots([Path("/")]).find_directory(str(tmp_path))
    assert place == ("/", str(tmp_path)[1:])
    assert place.absolute == str(tmp_path)


def test_the_data_directory_is_closed_unless_a_root_lies_in_it(workplace: Any) -> None:
    data = workplace.root / "data"
    (data / "inner").mkdir(parents=True)
    with pytest.raises(ToolError, match="outside"):
        Roots([workplace.root], private=data).find_directory("data/inner")
    assert Roots([data / "inner"], private=data).find_directory(".").path == ""
    assert Roots([workplace.root], private=workplace.root).find_directory(".").path == ""


@pytest.mark.parametrize("roots", [[], ["missing"], ["file"]])
def test_roots_that_are_no_directories_are_a_setup_error(tmp_path: Path, roots: list[str]) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match="root"):
        Roots([tmp_path / root for root in roots])
