"""Files that would take hours, or all of the disk: read up to a bound, forgotten if deleted."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from headway.testing import Outcome, run_tool
from headway.tools import Limits, build
from headway.tools.config import load

pytestmark = pytest.mark.anyio


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    return root


async def process(root: Path, limits: Limits | None = None, **arguments: Any) -> Outcome:
    server = build([root], root.parent / "data", limits=limits)
    return await run_tool(server, "process_files", {"directory": ".", **arguments})


async def search(root: Path, query: str) -> list[str]:
    server = build([root], root.parent / "data")
    outcome = await run_tool(server, "search", {"query": query, "limit": 100})
    assert outcome.result["complete"], outcome.result["sources"]
    return sorted(hit["link"] for hit in outcome.result["hits"])


@pytest.mark.parametrize("operation", ["checksum", "stats", "index"])
async def test_a_file_of_holes_is_skipped_by_every_operation(root: Path, operation: str) -> None:
    (root / "sparse").touch()
    os.truncate(root / "sparse", 2 * 1024**4)
    (root / "small").write_text("x\n")
    outcome = await process(root, operation=operation)
    parts = {part["file"]: part for part in outcome.parts}
    assert parts["sparse"]["status"] == "skipped"
    assert "larger than" in parts["sparse"]["reason"]
    assert parts["small"]["status"] == "ok"


async def test_the_operator_says_how_large(root: Path, tmp_path: Path) -> None:
    (tmp_path / "headway.toml").write_text("[files]\nchecksum_bytes = 10\n[index]\nbytes = 77\n")
    config = load(tmp_path / "headway.toml")
    assert (config.files.checksum_bytes, config.files.index_total) == (10, 77)
    (root / "a").write_bytes(b"x" * 10)
    (root / "b").write_bytes(b"x" * 11)
    outcome = await process(root, config.files)
    assert [part["status"] for part in outcome.parts] == ["ok", "skipped"]


async def test_devices_pipes_and_endless_files_are_not_read(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(root / "pipe")
    (root / "zero").symlink_to("/dev/zero")
    (root / "growing").write_text("x" * 100)
    read = os.read

    def grown(handle: int, count: int) -> bytes:
        with (root / "growing").open("a") as file:
            file.write("x" * count)
        return read(handle, count)

    monkeypatch.setattr(os, "read", grown)  # as /proc and logs are: more than they say
    outcome = await process(root)
    status = {part["file"]: part["status"] for part in outcome.parts}
    assert status == {"pipe": "skipped", "zero": "skipped", "growing": "failed"}


def size_of(index: Path) -> int:
    with closing(sqlite3.connect(index)) as database:
        return (
            database.execute("PRAGMA page_count").fetchone()[0]
            * database.execute("PRAGMA page_size").fetchone()[0]
        )


async def test_a_full_index_takes_no_more_and_says_so(root: Path) -> None:
    for number in range(40):
        (root / f"{number:02}.txt").write_text(f"word{number} " * 5000)
    total = 1024 * 1024
    outcome = await process(root, Limits(index_total=total), operation="index")
    reasons = outcome.result["skipped_because"]
    assert 3 < outcome.result["ok"] < 40
    assert [reason for reason in reasons if "has all of its 1,048,576 bytes" in reason]
    assert size_of(root.parent / "data" / "index.sqlite") < total
    again = await process(root, Limits(index_total=total), operation="index")
    assert again.result["ok"] < 10
    assert again.result["failed"] == 0
    assert size_of(root.parent / "data" / "index.sqlite") < total


async def test_a_full_index_makes_room_of_what_was_deleted(root: Path) -> None:
    total = 1024 * 1024
    for name in ("old", "new"):
        (root / name).mkdir()
    for number in range(6):
        (root / "old" / f"{number}.txt").write_text(f"word{number} " * 9000)
    await process(root, Limits(index_total=total), directory="old", operation="index")
    for file in (root / "old").iterdir():
        file.unlink()
    (root / "new" / "file.txt").write_text("fresh " * 9000)
    # The rows of the deleted ones are outside of the directory that is processed.
    outcome = await process(root, Limits(index_total=total), directory="new", operation="index")
    assert outcome.result["ok"] == 1, outcome.result
    assert await search(root, "fresh") == ["new/file.txt"]


async def test_a_file_that_was_deleted_is_not_found_and_its_text_is_gone(root: Path) -> None:
    for name in ("gone.txt", "here.txt", "other.txt"):
        (root / name).write_text(f"hunter2 {name}\n" * 50)
    await process(root, operation="index")
    (root / "gone.txt").unlink()
    assert await search(root, "hunter2") == ["here.txt", "other.txt"]
    index = root.parent / "data" / "index.sqlite"
    with closing(sqlite3.connect(index)) as database:
        rows = [path for (path,) in database.execute("SELECT path FROM file")]
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert sorted(Path(path).name for path in rows) == ["here.txt", "other.txt"]
    assert b"hunter2 gone.txt" not in index.read_bytes()


async def test_the_text_of_a_deleted_file_goes_although_nobody_looks_for_it(root: Path) -> None:
    for number in range(5):
        (root / f"{number}.txt").write_text(f"private{number}\n")
    (root / "last.txt").write_text("something else\n")
    await process(root, operation="index")
    for number in range(5):
        (root / f"{number}.txt").unlink()
    await search(root, "something")
    with closing(sqlite3.connect(root.parent / "data" / "index.sqlite")) as database:
        assert database.execute("SELECT count(*) FROM file").fetchone() == (1,)


async def test_as_many_hits_are_found_as_there_are_although_better_ones_are_gone(
    root: Path,
) -> None:
    for number in range(20):
        (root / f"{number:02}.txt").write_text("rain " * (21 - number) + "word " * number)
    await process(root, operation="index")
    for number in range(10):
        (root / f"{number:02}.txt").unlink()
    server = build([root], root.parent / "data")
    outcome = await run_tool(server, "search", {"query": "rain", "limit": 5})
    assert [hit["link"] for hit in outcome.result["hits"]] == [f"{n}.txt" for n in range(10, 15)]


async def test_a_file_that_became_a_link_to_outside_is_not_found(root: Path) -> None:
    (root / "notes.txt").write_text("hunter2\n")
    await process(root, operation="index")
    (root / "notes.txt").unlink()
    (root / "notes.txt").symlink_to("/etc/passwd")
    assert await search(root, "hunter2") == []
