"""A directory with modules named like Python's own: what Headway starts imports none of them."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.adapters import work
from tests.kit.program import Programs, programs_in
from tests.kit.waits import PATIENCE

from headway import in_process
from headway.cli.target import load_target

NAMES = (
    "json", "queue", "types", "http", "logging", "typing_extensions", "sqlite3", "msgspec", "mcp",
    "uvicorn", "pydantic", "sitecustomize",
)  # fmt: skip

SERVER = "from headway import Headway\nmcp = Headway('beside')\nimport mine\n"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory full of traps; each that is imported leaves a file beside it."""
    place = tmp_path / "place"
    place.mkdir()
    for name in NAMES:
        note = place / f"{name}.imported"
        leave = f"open({str(note)!r}, 'w').close()\nraise SystemExit(9)\n"
        (place / f"{name}.py").write_text(leave)
    return place


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    with programs_in(tmp_path) as programs:
        yield programs


def imported(place: Path) -> list[str]:
    return sorted(path.name for path in place.glob("*.imported"))


def test_workers_of_serve_import_nothing_from_the_directory_that_is_served(
    place: Path, programs: Programs
) -> None:
    options = ("--root", ".", "--port", "0", "--workers", "2")
    program, url = programs.serve("serve", *options, cwd=place)
    assert imported(place) == []
    listed = programs.run("tools", url, cwd=place)
    assert "process_files" in listed.out, listed
    program.interrupt()
    assert program.finish().code == 0
    assert imported(place) == []


def test_commands_without_a_target_import_nothing_from_the_current_directory(
    place: Path, programs: Programs
) -> None:
    assert programs.run("runs", cwd=place).code == 0
    assert programs.run("cancel", "no-such-run", cwd=place).code == 2
    assert imported(place) == []


def test_started_with_m_alone_it_imports_nothing_from_the_current_directory(
    tmp_path: Path,
) -> None:
    note = tmp_path / "json.imported"
    (tmp_path / "json.py").write_text(f"open({str(note)!r}, 'w').close()\n")
    ended = subprocess.run(
        [sys.executable, "-m", "headway", "runs"], cwd=tmp_path, capture_output=True,
        env=os.environ | {"XDG_DATA_HOME": str(tmp_path)}, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert imported(tmp_path) == []


def test_workers_of_run_find_what_lies_beside_their_target(tmp_path: Path) -> None:
    (tmp_path / "served.py").write_text(SERVER)
    (tmp_path / "mine.py").write_text("")
    with programs_in(tmp_path) as programs:
        program, _ = programs.serve("run", "served:mcp", "--port", "0", "--workers", "2")
        program.interrupt()
        assert program.finish().code == 0


def test_a_target_that_is_installed_brings_no_current_directory(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "path", list(sys.path))
    load_target("tests.stdio.target:mcp")
    assert str(place) not in sys.path
    assert imported(place) == []


@pytest.mark.anyio
async def test_a_process_for_in_process_imports_its_own_modules_before_the_authors(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [str(place), *sys.path])
    assert await in_process(work.add, 1, other=2) == 3
    assert imported(place) == []
