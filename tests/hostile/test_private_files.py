"""Other users of the machine: what callers asked and were answered lies in files."""

import logging
import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from headway.events import Started
from headway.journal import open_journal
from headway.private_files import create_private, find_exposures
from headway.testing import FakeClock
from headway.tools.index import Document, TextIndex
from headway.tools.search.cache import Cache
from headway.tools.search.sources import Asked, Hit

# ruff: noqa: ASYNC240 - nothing else runs on the loop while a test looks at its files

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(os.name != "posix", reason="files have no mode"),
]


@pytest.fixture(autouse=True)
def _careless_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def modes(place: Path) -> dict[str, str]:
    return {path.name: f"{stat.S_IMODE(path.stat().st_mode):o}" for path in place.iterdir()}


async def journal_at(path: Path) -> dict[str, str]:
    """The modes of all files of a journal while it is in use."""
    async with open_journal(f"sqlite:///{path}") as journal:
        await journal.append_shared("run/x", Started())
        return modes(path.resolve().parent)


async def test_a_journal_and_the_files_beside_it_are_their_owners_alone(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    names = ("journal.db", "journal.db-wal", "journal.db-shm")
    assert await journal_at(tmp_path / "journal.db") == dict.fromkeys(names, "600")


async def test_a_link_to_nothing_makes_a_journal_that_is_its_owners_alone(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link.db").symlink_to(tmp_path / "real" / "journal.db")
    assert set((await journal_at(tmp_path / "link.db")).values()) == {"600"}


def test_a_search_index_is_its_owners_alone(tmp_path: Path) -> None:
    index = TextIndex(tmp_path / "data" / "index.sqlite")
    try:
        index.add_document(Document("/a", 1, 1, "secret", "a"))
        index.flush()
        assert set(modes(tmp_path / "data").values()) == {"600"}
    finally:
        index.close()


async def test_a_search_cache_is_its_owners_alone(tmp_path: Path) -> None:
    cache = Cache("cache", tmp_path / "data" / "cache.sqlite", 60, FakeClock())
    await cache.keep(
        Asked("secret", ("secret",), 5, ("wiki",)), {"wiki": [Hit("a", "b", "c", "wiki")]}
    )
    assert modes(tmp_path / "data") == {"cache.sqlite": "600"}


async def test_a_journal_that_others_may_read_is_told_once_and_left_as_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tmp_path.chmod(0o700)
    path = tmp_path / "journal.db"
    await journal_at(path)
    path.chmod(0o644)
    with caplog.at_level(logging.WARNING):
        await journal_at(path)
        await journal_at(path)
    (message,) = caplog.messages
    assert message.startswith(
        f"the journal {path} is open to other users of this machine (mode 0644)"
    )
    assert message.endswith(f"chmod 600 {path}*")
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


async def test_a_directory_where_others_may_write_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tmp_path.chmod(0o777)
    with caplog.at_level(logging.WARNING):
        await journal_at(tmp_path / "journal.db")
    (message,) = caplog.messages
    assert f"is in {tmp_path}, where other users may replace it" in message


@pytest.mark.parametrize("mode", [0o700, 0o755, 0o1777])
async def test_a_directory_where_others_replace_nothing_is_no_matter(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: int
) -> None:
    tmp_path.chmod(mode)
    with caplog.at_level(logging.WARNING):
        await journal_at(tmp_path / "journal.db")
    assert caplog.messages == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
async def test_a_journal_of_somebody_else_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "journal.db"
    await journal_at(path)
    os.chown(path, 12345, 12345)
    with caplog.at_level(logging.WARNING):
        await journal_at(path)
    assert any("belongs to another user (uid 12345)" in message for message in caplog.messages)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_that_root_gives_to_a_group_of_this_process_is_no_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the volume of a secret in Kubernetes, with `fsGroup`."""
    path = tmp_path / "journal.keys"
    path.touch()
    os.chown(path, 0, 12345)
    monkeypatch.setattr("os.geteuid", lambda: 10001)
    monkeypatch.setattr("os.getgroups", lambda: [12345])
    for mode, count in ((0o440, 0), (0o640, 0), (0o660, 1), (0o444, 1)):
        path.chmod(mode)
        assert len(find_exposures(path)) == count, oct(mode)


def test_a_file_that_is_open_keeps_its_locks(tmp_path: Path) -> None:
    """To open and close a database's file would let go of what SQLite holds on it."""
    path = tmp_path / "a.db"
    create_private(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as one:
        one.execute("BEGIN EXCLUSIVE")
        create_private(path)
        # A process of its own: locks of one process do not stop that process.
        if child := os.fork():
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        else:
            try:
                sqlite3.connect(path, timeout=0).execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                os._exit(7)
            os._exit(0)
