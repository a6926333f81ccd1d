"""`headway runs` and `headway cancel`, beside a server in a process of its own."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import EXAMPLE
from tests.cli.nap import NapCall, call_tool
from tests.kit.program import Programs
from tests.kit.terminal import Terminal
from tests.kit.waits import PATIENCE

from headway.cli.journal_access.server_journal import own_directory


@pytest.fixture
def served(programs: Programs, tmp_path: Path) -> Iterator[tuple[Programs, str, NapCall]]:
    """A server on a journal file with a call that naps for very long."""
    journal = f"sqlite:///{tmp_path / 'j.db'}"
    _program, url = programs.serve("run", f"{EXAMPLE}:mcp", "--port", "0", "--journal", journal)
    call = NapCall(url, 600)
    call.start()
    call.until_it_naps()
    yield programs, journal, call
    call.join(PATIENCE)


def listed(programs: Programs, journal: str, *options: str) -> list[dict[str, Any]]:
    out = programs.run("runs", "--journal", journal, "--output", "json", *options)
    assert out.code == 0, out.err
    return json.loads(out.out)


def test_a_run_of_another_process_is_seen_and_cancelled(
    served: tuple[Programs, str, NapCall],
) -> None:
    programs, journal, call = served
    (row,) = listed(programs, journal)
    assert (row["tool"], row["state"], row["attempt"]) == ("nap", "working", 1)
    header, line = programs.run("runs", "--journal", journal).out.splitlines()
    assert header.split() == ["RUN", "STARTED", "TOOK", "STATE", "TOOL", "WHO", "PROGRESS/ERROR"]
    assert line.split()[0] == row["reference"]
    assert line[header.index("STATE") :].split()[:2] == ["working", "nap"]
    done = programs.run("cancel", row["reference"], "--journal", journal, "--reason", "too slow")
    assert (done.code, "asked to stop" in done.out) == (0, True)
    call.join(PATIENCE)
    assert "Request cancelled: too slow" in call.answer
    assert listed(programs, journal) == []
    assert [r["state"] for r in listed(programs, journal, "--all") if r["tool"] == "nap"] == [
        "cancelled"
    ]
    again = programs.run("cancel", row["run"], "--journal", journal)
    assert (again.code, "names no run that goes on" in again.err) == (2, True)


@pytest.mark.parametrize("name", ["nothing", "abc", ""])
def test_a_name_of_no_run_is_refused(programs: Programs, tmp_path: Path, name: str) -> None:
    refused = programs.run("cancel", name, "--journal", f"sqlite:///{tmp_path / 'none.db'}")
    assert (refused.code, "there is no journal" in refused.err) == (3, True)
    assert not (tmp_path / "none.db").exists()
    assert programs.run("runs", "--journal", "memory:").code == 3


def test_without_a_journal_option_the_users_own_journals_are_searched(programs: Programs) -> None:
    nothing = programs.run("runs")
    assert (nothing.code, nothing.out) == (0, "")
    assert nothing.err == "headway: no runs; --all lists those that have ended, too\n"
    _program, url = programs.serve("run", f"{EXAMPLE}:mcp", "--port", "0")
    call = NapCall(url, 600)
    call.start()
    call.until_it_naps()
    (row,) = json.loads(programs.run("runs", "--output", "json").out)
    assert programs.run("cancel", row["run"][:10]).code == 0
    call.join(PATIENCE)
    assert "cancelled by the operator" in call.answer


def test_calls_that_end_in_an_error_are_listed_as_failed(programs: Programs) -> None:
    _program, url = programs.serve("run", f"{EXAMPLE}:mcp", "--port", "0")
    for tool in ("count", "fail", "nothing"):
        call_tool(url, tool)
    call_tool(url, "count", steps="many")
    rows = json.loads(programs.run("runs", "--failed", "--output", "json").out)
    assert [(row["tool"], row["state"]) for row in rows] == [
        ("count", "failed"), ("nothing", "failed"), ("fail", "failed"),
    ]  # fmt: skip
    assert [row["error"].partition(":")[0] for row in rows] == [
        "Error executing tool count", "Unknown tool", "Error executing tool fail",
    ]  # fmt: skip
    assert all(row["accepted"] <= row["started"] <= row["ended"] for row in rows)
    every = json.loads(programs.run("runs", "--all", "--output", "json").out)
    assert [row["state"] for row in every] == ["failed", "failed", "failed", "completed"]
    assert every[-1]["progress"] == every[-1]["total"] == 3
    only = json.loads(
        programs.run("runs", "--since", "1h", "--tool", "fail", "--output", "json").out
    )
    assert [row["tool"] for row in only] == ["fail"]


def test_a_list_that_follows_prints_a_run_again_when_it_ends(
    served: tuple[Programs, str, NapCall],
) -> None:
    programs, journal, _call = served
    watch = programs.start("runs", "--follow", "--output", "json", "--journal", journal)
    first = json.loads(watch.wait_for_output('"working"'))
    assert programs.run("cancel", first["reference"], "--journal", journal).code == 0
    last = json.loads(watch.wait_for_output('"cancelled"'))
    assert (last["run"], last["error"]) == (first["run"], "cancelled by the operator")
    watch.interrupt()
    assert watch.finish().code == 130


def test_on_a_terminal_the_list_that_follows_is_drawn_again(
    served: tuple[Programs, str, NapCall],
) -> None:
    programs, journal, call = served
    with Terminal("runs", "--watch", "--journal", journal, home=programs.home) as terminal:
        terminal.wait_for("working")
        (row,) = listed(programs, journal)
        programs.run("cancel", row["run"], "--journal", journal)
        call.join(PATIENCE)
        terminal.wait_for("no runs")
        terminal.type("\x03")
        assert terminal.finish() == 130


def test_every_own_directory_is_in_the_same_place() -> None:
    assert own_directory("a").parent == own_directory("b").parent
