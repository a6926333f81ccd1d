"""The rows that `headway runs` makes of a journal, and how much it reads for them."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.journal.test_old_journals import restored_sqlite
from tests.kit.auth import bearer, guarded_tools
from tests.kit.peers import Modern, Session, connect, each_era, served

from headway import Headway, report
from headway.cli.journal_access import user_journals
from headway.cli.journal_access.find_run import find_run
from headway.cli.journal_access.read_runs import (
    READ_AT_ONCE,
    TAIL_ENTRIES,
    RunChanges,
    RunFilter,
    newest_runs,
    with_beginnings,
)
from headway.cli.journal_access.run_table import ListedRun, row_of, table_lines, who_of
from headway.cli.journal_access.server_journal import own_directory
from headway.cli.journal_access.user_journals import OpenJournals, opened_journal
from headway.events import Accepted, Completed, Entry, Event, Progress, Started, encode_json
from headway.journal import Journal, open_journal
from headway.protocol.run_for_people import RunSummary, RunTimes
from headway.run_state import State
from headway.settings import Retention, Settings
from headway.stream_names import run_id_of

pytestmark = pytest.mark.anyio

EVERY = RunFilter(every=True)


async def rows_of(url: str, wanted: RunFilter = EVERY) -> list[RunSummary]:
    async with opened_journal(url) as journal:
        return await newest_runs(journal, wanted)


class CountingReads:
    """A journal that counts the entries that are read of it."""

    def __init__(self, journal: Journal) -> None:
        self.streams, self.head = journal.streams, journal.head
        self._journal = journal
        self.calls = self.entries = 0

    async def read(self, stream: str, *, after: int = 0, limit: int) -> list[Entry]:
        self.calls += 1
        entries = await self._journal.read(stream, after=after, limit=limit)
        self.entries += len(entries)
        return entries


def stream_of(number: int) -> str:
    return f"run/owner/{number:040}"


async def write_runs(journal: Journal, count: int, *events: Event) -> None:
    for number in range(count):
        tool = "rare" if number == 1 else "work"
        first = Accepted("tools/call", tool, "owner", caller="alice" if number % 2 else "bob")
        for seq, event in enumerate((first, Started(), *events)):
            journal.append_nowait(stream_of(number), event, after=seq)
    await journal.wait_until_stored(stream_of(count - 1))


@each_era
async def test_a_row_says_who_called_with_which_client_and_what_server(
    tmp_path: Path, era: str
) -> None:
    url = f"sqlite:///{tmp_path / 'j.db'}"
    async with served(guarded_tools().mcp, journal=url) as wire:
        if era == "2025":
            session = await Session.open(wire, extra=bearer("alice:1"))
            await (await session.call("whoami")).outcome()
        else:
            modern = Modern(wire)
            body = modern.body("tools/call", {"name": "whoami", "arguments": {}})
            await (await modern.post(body, bearer("alice:1"))).outcome()
    (row,) = await rows_of(url)
    assert (row.caller, row.client, row.server) == ("alice", "wire 1", "guarded")
    assert who_of(row) == "alice (wire 1)"


async def test_a_journal_of_an_earlier_release_is_listed(tmp_path: Path) -> None:
    rows = await rows_of(restored_sqlite(tmp_path))
    assert {row.tool for row in rows} >= {"count"}
    assert {row.caller for row in rows} == {""}
    lines = table_lines([ListedRun(row, "j") for row in rows], 1_700_000_030.0, None)
    assert len(lines) == len(rows) + 1


async def test_of_ten_thousand_runs_only_the_newest_are_read(tmp_path: Path) -> None:
    async with open_journal(f"sqlite:///{tmp_path / 'j.db'}") as journal:
        end = Completed(encode_json({"content": []}))
        await write_runs(journal, 10_000, Progress(1, 2, "half"), end)
    async with opened_journal(f"sqlite:///{tmp_path / 'j.db'}") as journal:
        counting = CountingReads(journal)
        rows = await newest_runs(counting, RunFilter(every=True, limit=20))  # pyright: ignore[reportArgumentType]
        assert [row.run for row in rows] == [f"{number:040}" for number in range(9999, 9979, -1)]
        assert counting.calls == READ_AT_ONCE
        assert await newest_runs(journal, RunFilter()) == []
        (found,) = await newest_runs(journal, RunFilter(every=True, tool="rare"))
        assert found.run == f"{1:040}"


async def test_of_a_long_run_the_first_and_the_last_entries_are_read(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'j.db'}"
    async with open_journal(url) as journal:
        await write_runs(journal, 1, *(Progress(step, 5000) for step in range(1, 5000)))
    async with opened_journal(url) as journal:
        counting = CountingReads(journal)
        (row,) = await newest_runs(counting, RunFilter())  # pyright: ignore[reportArgumentType]
        assert (row.state, row.progress, row.caller) == (State.WORKING, 4999, "bob")
        assert counting.entries <= 2 * TAIL_ENTRIES


async def test_filters_take_what_they_say(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'j.db'}"
    async with open_journal(url) as journal:
        failed = {"content": [{"type": "text", "text": "no"}], "isError": True}
        await write_runs(journal, 2, Completed(encode_json(failed)))
        first = Accepted("tools/call", "fine", "owner", client="Inspector 2")
        last = Completed(encode_json({"content": []}))
        await journal.append(stream_of(7), [first, Started(), last], after=0)
    assert [row.tool for row in await rows_of(url, RunFilter(True, is_failed=True))] == [
        "rare", "work",
    ]  # fmt: skip
    assert [row.tool for row in await rows_of(url, RunFilter(True, who="ALICE"))] == ["rare"]
    assert [row.tool for row in await rows_of(url, RunFilter(True, who="inspector"))] == ["fine"]
    assert len(await rows_of(url, RunFilter(True, limit=1))) == 1
    (_, newest) = sorted(row.times.accepted or 0 for row in await rows_of(url))[-2:]
    assert await rows_of(url, RunFilter(True, since=newest + 1)) == []
    assert len(await rows_of(url, RunFilter(True, since=newest))) >= 1


async def test_what_is_new_is_told_once_however_many_runs_there_are(tmp_path: Path) -> None:
    url, done = f"sqlite:///{tmp_path / 'j.db'}", Completed(encode_json({"content": []}))
    async with open_journal(url) as writer, opened_journal(url) as journal:
        await write_runs(writer, 3)
        changes = RunChanges(RunFilter(limit=1))
        assert [row.run for row in await changes.look(journal)] == [f"{2:040}"]
        assert await changes.look(journal) == []
        # One that the limit has left out ends, others begin, and begin and end.
        await writer.append(stream_of(0), [Progress(1), done], after=2)
        for number in range(3, 3 + 2 * READ_AT_ONCE):
            await writer.append(stream_of(number), [Accepted("tools/call", "new", "o")], after=0)
            await writer.append(stream_of(number), [Started(), done], after=1)
        news = await changes.look(journal)
        assert len(news) == 1 + 2 * READ_AT_ONCE
        assert {row.state for row in news} == {State.COMPLETED}
        assert await changes.look(journal) == []
        await writer.append(stream_of(1), [Progress(1)], after=2)
        assert await changes.look(journal) == []  # its state is the same


async def test_a_run_that_lost_its_beginning_stands_where_it_began(tmp_path: Path) -> None:
    url, kept = f"sqlite:///{tmp_path / 'j.db'}", Retention(stream_entries=100)
    async with open_journal(url, retention=kept) as writer, opened_journal(url) as journal:
        await write_runs(writer, 1)
        changes = RunChanges(RunFilter(tool="work"))
        assert len(await changes.look(journal)) == 1
        for step in range(3, 403):
            await writer.append(stream_of(0), [Progress(step)], after=step - 1)
        await writer.append(stream_of(1), [Accepted("tools/call", "later", "o")], after=0)
        (newer, long) = await newest_runs(journal, RunFilter())
        assert (newer.tool, long.tool, long.times.accepted) == ("later", None, None)
        (_, first), (began, second) = with_beginnings([newer, long])
        assert (first, second, began) == (newer, long, newer.times.accepted)
        # Who has followed it still knows what it is.
        await writer.append(stream_of(0), [Completed(encode_json({"content": []}))], after=402)
        (row,) = await changes.look(journal)
        assert (row.state, row.tool, row.times.accepted is not None) == (
            State.COMPLETED, "work", True,
        )  # fmt: skip


@each_era
async def test_the_longest_run_is_still_known_by_its_tool_its_caller_and_its_start(
    tmp_path: Path, era: str
) -> None:
    mcp, url = Headway("long"), f"sqlite:///{tmp_path / 'j.db'}"

    @mcp.tool()
    async def long(item: str) -> str:
        for step in range(1, 2500):
            report(step, 2500)
        return item

    assert long
    kept = Settings(progress_rate=0, retention=Retention(stream_entries=400))
    async with served(mcp, journal=url, settings=kept) as wire:
        client = await connect(wire, era)
        outcome = await (await client.call("long", {"item": "a"})).outcome()
        assert outcome["result"]["content"][0]["text"] == "a"
    async with opened_journal(url) as journal:
        (stream,) = await journal.streams("run/")
        assert (await journal.read_all_kept(stream))[0].seq > 1000
        (row,) = await newest_runs(journal, RunFilter(every=True, tool="long"))
    assert (row.arguments, row.client, row.server) == (["item"], "wire 1", "long")
    assert None not in row.times
    assert list(row.times) == sorted(map(float, filter(None, row.times)))
    assert (await find_run(url, row.reference)).stream == stream


async def test_each_journal_is_opened_once_and_again_where_another_file_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    @asynccontextmanager
    async def counted(url: str, **options: Any) -> AsyncGenerator[Journal]:
        opened.append(url)
        async with open_journal(url, **options) as journal:
            yield journal

    async def look(_: str, journal: Journal) -> int:
        return len(await journal.streams("run/"))

    file, other = tmp_path / "j.db", tmp_path / "other.db"
    for place, count in ((file, 1), (other, 2)):
        async with open_journal(f"sqlite:///{place}") as journal:
            await write_runs(journal, count)
    monkeypatch.setattr("headway.journal.open_journal", counted)
    async with OpenJournals(f"sqlite:///{file}") as journals:
        assert [await journals.ask_each(look) for _ in range(3)] == [[1]] * 3
        assert len(opened) == 1
        other.replace(file)
        assert await journals.ask_each(look) == [2]
        assert len(opened) == 2


def count_open(directory: Path) -> int:
    """How many journals somebody has open: whoever closes one last removes its log."""
    return len(list(directory.rglob("journal.db-wal")))


async def test_of_very_many_journals_only_some_are_kept_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setattr(user_journals, "MOST_OPEN", 1)
    for name in ("a", "b", "c"):
        file = own_directory(name) / "journal.db"
        file.parent.mkdir(parents=True)
        async with open_journal(f"sqlite:///{file}") as journal:
            await write_runs(journal, 1)

    async def look(_: str, journal: Journal) -> int:
        return len(await journal.streams("run/"))

    async with OpenJournals(None) as journals:
        for _ in range(2):
            assert await journals.ask_each(look) == [1, 1, 1]
            assert count_open(tmp_path) == 1


@each_era
async def test_a_call_that_was_sent_again_is_one_row(tmp_path: Path, era: str) -> None:
    mcp, url = Headway("once"), f"sqlite:///{tmp_path / 'j.db'}"

    @mcp.tool()
    async def pay() -> str:
        return "paid"

    assert pay
    async with served(mcp, journal=url) as wire:
        client = await Session.open(wire) if era == "2025" else Modern(wire)
        for _ in range(3):
            message = client.call_message("pay")
            message["params"].setdefault("_meta", {})["headway/idempotency-key"] = "k"
            await (await client.post(message)).outcome()
    (row,) = await rows_of(url)
    assert (row.tool, row.state) == ("pay", State.COMPLETED)
    async with opened_journal(url) as journal:
        streams = await journal.streams("run/")
    assert len(streams) == 3
    for stream in streams:  # whichever its client was told: it is one run
        assert await find_run(url, run_id_of(stream)) == (url, row.stream)


def run_row(**values: object) -> RunSummary:
    known: dict[str, object] = {
        "stream": f"run/o/{'x' * 40}", "state": State.FAILED, "method": "tools/call",
        "tool": "work", "caller": "", "client": "", "server": "", "progress": None, "total": None,
        "message": None, "attempt": 1, "arguments": [], "follows": "", "error": "disk is full",
        "times": RunTimes(1_700_000_000.0, 1_700_000_000.0, 1_700_000_002.1),
    }  # fmt: skip
    return RunSummary(**(known | values))  # pyright: ignore[reportArgumentType]


def test_columns_are_aligned_and_cut_to_the_terminal() -> None:
    long = run_row(tool="数据导入" * 20, error="e" * 500, client="claude-code 2.1")
    times = RunTimes(1_700_000_000.0, None, None)
    going = run_row(times=times, state=State.WORKING, error=None, progress=3, total=6)
    rows = [ListedRun(run, "j") for run in (run_row(), long, going)]
    lines = table_lines(rows, 1_700_000_010.0, 100)
    from rich.cells import cell_len

    assert max(map(cell_len, lines)) <= 100
    at = lines[0].index("STATE")
    assert lines[1][at:].startswith("failed")
    assert lines[3][at:].startswith("working")
    assert lines[2].endswith("…")
    assert "3/6" in lines[3]
    assert "SERVER" not in lines[0]
    assert "e" * 500 in table_lines(rows, 0.0, None)[2]  # nothing is cut for a program


def test_rows_of_several_servers_say_which() -> None:
    rows = [ListedRun(run_row(server=name), "j") for name in ("billing", "search")]
    header, first, second = table_lines(rows, 0.0, None)
    assert "SERVER" in header
    assert ("billing" in first, "search" in second) == (True, True)


def test_a_row_for_programs_has_all_of_it() -> None:
    row = row_of(ListedRun(run_row(caller="alice", server="billing"), "sqlite:////j.db"), 0.0)
    assert row["ended"] == "2023-11-14T22:13:22.100Z"
    assert (row["seconds"], row["caller"], row["server"], row["journal"], row["error"]) == (
        2.1, "alice", "billing", "/j.db", "disk is full",
    )  # fmt: skip
