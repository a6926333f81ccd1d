"""The full-text index: what goes in, what is replaced, and what disappears."""

import os
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest
from mcp.server.mcpserver.exceptions import ToolError
from tests.kit.waits import PATIENCE

from headway.tools import Limits, index
from headway.tools.index import Document, TextIndex

UNCHANGED = ("skipped", "unchanged since it was indexed")


def search(data: Path, words: str) -> list[str]:
    """The names of the files found, best first."""
    database = sqlite3.connect(data / "index.sqlite")
    rows = database.execute("SELECT path FROM text WHERE text MATCH ? ORDER BY rank", (words,))
    found = [Path(path).name for (path,) in rows]
    database.close()
    return found


def test_text_files_can_be_found_after_indexing(workplace: Any) -> None:
    workplace.write("a.md", "# The Title\n\nA quick brown fox, a café.\n")
    workplace.write("sub/b.txt", "\ufeffThe lazy dog\n")
    summary = workplace.process(operation="index")
    assert (summary.ok, summary.removed) == (2, 0)
    assert search(workplace.data, "fox") == ["a.md"]
    assert search(workplace.data, "CAFE") == ["a.md"]
    assert search(workplace.data, "title: lazy") == ["b.txt"]
    database = sqlite3.connect(workplace.data / "index.sqlite")
    rows = database.execute("SELECT title, body, size FROM text JOIN file ON id = text.rowid")
    assert rows.fetchall() == [
        ("The Title", "# The Title\n\nA quick brown fox, a café.\n", 41),
        ("The lazy dog", "The lazy dog\n", 16),
    ]
    database.close()


def test_what_is_unchanged_is_not_read_again(workplace: Any, heard: Any) -> None:
    changed = workplace.write("a.txt", "first")
    workplace.write("b.txt", "same")
    workplace.process(operation="index")
    changed.write_text("other")
    os.utime(changed, ns=(1, 1))
    summary = workplace.process(operation="index")
    assert heard.outcomes == {"a.txt": ("ok", None), "b.txt": UNCHANGED}
    assert (summary.ok, summary.skipped, summary.bytes) == (1, 1, 5)
    assert search(workplace.data, "other") == ["a.txt"]
    assert search(workplace.data, "same") == ["b.txt"]
    assert search(workplace.data, "first") == []


def test_what_is_no_longer_there_is_no_longer_found(workplace: Any) -> None:
    for name in ("gone.txt", "stays.txt", "now-a-link.txt", "sub/gone-too.txt"):
        workplace.write(name, "word")
    workplace.process(operation="index")
    (workplace.root / "gone.txt").unlink()
    (workplace.root / "now-a-link.txt").unlink()
    (workplace.root / "now-a-link.txt").symlink_to(workplace.outside / "secret.txt")
    moved = workplace.outside / "moved"
    (workplace.root / "sub").rename(moved)
    (workplace.root / "sub").symlink_to(moved)
    assert workplace.process(operation="index").removed == 3
    assert search(workplace.data, "word") == ["stays.txt"]


def test_only_the_directory_that_was_processed_is_cleared(workplace: Any) -> None:
    for name in ("sub/a.txt", "sub0/a.txt", "other/a.txt"):
        workplace.write(name, "word")
    workplace.process(operation="index")
    for name in ("sub", "sub0", "other"):
        (workplace.root / name / "a.txt").unlink()
    assert workplace.process("sub", operation="index").removed == 1
    assert workplace.process(".", pattern="nothing", operation="index").removed == 2


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"word\0", "binary, or not UTF-8 text"),
        (b"word \xe9", "binary, or not UTF-8 text"),
        (b"word " * 100, "larger than 100 bytes"),
    ],
)
def test_what_becomes_unfit_leaves_the_index(
    workplace: Any, heard: Any, content: bytes, reason: str
) -> None:
    workplace.limits = Limits(index_bytes=100)
    workplace.write("a.txt", "word")
    workplace.process(operation="index")
    workplace.write("a.txt", content)
    workplace.process(operation="index")
    assert heard.outcomes["a.txt"] == ("skipped", reason)
    assert search(workplace.data, "word") == []


