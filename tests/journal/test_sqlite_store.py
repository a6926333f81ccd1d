"""What only the SQLite store does: what is in its file, and what trouble with it says."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.journal.writes import SMALL, write

from headway.errors import EntriesUnreadable, JournalUnavailable
from headway.journal.sqlite.store import SqliteStore, _end_of
from headway.settings import Retention

pytestmark = pytest.mark.anyio


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(path, retention=Retention(), busy_timeout=0.05)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def small(path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(path, retention=SMALL)
    await store.open()
    yield store
    await store.close()


def worker_db(store: SqliteStore) -> sqlite3.Connection:
    assert store._writer is not None
    assert store._writer.db is not None
    return store._writer.db


async def test_what_is_written_is_not_refused_because_trimming_failed(
    small: SqliteStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def locked(*_args: object) -> None:
        raise sqlite3.OperationalError

    with monkeypatch.context() as patch:
        patch.setattr(small, "_trim_stream", locked)  # no lock can be timed between two statements
        assert await small.write([write("a", 0, 500)]) == {}
    assert "it is trimmed later" in caplog.text
    await small.expire(1)
    head = await small.head("a")
    assert head is not None
    assert head.last - head.first < 40


async def test_the_bytes_counted_are_those_there_are(small: SqliteStore) -> None:
    for after in range(0, 300, 7):
        await small.write([write("a", after, 7, size=after % 60)])
    count = (
        "SELECT bytes - 512 - (SELECT sum(length(data)) FROM chunks WHERE stream = streams.id)"
        " FROM streams"
    )
    await small.drop(["none"])
    with closing(sqlite3.connect(small._file.path)) as db:
        assert db.execute(count).fetchall() == [(0,)]
        orphans = "SELECT count(*) FROM chunks WHERE stream NOT IN (SELECT id FROM streams)"
        assert db.execute(orphans).fetchone() == (0,)


async def test_dropped_streams_leave_no_chunks(store: SqliteStore, path: Path) -> None:
    await store.write([write("a", 0, 600), write("b", 0, 1)])
    await store.drop(["a", "b", "unknown"])
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*) FROM chunks").fetchone() == (0,)


async def test_a_lock_that_lasts_is_told_and_costs_nothing(store: SqliteStore, path: Path) -> None:
    await store.write([write("a", 0, 1)])
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalUnavailable, match=r"is locked .* \(SQLITE_BUSY\)"):
            await store.write([write("a", 1, 1)])
        assert len(await store.read("a", 0, 10)) == 1
        other.execute("ROLLBACK")
    assert await store.write([write("a", 1, 1)]) == {}


async def test_a_full_disk_is_told_and_costs_nothing(store: SqliteStore) -> None:
    await store.write([write("a", 0, 1)])
    db = worker_db(store)
    pages = db.execute("PRAGMA page_count").fetchone()[0]
    db.execute(f"PRAGMA max_page_count = {pages}")
    for count in (1, 300):  # in one statement, in several
        with pytest.raises(JournalUnavailable, match=r"disk is full.*\(SQLITE_FULL\)"):
            await store.write([write(f"run:{n}", 0, 9, size=900) for n in range(count)])
    assert await store.streams("") == ["a"]
    db.execute(f"PRAGMA max_page_count = {pages + 10_000}")
    assert await store.write([write("a", 1, 9, size=9000)]) == {}


async def test_a_read_only_file_is_told(store: SqliteStore) -> None:
    worker_db(store).execute("PRAGMA query_only = ON")
    with pytest.raises(JournalUnavailable, match=r"may not be written.*\(SQLITE_READONLY\)"):
        await store.write([write("a", 0, 1)])


async def test_an_entry_of_the_future_is_told_and_passed_over(
    store: SqliteStore, path: Path
) -> None:
    await store.write([write("a", 0, 1)])
    with closing(sqlite3.connect(path)) as db:
        db.execute('UPDATE chunks SET data = CAST(\'[1,1.0,{"type":"dreamt"}]\' AS BLOB)')
        db.commit()
    with pytest.raises(EntriesUnreadable, match="before 2 cannot be read"):
        await store.read("a", 0, 10)
    assert await store.read("a", 1, 10) == []
    assert await store.write([write("a", 1, 1)]) == {}
    assert [entry.seq for entry in await store.read("a", 1, 10)] == [2]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (sqlite3.SQLITE_IOERR | (3 << 8), "check the disk"),
        (sqlite3.SQLITE_CORRUPT | (1 << 8), "is damaged"),
        (sqlite3.SQLITE_READONLY | (4 << 8), "may not be written"),
        (sqlite3.SQLITE_NOMEM, "fails: oh"),
    ],
)
async def test_trouble_is_told_by_its_code(store: SqliteStore, code: int, words: str) -> None:
    error = sqlite3.OperationalError("oh")
    error.sqlite_errorcode, error.sqlite_errorname = code, "SQLITE_X"
    told = store._file.explain_error(error)
    assert isinstance(told, JournalUnavailable)
    assert words in str(told)


async def test_a_closed_store_knows_of_no_changes(store: SqliteStore) -> None:
    await store.close()
    with pytest.raises(JournalUnavailable, match="is closed"):
        await store.has_changed()


async def test_changed_is_true_once_after_another_process_wrote(
    store: SqliteStore, path: Path
) -> None:
    other = SqliteStore(path, retention=Retention())
    await other.open()
    assert not await store.has_changed()
    await other.write([write("a", 0, 1)])
    assert await store.has_changed()
    assert not await store.has_changed()
    await other.close()


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)


@given(prefix=TEXT, rest=TEXT, other=TEXT)
def test_the_end_of_a_prefix_is_above_what_starts_with_it_and_below_the_rest(
    prefix: str, rest: str, other: str
) -> None:
    end = _end_of(prefix)
    assert end is None or prefix + rest < end
    if other > prefix and not other.startswith(prefix):
        assert end is not None
        assert other >= end
