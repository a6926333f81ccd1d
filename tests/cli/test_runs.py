"""`headway runs` and `headway cancel`, beside a server in a process of its own."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import EXAMPLE
from tests.cli.nap import NapCall
from tests.kit.program import Programs
from tests.kit.waits import PATIENCE

from headway.cli.options import own_directory


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
    text = programs.run("runs", "--journal", journal).out
    assert text.split()[:3] == [row["run"], "working", "nap"]
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
    assert (programs.run("runs").code, programs.run("runs").err) == (0, "no runs\n")
    _program, url = programs.serve("run", f"{EXAMPLE}:mcp", "--port", "0")
    call = NapCall(url, 600)
    call.start()
    call.until_it_naps()
    (row,) = json.loads(programs.run("runs", "--output", "json").out)
    assert programs.run("cancel", row["run"][:10]).code == 0
    call.join(PATIENCE)
    assert "cancelled by the operator" in call.answer


def test_every_own_directory_is_in_the_same_place() -> None:
    assert own_directory("a").parent == own_directory("b").parent
