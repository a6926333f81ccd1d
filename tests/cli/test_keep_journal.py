"""`headway journal info`, `backup` and `prune`, beside a server that writes."""

import json
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from tests.cli.conftest import EXAMPLE
from tests.cli.nap import NapCall, call_tool
from tests.kit.program import Programs
from tests.kit.waits import PATIENCE

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["sqlite", "redis"])
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'j.db'}"
    new_redis_url: Callable[[], str] = request.getfixturevalue("new_redis_url")
    return new_redis_url()


def serve(programs: Programs, journal: str) -> str:
    _program, url = programs.serve("run", f"{EXAMPLE}:mcp", "--port", "0", "--journal", journal)
    return url


def test_a_journal_says_what_is_in_it(programs: Programs, journal: str) -> None:
    url = serve(programs, journal)
    call_tool(url, "count")
    nap = NapCall(url, 600)
    nap.start()
    nap.until_it_naps()
    told = json.loads(programs.run("journal", "info", "--journal", journal, "--output", "json").out)
    (facts,) = told
    assert facts["unfinished"] == 1
    assert facts["runs"] >= 3  # and those that ask for the naps
    assert facts["bytes"] > 1000
    assert facts["oldest"].endswith("Z")
    assert ("file_bytes" in facts) is journal.startswith("sqlite")
    assert "1 go on" in programs.run("journal", "info", "--journal", journal).out
    (row,) = json.loads(programs.run("runs", "--journal", journal, "--output", "json").out)
    programs.run("cancel", row["run"], "--journal", journal)
    nap.join(PATIENCE)


def test_runs_that_ended_are_dropped_and_the_others_stay(programs: Programs, journal: str) -> None:
    url = serve(programs, journal)
    call_tool(url, "count")
    call_tool(url, "fail")
    nap = NapCall(url, 600)
    nap.start()
    nap.until_it_naps()
    every = ("runs", "--all", "--journal", journal, "--output", "json")
    assert len(json.loads(programs.run(*every).out)) >= 3
    kept = programs.run("journal", "prune", "--journal", journal)
    assert (kept.code, kept.out.endswith(": 0 runs dropped\n")) == (0, True)
    done = programs.run("journal", "prune", "--older-than", "0", "--journal", journal)
    assert done.code == 0, done.err
    (left,) = json.loads(programs.run(*every).out)
    assert (left["tool"], left["state"]) == ("nap", "working")
    programs.run("cancel", left["run"], "--journal", journal)
    nap.join(PATIENCE)
    assert "cancelled by the operator" in nap.answer  # its run was not touched


def test_a_backup_is_whole_private_and_can_be_served(programs: Programs, tmp_path: Path) -> None:
    journal = f"sqlite:///{tmp_path / 'j.db'}"
    url = serve(programs, journal)
    for _ in range(20):
        call_tool(url, "count")
    copy = tmp_path / "copy.db"
    done = programs.run("journal", "backup", str(copy), "--journal", journal)
    assert (done.code, done.err) == (0, "")
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.glob("copy.db*")] == ["copy.db"]
    with closing(sqlite3.connect(copy)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    copied = ("runs", "--all", "--limit", "50", "--output", "json", "--journal")
    rows = json.loads(programs.run(*copied, f"sqlite:///{copy}").out)
    assert [row["state"] for row in rows] == ["completed"] * 20
    call_tool(serve(programs, f"sqlite:///{copy}"), "count")
    assert len(json.loads(programs.run(*copied, f"sqlite:///{copy}").out)) == 21


def test_runs_that_went_on_in_a_backup_are_ended_by_the_server_that_starts_with_it(
    programs: Programs, tmp_path: Path
) -> None:
    journal, copy = f"sqlite:///{tmp_path / 'j.db'}", tmp_path / "copy.db"
    options = ("--port", "0", "--set", "lease=1")
    _, url = programs.serve("run", f"{EXAMPLE}:mcp", "--journal", journal, *options)
    nap = NapCall(url, 600)
    nap.start()
    nap.until_it_naps()
    assert programs.run("journal", "backup", str(copy), "--journal", journal).code == 0
    (row,) = json.loads(programs.run("runs", "--journal", journal, "--output", "json").out)
    programs.run("cancel", row["run"], "--journal", journal)
    nap.join(PATIENCE)
    programs.serve("run", f"{EXAMPLE}:mcp", "--journal", f"sqlite:///{copy}", *options)
    ended = programs.run("result", row["run"], "--wait", "--journal", f"sqlite:///{copy}")
    assert (ended.code, ended.out) == (1, "")
    shown = programs.run("show", row["run"], "--journal", f"sqlite:///{copy}").out
    assert "State      interrupted" in shown


def test_a_backup_overwrites_nothing(programs: Programs, tmp_path: Path) -> None:
    journal = f"sqlite:///{tmp_path / 'j.db'}"
    serve(programs, journal)
    there = tmp_path / "there"
    there.write_text("mine")
    refused = programs.run("journal", "backup", str(there), "--journal", journal)
    assert (refused.code, "exists; name a new file" in refused.err) == (3, True)
    assert there.read_text() == "mine"
    nowhere = programs.run("journal", "backup", str(tmp_path / "no/x"), "--journal", journal)
    assert (nowhere.code, "cannot be written" in nowhere.err) == (3, True)


def test_one_of_several_journals_has_to_be_named(programs: Programs, tmp_path: Path) -> None:
    assert programs.run("journal", "info").err == "headway: no journals\n"
    assert "there is no journal" in programs.run("journal", "prune").err
    other = tmp_path / "other.py"
    other.write_text(EXAMPLE.read_text())
    programs.serve("run", f"{EXAMPLE}:mcp", "--port", "0")
    programs.serve("run", f"{other}:mcp", "--port", "0")
    refused = programs.run("journal", "prune")
    assert (refused.code, refused.err.count("--journal sqlite:////")) == (2, 2)
    assert len(json.loads(programs.run("journal", "info", "--output", "json").out)) == 2


def test_a_journal_in_redis_is_backed_up_by_redis(
    programs: Programs, new_redis_url: Callable[[], str], tmp_path: Path
) -> None:
    done = programs.run("journal", "backup", str(tmp_path / "x"), "--journal", new_redis_url())
    assert (done.code, "BGSAVE" in done.err) == (2, True)