def test_a_file_and_a_link_to_it_have_one_row(workplace: Any) -> None:
    workplace.write("a.txt", "word")
    (workplace.root / "link.txt").symlink_to("a.txt")
    workplace.process(operation="index")
    assert search(workplace.data, "word") == ["a.txt"]


def test_what_was_reported_as_indexed_is_there_after_a_failure(workplace: Any, heard: Any) -> None:
    def fail() -> None:
        raise KeyboardInterrupt

    workplace.write("a.txt", "word")
    workplace.write("b.txt", "word")
    heard.meanwhile["a.txt"] = fail
    with pytest.raises(KeyboardInterrupt):
        workplace.process(operation="index")
    assert search(workplace.data, "word") == ["a.txt"]


def test_an_index_that_is_none_is_a_tool_error(workplace: Any) -> None:
    workplace.data.mkdir()
    (workplace.data / "index.sqlite").write_text("this is not a database, " * 100)
    workplace.write("a.txt")
    with pytest.raises(ToolError, match=r"index cannot be used.*delete it"):
        workplace.process(operation="index")


def test_a_data_directory_that_cannot_be_made_is_a_tool_error(workplace: Any) -> None:
    workplace.data.write_text("a file")
    with pytest.raises(ToolError, match="index cannot be used"):
        workplace.process(operation="index")


def test_an_index_of_another_version_is_made_anew(tmp_path: Path) -> None:
    old = sqlite3.connect(tmp_path / "index.sqlite")
    old.executescript("CREATE TABLE file (other); PRAGMA user_version = 99;")
    old.close()
    made = TextIndex(tmp_path / "index.sqlite")
    made.add_document(Document("/a", 1, 1, "word", "a"))
    made.close()
    assert search(tmp_path, "word") == ["a"]


def test_full_batches_are_written_on_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "BATCH_BYTES", 10)
    filling = TextIndex(tmp_path / "index.sqlite")
    filling.add_document(Document("/a", 1, 1, "word", "a"))
    assert search(tmp_path, "word") == []
    filling.add_document(Document("/b", 1, 1, "another word", "b"))
    assert sorted(search(tmp_path, "word")) == ["a", "b"]
    filling.remove_path("/a")
    filling.close()
    assert search(tmp_path, "word") == ["b"]


def test_several_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    together = threading.Barrier(3)

    def fill(writer: int) -> None:
        filling = TextIndex(tmp_path / "index.sqlite")
        together.wait(PATIENCE)
        for number in range(20):
            filling.add_document(Document(f"/{writer}-{number}", 1, 1, "word", ""))
            filling.flush()
        filling.close()

    writers = [threading.Thread(target=fill, args=(writer,)) for writer in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(search(tmp_path, "word")) == 60


def test_an_index_that_is_being_made_by_another_process_is_waited_for(tmp_path: Path) -> None:
    """SQLite itself does not wait for one that switches the file to a write-ahead log."""
    other = sqlite3.connect(
        tmp_path / "index.sqlite", isolation_level=None, check_same_thread=False
    )
    other.execute("BEGIN IMMEDIATE")
    unlocking = threading.Timer(0.3, other.rollback)
    unlocking.start()
    filling = TextIndex(tmp_path / "index.sqlite")
    filling.add_document(Document("/a", 1, 1, "word", "a"))
    filling.close()
    unlocking.join()
    other.close()
    assert search(tmp_path, "word") == ["a"]


def test_the_index_is_made_only_when_it_is_asked_for(workplace: Any) -> None:
    workplace.write("a.txt")
    workplace.process(operation="checksum")
    assert not workplace.data.exists()
    workplace.process(operation="index")
    assert [path.name for path in workplace.data.iterdir()] == ["index.sqlite"]
    assert workplace.data.stat().st_mode & 0o777 == 0o700
