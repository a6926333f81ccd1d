"""What cannot be a journal is refused with one sentence that names it and says what to do."""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from headway.errors import JournalUnavailable, SetupError
from headway.events import Part, Started, encode_json
from headway.journal import open_journal
from headway.journal.sqlite.store import SqliteStore
from headway.settings import Retention

# ruff: noqa: ASYNC240 - nothing else runs on the loop while a test looks at its file

pytestmark = pytest.mark.anyio


async def refusal(path: Path) -> str:
    with pytest.raises(SetupError) as refused:
        await SqliteStore(path, retention=Retention()).open()
    text = str(refused.value)
    assert str(path) in text
    assert "\n" not in text
    return text


async def journal_at(path: Path) -> None:
    async with open_journal(f"sqlite:///{path}") as journal:
        parts = [Part(encode_json("x" * 500)) for _ in range(200)]
        for number in range(10):
            await journal.append(f"run:{number}", [Started(), *parts], after=0)


async def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    text = await refusal(tmp_path / "missing" / "journal.db")
    assert f"there is no directory {tmp_path / 'missing'}; create it" in text


async def test_a_directory_is_no_file(tmp_path: Path) -> None:
    assert "is a directory; name a file in it" in await refusal(tmp_path)


async def test_a_file_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "there is no directory" in await refusal(tmp_path / "file" / "journal.db")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("exists", [True, False])
async def test_a_file_without_permission_is_refused(path: Path, exists: bool) -> None:
    if exists:
        await journal_at(path)
        path.chmod(0o400)
    path.parent.chmod(0o500)
    try:
        assert "give this user the right to write" in await refusal(path)
    finally:
        path.parent.chmod(0o700)


async def test_a_text_is_no_journal_and_stays_as_it_was(path: Path) -> None:
    path.write_text("dear diary\n" * 100)
    assert "is no journal (not an SQLite database); name another file" in await refusal(path)
    assert path.read_text() == "dear diary\n" * 100


async def test_another_programs_database_is_refused_and_stays_as_it_was(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE bookmarks (url)")
        db.commit()
    before = path.read_bytes()
    assert "the database of another program; name another file" in await refusal(path)
    assert path.read_bytes() == before


async def test_a_newer_format_is_refused(path: Path) -> None:
    await journal_at(path)
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 2")
    assert "has format 2, this Headway writes 1; update Headway" in await refusal(path)


def _overwrite_the_middle(path: Path) -> None:
    data = bytearray(path.read_bytes())
    for start in range(8192, len(data) - 4096, 8192):
        data[start : start + 64] = b"\xa5" * 64
    path.write_bytes(data)


def _cut_in_half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _overwrite_the_schema(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:100] + b"\xff" * 400 + data[500:])


@pytest.mark.parametrize("damage", [_overwrite_the_middle, _cut_in_half, _overwrite_the_schema])
async def test_a_damaged_journal_is_refused(path: Path, damage: Callable[[Path], None]) -> None:
    await journal_at(path)
    damage(path)
    assert "is damaged; move it away" in await refusal(path)


async def test_a_locked_file_can_be_tried_again(path: Path) -> None:
    await journal_at(path)
    store = SqliteStore(path, retention=Retention(), busy_timeout=0.05)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalUnavailable, match="is locked by another process"):
            await store.open()
        other.execute("ROLLBACK")
    await store.open()
    assert len(await store.streams("run:")) == 10
    await store.close()


async def test_an_empty_file_becomes_a_journal(path: Path) -> None:
    path.touch()
    await journal_at(path)
    with closing(sqlite3.connect(path)) as db:
        pragmas = "journal_mode", "application_id", "user_version"
        found = [db.execute(f"PRAGMA {name}").fetchone()[0] for name in pragmas]
    assert found == ["wal", 0x48445759, 1]


async def test_a_journal_leaves_one_file_behind(path: Path) -> None:
    await journal_at(path)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("url", ["sqlite:", "sqlite:///", "sqlite://host/x.db", "sqlite:x.db"])
def test_a_url_without_a_file_is_refused(url: str) -> None:
    with pytest.raises(SetupError, match="names no file; write sqlite:///"):
        open_journal(url)


@pytest.mark.parametrize("url", ["postgres://x", "journal.db", ""])
def test_an_unknown_scheme_is_refused_with_those_there_are(url: str) -> None:
    with pytest.raises(SetupError, match="there is memory:, sqlite:"):
        open_journal(url)


async def test_memory_and_impossible_names_are_refused(path: Path) -> None:
    assert "write memory:" in await refusal(Path(":memory:"))
    with pytest.raises(SetupError, match="is no file name"):
        await SqliteStore("a\0b", retention=Retention()).open()


async def test_the_path_in_a_url_may_be_quoted(tmp_path: Path) -> None:
    await journal_at(tmp_path / "a b%25c.db")
    assert (tmp_path / "a b%c.db").is_file()
