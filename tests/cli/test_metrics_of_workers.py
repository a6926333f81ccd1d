"""`/metrics` of `--workers`: the same numbers whichever process is asked."""

import os
import re
import signal
from pathlib import Path

import httpx2
import msgspec
import pytest
from tests.cli.conftest import EXAMPLE
from tests.cli.nap import call_tool
from tests.kit.program import Program, Programs
from tests.kit.waits import PATIENCE, wait_until

from headway.observability.metrics_of_processes import Ended, Snapshot, Snapshots, add_snapshots

CALLS = 12


def read_metric(url: str, pattern: str) -> float:
    """What one process, chosen by the system, says: each request has a connection of its own."""
    page = httpx2.get(url.replace("/mcp", "/metrics"), timeout=PATIENCE).text
    found = re.search(rf"^{pattern} (\S+)$", page, re.MULTILINE)
    return 0.0 if found is None else float(found[1])


def written_calls(directory: Path) -> float:
    """The calls that are in the files of all processes."""
    counters = add_snapshots(Snapshots(directory).read_others()).counters
    return sum(value for _, value in counters.get("headway_calls", []))


def children(program: Program) -> list[int]:
    return list(
        map(int, Path(f"/proc/{program.pid}/task/{program.pid}/children").read_text().split())
    )


def test_every_process_tells_the_calls_of_all_and_none_goes_back(programs: Programs):
    calls = r'headway_calls_total\{end="completed",tool="types"\}'
    seconds = r'headway_call_seconds_count\{tool="types"\}'
    program = programs.start("run", str(EXAMPLE), "--port", "0", "--workers", "3")
    url = program.wait_for("serving").split(" at ")[1].split()[0]
    asked = {"text": "a", "number": 1, "flag": True, "items": [1]}
    for _ in range(CALLS):
        assert "result" in call_tool(url, "types", **asked)

    def all_say(number: float) -> bool:
        return all(read_metric(url, calls) == number for _ in range(8))

    wait_until(lambda: all_say(CALLS))
    assert read_metric(url, seconds) == CALLS
    limit = read_metric(url, r'headway_limit\{setting="max_runs"\}')
    assert limit == 1000  # of one process: so is what is in use of it
    os.kill(children(program)[0], signal.SIGKILL)
    program.wait_for("another one is started")
    assert all_say(CALLS)
    call_tool(url, "types", **asked)
    wait_until(lambda: all_say(CALLS + 1))


def test_processes_that_have_ended_leave_one_file(programs: Programs, tmp_path: Path):
    """A server whose processes die again and again reads as many files as it has processes."""
    program = programs.start(
        "run", str(EXAMPLE), "--port", "0", "--workers", "2", env={"TMPDIR": str(tmp_path)}
    )
    url = program.wait_for("serving").split(" at ")[1].split()[0]
    (directory,) = tmp_path.glob("headway-metrics-*")
    call_tool(url, "types", text="a", number=1, flag=True, items=[1])
    completed = r'headway_calls_total\{end="completed",tool="types"\}'
    wait_until(lambda: written_calls(directory) == 1)  # a killed process loses what is not
    for _ in range(3):
        os.kill(children(program)[0], signal.SIGKILL)
        program.wait_for("another one is started")
        wait_until(lambda: len(list(directory.glob("*.counts"))) == 3)  # two processes, the ended
    assert [read_metric(url, completed) for _ in range(6)] == [1] * 6


def test_a_process_that_ends_while_it_is_read_is_counted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Its file may be put among the ended ones between any two looks at the directory."""
    counted = Snapshot({}, {"calls": [(["a"], 1.0)]}, {})
    (tmp_path / "2147483647-dead.counts").write_bytes(msgspec.msgpack.encode(counted))
    parent, reader = Snapshots(tmp_path), Snapshots(tmp_path)
    find = Snapshots._files

    def find_too_late(self: Snapshots, ended: Ended) -> list[Path]:
        if self is reader:
            parent.fold_ended()
        return find(self, ended)

    monkeypatch.setattr(Snapshots, "_files", find_too_late)
    assert add_snapshots(reader.read_others()).counters == counted.counters
