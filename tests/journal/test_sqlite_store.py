"""The SQLite store by itself: what a commit takes, what retention keeps, what trouble says."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.errors import (
    Conflict,
    EntriesTrimmed,
    EntriesUnreadable,
    JournalError,
    JournalUnavailable,
    StreamEnded,
    StreamNotFound,
)
from headway.events import Completed, Entry, Event, Part, Progress, encode_json
from headway.journal import Head, Write
from headway.journal.sqlite import SqliteStore, _end_of
from headway.settings import Retention

END = Completed(encode_json(None))
SMALL = Retention(ttl=100, max_bytes=100_000, stream_entries=40, stream_bytes=8_000)

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


def write(
    stream: str, after: int, count: int, *, time: float = 1.0, end: bool = False, size: int = 0
) -> Write:
    event: Event = Part(encode_json("x" * size)) if size else Progress(1)
    entries = [Entry(after + n + 1, time, event) for n in range(count)]
    if end:
        entries[-1] = Entry(after + count, time, END)
    return Write(stream, after, entries, end)


def worker_db(store: SqliteStore) -> sqlite3.Connection:
    assert store._writer is not None
    assert store._writer.db is not None
    return store._writer.db


async def test_a_refused_stream_does_not_hold_up_the_others(store: SqliteStore) -> None:
    assert await store.write([write("a", 0, 3), write("b", 0, 3, end=True)]) == {}
    refused = await store.write(
        [write("a", 2, 1), write("b", 3, 1), write("c", 0, 2), write("d", 7, 1)]
    )
    assert {stream: type(error) for stream, error in refused.items()} == {
        "a": Conflict,
        "b": StreamEnded,
        "d": Conflict,
    }
    assert await store.head("a") == Head(1, 3, ended=False)
    assert await store.head("b") == Head(1, 3, ended=True)
    assert await store.head("c") == Head(1, 2, ended=False)
    assert await store.head("d") is None


@pytest.mark.parametrize("streams", [1, 2, 5, 17, 65, 256, 257, 700])
async def test_a_commit_takes_any_number_of_streams(store: SqliteStore, streams: int) -> None:
    names = [f"run:{number}" for number in range(streams)]
    assert await store.write([write(name, 0, 2) for name in names]) == {}
    assert await store.streams("run:") == names
    refused = await store.write([write(name, 2 - (name == names[-1]), 1) for name in names])
    assert list(refused) == [names[-1]]
    assert await store.head(names[0]) == Head(1, 3 if streams > 1 else 2, ended=False)


async def test_a_long_write_is_refused_whole_though_its_second_half_would_fit(
    store: SqliteStore,
) -> None:
    await store.write([write("a", 0, 256)])
    refused = await store.write([write("a", 0, 512)])
    assert isinstance(refused["a"], Conflict)
    assert await store.head("a") == Head(1, 256, ended=False)


async def test_a_page_is_cut_from_chunks_of_any_size(store: SqliteStore) -> None:
    after = 0
    for count in (1, 700, 3, 40):
        await store.write([write("a", after, count)])
        after += count
    for start, limit in ((0, 1), (0, 744), (255, 2), (500, 256), (700, 9), (743, 5), (744, 5)):
        entries = await store.read("a", start, limit)
        assert [entry.seq for entry in entries] == list(
            range(start + 1, min(start + limit, 744) + 1)
        )


async def test_an_entry_that_cannot_be_stored_spoils_only_its_stream(store: SqliteStore) -> None:
    odd = Write("odd", 0, [Entry(1, 1.0, Progress(object()))], ended=False)  # type: ignore[arg-type]
    refused = await store.write([odd, write("a", 0, 1)])
    assert list(refused) == ["odd"]
    assert type(refused["odd"]) is JournalError
    assert await store.streams("") == ["a"]


async def test_a_stream_expires_its_ttl_after_its_terminal_entry(small: SqliteStore) -> None:
    await small.write([write("ended", 0, 2, time=10, end=True), write("alive", 0, 2, time=10)])
    await small.expire(109.9)
    assert await small.streams("") == ["ended", "alive"]
    await small.expire(110)
    assert await small.streams("") == ["alive"]
    with pytest.raises(StreamNotFound):
        await small.read("ended", 0, 10)


async def test_over_its_size_what_ended_first_goes_first(small: SqliteStore) -> None:
    for number in range(25):
        # The later a stream begins, the sooner it ends.
        await small.write([write(f"run:{number}", 0, 5, time=50 - number, end=True, size=1000)])
    await small.write([write("alive", 0, 5, time=0, size=1000)])
    await small.expire(50)
    kept = await small.streams("run:")
    assert kept == [f"run:{number}" for number in range(len(kept))]
    assert 15 <= len(kept) < 25
    assert await small.head("alive") == Head(1, 5, ended=False)


async def test_a_burst_is_trimmed_without_waiting_for_expire(small: SqliteStore) -> None:
    await small.write([write("a", 0, 500)])
    head = await small.head("a")
    assert head is not None
    assert 20 <= head.last - head.first + 1 <= 40
    with pytest.raises(EntriesTrimmed) as trimmed:
        await small.read("a", head.first - 2, 10)
    assert trimmed.value.first == head.first
    assert (await small.read("a", head.first - 1, 1))[0].seq == head.first


async def test_the_newest_entry_is_kept_however_large_it_is(small: SqliteStore) -> None:
    await small.write([write("a", 0, 1, size=100), write("b", 0, 1)])
    await small.write([write("a", 1, 1, size=50_000)])
    assert await small.head("a") == Head(2, 2, ended=False)
    assert len(await small.read("a", 1, 10)) == 1


async def test_what_is_written_is_not_refused_because_trimming_failed(
    small: SqliteStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def locked(*_args: object) -> None:
        raise sqlite3.OperationalError

    with monkeypatch.context() as patch:
        patch.setattr(small, "_trim", locked)  # no lock can be timed between two statements
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
        assert db.execute(
            "SELECT count(*) FROM chunks WHERE stream NOT IN (SELECT id FROM streams)"
        )


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
    told = store._file.explain(error)
    assert isinstance(told, JournalUnavailable)
    assert words in str(told)


async def test_a_closed_store_says_so(path: Path) -> None:
    store = SqliteStore(path, retention=Retention())
    await store.open()
    await store.close()
    await store.close()
    with pytest.raises(JournalUnavailable, match="is closed"):
        await store.head("a")
    with pytest.raises(JournalUnavailable, match="is closed"):
        await store.changed()


async def test_changed_is_true_once_after_another_process_wrote(
    store: SqliteStore, path: Path
) -> None:
    other = SqliteStore(path, retention=Retention())
    await other.open()
    assert not await store.changed()
    await other.write([write("a", 0, 1)])
    assert await store.changed()
    assert not await store.changed()
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
