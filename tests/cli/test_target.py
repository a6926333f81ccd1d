"""TARGET: which server a text names, and what is said when it names none."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from headway.cli import exit_codes
from headway.cli.target import load_target
from headway.errors import SetupError

SERVER = "from mcp.server import MCPServer\n{} = MCPServer({!r})\n"


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Loading changes `sys.path` and `sys.modules`, as starting a program does."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and "pytest-" in str(
            sys.modules[name].__file__
        ):
            del sys.modules[name]


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_target_may_be_a_file_and_a_name(tmp_path: Path):
    path = _write(tmp_path / "two.py", SERVER.format("a", "A") + SERVER.format("b", "B"))
    assert load_target(f"{path}:b").server.name == "B"  # pyright: ignore[reportAttributeAccessIssue]


def test_the_only_server_needs_no_name(tmp_path: Path):
    path = _write(tmp_path / "one.py", SERVER.format("anything", "A") + "alias = anything\n")
    target = load_target(str(path))
    assert target.identity == f"{path}:anything"


def test_a_usual_name_wins_among_several(tmp_path: Path):
    path = _write(tmp_path / "some.py", SERVER.format("b", "B") + SERVER.format("mcp", "A"))
    assert load_target(str(path)).identity == f"{path}:mcp"


def test_a_name_may_lead_into_an_object(tmp_path: Path):
    text = "from mcp.server import Server\nclass Holder:\n    low = Server('low')\n"
    path = _write(tmp_path / "deep.py", text)
    assert load_target(f"{path}:Holder.low").identity == f"{path}:Holder.low"


def test_the_directory_of_a_file_is_importable_and_main_does_not_run(tmp_path: Path):
    _write(tmp_path / "beside_me.py", "NAME = 'found'\n")
    path = _write(
        tmp_path / "entry.py",
        "from mcp.server import MCPServer\nimport beside_me\nmcp = MCPServer(beside_me.NAME)\n"
        "if __name__ == '__main__':\n    raise SystemExit(1)\n",
    )
    assert load_target(f"{path}:mcp").server.name == "found"  # pyright: ignore[reportAttributeAccessIssue]


def test_a_file_named_like_a_module_that_is_loaded_does_not_replace_it(tmp_path: Path):
    path = _write(tmp_path / "json.py", SERVER.format("mcp", "A"))
    before = sys.modules["json"]
    load_target(str(path))
    assert sys.modules["json"] is before


def test_a_target_may_be_a_module_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    _write(tmp_path / "some_package" / "served.py", SERVER.format("mcp", "A"))
    monkeypatch.chdir(tmp_path)
    assert load_target("some_package.served:mcp").identity == "some_package.served:mcp"


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("missing.py:mcp", "missing.py does not exist"),
        ("./missing:mcp", "missing:mcp does not exist|missing does not exist"),
        (".:mcp", "names nothing|is a directory"),
        ("no_such_module:mcp", "there is no module 'no_such_module'"),
        ("json.no_such_part:mcp", "there is no module 'json.no_such_part'"),
        ("json:loads", "json:loads cannot be served"),
        ("json", "json has no MCP server at its top level"),
        ("json:nothing", "json has no 'nothing'; it has no server at all"),
        ("what is this", "names nothing"),
    ],
)
def test_what_cannot_be_served_is_said_in_one_sentence(
    target: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SetupError, match=says) as caught:
        load_target(target)
    assert "\n" not in str(caught.value)


def test_a_wrong_name_lists_the_candidates(tmp_path: Path):
    path = _write(tmp_path / "names.py", SERVER.format("a", "A") + SERVER.format("b", "B"))
    with pytest.raises(SetupError, match=rf"has no 'c'; it has {path}:a, {path}:b"):
        load_target(f"{path}:c")
    with pytest.raises(SetupError, match=rf"several servers; name one: {path}:a, {path}:b"):
        load_target(str(path))


def test_a_module_that_raises_shows_its_own_traceback_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = _write(tmp_path / "broken.py", "def f():\n    return 1 / 0\nf()\n")
    assert exit_codes.run_command(lambda: load_target(str(path))) == 3
    err = capsys.readouterr().err
    assert err.startswith(f'Traceback (most recent call last):\n  File "{path}", line 3')
    assert f"headway: {path} cannot be imported: ZeroDivisionError: division by zero" in err
    assert "target.py" not in err
    assert "importlib" not in err


def test_a_syntax_error_shows_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = _write(tmp_path / "typo.py", "mcp = = 1\n")
    assert exit_codes.run_command(lambda: load_target(str(path))) == 3
    assert "mcp = = 1" in capsys.readouterr().err


def test_a_missing_import_of_the_target_is_the_targets_error(tmp_path: Path):
    path = _write(tmp_path / "needs.py", "import not_installed_anywhere\n")
    with pytest.raises(exit_codes.Broken, match="not_installed_anywhere"):
        load_target(str(path))


def test_a_module_that_exits_is_told_about_main(tmp_path: Path):
    path = _write(tmp_path / "exits_now.py", "raise SystemExit(0)\n")
    with pytest.raises(SetupError, match='if __name__ == "__main__"'):
        load_target(str(path))
