"""What operators' commands make of a journal that no server writes: each kind of end, bad files."""

import asyncio
import json
import resource
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Command

from headway.cli.commands.keep_journal import size_text
from headway.cli.journal_access.server_journal import own_directory
from headway.events import Accepted, Completed, Event, Started, encode_json
from headway.journal import open_journal
from headway.journal.sqlite import backup

ASKING = {
    "resultType": "input_required",
    "inputRequests": {"colour": {"method": "elicitation/create", "params": {"message": "Which?"}}},
    "requestState": "s",
}
DONE = {"content": [{"type": "text", "text": "done"}]}


def stream_of(number: int) -> str:
    return f"run/owner/{number:040}"


def keep_runs(url: str, *ends: dict[str, Any] | None, first: int = 0) -> None:
    """Write a run for each end: its result, or None where it goes on."""
    asyncio.run(write_runs(url, *ends, first=first))


async def write_runs(url: str, *ends: dict[str, Any] | None, first: int = 0) -> None:
    async with open_journal(url) as journal:
        for number, end in enumerate(ends, first):
            events: list[Event] = [Accepted("tools/call", "work", "owner"), Started()]
            events += [] if end is None else [Completed(encode_json(end))]
            await journal.append(stream_of(number), events, after=0)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'j.db'}"


def test_a_run_that_asks_for_input_has_no_result_and_says_so(command: Command, url: str) -> None:
    keep_runs(url, ASKING)
    run = f"{0:040}"
    for name in ("result", "watch"):
        done = command(name, run, "--journal", url)
        assert (done.code, done.out) == (1, "")
        assert "asks its client for input (colour), and has no result" in done.err
    shown = command("show", run, "--journal", url).out
    assert "State      input_required" in shown
    assert '"message": "Which?"' in shown.partition("Asks for input\n")[2]


def test_a_result_of_another_shape_is_printed_as_it_is(command: Command, url: str) -> None:
    keep_runs(url, {"contents": [{"uri": "a:b", "text": "x"}]})
    done = command("result", f"{0:040}", "--journal", url)
    assert (done.code, json.loads(done.out)) == (0, {"contents": [{"uri": "a:b", "text": "x"}]})
    assert command("watch", f"{0:040}", "--journal", url).code == 0
    assert '"uri": "a:b"' in command("show", f"{0:040}", "--journal", url).out


@pytest.fixture
def bad_file(command: Command) -> Path:
    """A file in the user's data directory that is no journal, beside one that is."""
    assert command
    bad, good = (own_directory(name) / "journal.db" for name in ("bad", "good"))
    for file in (bad, good):
        file.parent.mkdir(parents=True)
    bad.write_bytes(b"no journal" * 1000)
    keep_runs(f"sqlite:///{good}", DONE, None)
    return bad


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (("runs", "--all"), "completed"),
        (("show", f"{0:040}"), "Result\n  done"),
        (("watch", f"{0:040}"), ""),
        (("result", f"{0:040}"), "done\n"),
        (("logs", f"{0:040}"), ""),
        (("journal", "info"), "Runs      2"),
    ],
)
def test_a_file_that_is_no_journal_is_named_and_the_others_are_read(
    command: Command, bad_file: Path, arguments: tuple[str, ...], shown: str
) -> None:
    done = command(*arguments)
    assert done.code == 0, done.err
    assert shown in done.out
    assert f"headway: journal {bad_file} is no journal" in done.err
    named = command(*arguments, "--journal", f"sqlite:///{bad_file}")
    assert (named.code, named.out) == (3, "")


MUCH = {"content": [{"type": "text", "text": "x" * 20_000}]}


def bytes_beside(file: Path) -> int:
    return sum(each.stat().st_size for each in file.parent.glob(f"{file.name}*"))


def test_pruning_gives_the_disk_back(command: Command, url: str, tmp_path: Path) -> None:
    keep_runs(url, *[MUCH] * 200, DONE, None)
    before = bytes_beside(tmp_path / "j.db")
    done = command("journal", "prune", "--older-than", "1ms", "--journal", url)
    assert (done.code, done.err) == (0, "")
    assert done.out == f"{tmp_path / 'j.db'}: 201 runs dropped\n"
    assert before > 4_000_000
    assert bytes_beside(tmp_path / "j.db") < 500_000


def test_a_journal_is_described_whatever_its_oldest_runs_are(
    command: Command, url: str, tmp_path: Path
) -> None:
    keep_runs(url, DONE, DONE, None)
    with closing(sqlite3.connect(tmp_path / "j.db", isolation_level=None)) as db:
        (first,) = db.execute("SELECT min(id) FROM streams").fetchone()
        db.execute("UPDATE chunks SET data = 'x' WHERE stream = ?", (first,))
        db.execute("UPDATE streams SET first = 2, last = 2 WHERE id = ?", (first + 1,))
    done = command("journal", "info", "--journal", url, "--output", "json")
    (facts,) = json.loads(done.out)
    assert (done.code, facts["runs"], facts["unfinished"]) == (0, 3, 1)
    assert facts["oldest"] is not None


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_960, "1.0 MB"),
        (2e12, "2000.0 GB"),
    ],
)
def test_a_size_is_written_in_the_unit_that_it_rounds_to(size: float, text: str) -> None:
    assert size_text(size) == text


def test_who_reads_keeps_a_file_from_getting_smaller_and_that_is_said(
    command: Command, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "SHRINK_TIMEOUT", 0.05)
    keep_runs(url, *[MUCH] * 50)
    with closing(sqlite3.connect(tmp_path / "j.db", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM streams").fetchone()
        done = command("journal", "prune", "--older-than", "1ms", "--journal", url)
        assert (done.code, "others use the file" in done.err) == (0, True)
        assert ": 50 runs dropped" in done.out


def test_a_backup_that_finds_no_room_says_where_and_leaves_nothing(
    command: Command, url: str, tmp_path: Path
) -> None:
    keep_runs(url, *[MUCH] * 50)
    target, own = tmp_path / "copies" / "copy.db", tmp_path / "copies" / "copy.db.partial"
    target.parent.mkdir()
    own.write_text("mine")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        done = command("journal", "backup", str(target), "--journal", url)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (done.code, f"headway: {target} cannot be written" in done.err) == (3, True), done.err
    assert list(target.parent.iterdir()) == [own]
    assert command("journal", "backup", str(target), "--journal", url).code == 0
    assert sorted(target.parent.iterdir()) == [target, own]
    assert own.read_text() == "mine"


def test_a_backup_keeps_nobody_from_writing(command: Command, url: str, tmp_path: Path) -> None:
    keep_runs(url, *[MUCH] * 500)
    arguments = ("journal", "backup", str(tmp_path / "copy.db"), "--journal", url)
    done: list[int] = []
    copying = threading.Thread(target=lambda: done.append(command(*arguments).code))
    # Whoever has to wait fails at once.
    with closing(sqlite3.connect(tmp_path / "j.db", isolation_level=None, timeout=0)) as writer:
        copying.start()
        while copying.is_alive():
            writer.execute("UPDATE streams SET bytes = bytes + 1")
    copying.join()
    assert done == [0]
    with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert copy.execute("SELECT count(*) FROM streams").fetchone() == (500,)
