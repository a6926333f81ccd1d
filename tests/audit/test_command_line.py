"""`[audit]` and `--audit`: mistakes, several processes, processes that die, stdio."""

import json
import re
import stat
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest
from tests.audit.records import records_in
from tests.cli.conftest import Command
from tests.kit.program import Programs
from tests.kit.waits import wait_until

CLI = Path(__file__).parents[1] / "cli"
EXAMPLE, LASTING = CLI / "example.py", CLI / "lasting.py"

WRONG = """\
[audit]
to = "syslog:nowhere"
arguments = "all"
redact = "password"
required = "yes"
file = "x"
"""


def test_every_mistake_is_named_with_its_line(command: Command, tmp_path: Path):
    (tmp_path / "headway.toml").write_text(WRONG)
    said = command("check")
    assert said.code == 3
    named = dict(re.findall(r"headway\.toml:(\d+): ([\w.]+):", said.err))
    assert named == {
        "2": "audit.to", "3": "audit.arguments", "4": "audit.redact", "5": "audit.required",
        "6": "audit.file",
    }  # fmt: skip


def test_check_and_the_schema_know_the_section(command: Command, tmp_path: Path):
    (tmp_path / "headway.toml").write_text(
        '[audit]\nto = "audit.jsonl"\narguments = "hashes"\nrequired = true\n'
    )
    said = command("check").out
    assert f"{tmp_path / 'audit.jsonl'}, hashes, required" in said
    schema = json.loads(command("check", "--schema").out)
    jsonschema.validate({"audit": {"to": "x", "redact": ["a*"]}}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"audit": {"where": "x"}}, schema)


@pytest.mark.parametrize(
    ("place", "code", "why"),
    [
        ("syslog:x", 2, "--audit must be syslog:"),
        ("", 2, "--audit"),
        ("missing/a.jsonl", 3, "cannot be written"),
    ],
)
def test_a_place_that_makes_no_sense_starts_nothing(
    place: str, code: int, why: str, command: Command
):
    said = command("run", str(EXAMPLE), "--port", "0", "--journal", "memory:", "--audit", place)
    assert (said.code, why in said.err) == (code, True), said.err


@pytest.mark.parametrize("workers", ["1", "2"])
def test_all_processes_append_to_one_file(workers: str, programs: Programs, tmp_path: Path):
    (tmp_path / "headway.toml").write_text('[audit]\narguments = "values"\n')
    log = tmp_path / "audit.jsonl"
    program, url = programs.serve(
        "run", str(EXAMPLE), "--port", "0", "--workers", workers, "--audit", "audit.jsonl"
    )
    for number in range(4):
        assert programs.run("call", url, "count", f"steps={number}").code == 0
    program.interrupt()
    assert program.finish().code == 0
    told = [each["arguments"]["steps"] for each in records_in(log, "call")]
    assert told == [0, 1, 2, 3]
    assert [len(records_in(log, event)) for event in ("start", "stop")] == [int(workers)] * 2
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_stderr_has_it_between_the_lines_of_the_log(programs: Programs):
    program, url = programs.serve("run", str(EXAMPLE), "--port", "0", "--audit", "stderr")
    assert programs.run("call", url, "count").code == 0
    program.interrupt()
    lines = [line for line in program.finish().err.splitlines() if line.startswith("{")]
    assert [json.loads(line)["event"] for line in lines] == ["start", "call", "stop"]


def test_a_call_whose_process_is_killed_is_recorded_by_the_next(programs: Programs, tmp_path: Path):
    log, marks = tmp_path / "audit.jsonl", tmp_path / "marks"
    options = ("--port", "0", "--journal", "sqlite:///j.db", "--audit", "audit.jsonl")
    program, url = programs.serve("run", str(LASTING), *options, "--set", "lease=1")
    given = (f"marks={marks}", "number=100000")
    assert programs.run("call", url, "steps", *given, "--detach").code == 0
    wait_until(marks.exists)
    program.end()
    assert records_in(log, "call") == []
    second, _ = programs.serve("run", str(LASTING), *options, "--set", "lease=1")
    wait_until(lambda: records_in(log, "call"))
    second.interrupt()
    second.finish()
    (record,) = records_in(log, "call")
    assert (record["tool"], record["end"]) == ("steps", "interrupted")
    assert record["arguments"] == ["marks", "number"]
    assert "went away" in record["error"]


def test_a_call_that_another_process_goes_on_with_is_recorded_there_with_its_source(
    programs: Programs, tmp_path: Path
):
    log = tmp_path / "audit.jsonl"
    options = ("--journal", "sqlite:///j.db", "--audit", "audit.jsonl")
    options += ("--set", "lease=1s", "--set", "retry=100ms")
    program, url = programs.serve("run", str(LASTING), "--port", "0", *options)
    call = programs.start("call", url, "begun_anew", "--key", "mine")
    call.wait_for("Waiting for the end")
    program.end()
    port = url.rpartition(":")[2].partition("/")[0]
    second, _ = programs.serve("run", str(LASTING), "--port", port, *options)
    assert call.finish().code == 0
    second.interrupt()
    second.finish()
    anew = [each for each in records_in(log, "call") if "repeats" not in each]
    (record,) = anew
    assert (record["tool"], record["end"], record["attempt"]) == ("begun_anew", "completed", 2)
    assert record["address"] == "127.0.0.1"
    assert record["client"].startswith("headway")
    assert record["key"]


def test_an_operators_cancel_is_recorded(programs: Programs, tmp_path: Path):
    log, marks = tmp_path / "audit.jsonl", tmp_path / "marks"
    program, url = programs.serve(
        "run", str(LASTING), "--port", "0", "--journal", "sqlite:///j.db", "--audit", "audit.jsonl"
    )
    given = (f"marks={marks}", "number=100000")
    run = programs.run("call", url, "steps", *given, "--detach").out.strip()
    wait_until(marks.exists)
    asked = programs.run("cancel", run, "--journal", "sqlite:///j.db", "--reason", "too long")
    assert asked.code == 0, asked.err
    wait_until(lambda: records_in(log, "call"))
    program.interrupt()
    program.finish()
    (cancel,), (end,) = records_in(log, "cancel"), records_in(log, "call")
    assert (cancel["by"], cancel["reason"], end["end"]) == ("operator", "too long", "cancelled")
    assert cancel["run"] == end["run"]


def test_servers_and_workers_of_the_command_line_record_each_call_once(
    programs: Programs, tmp_path: Path, new_redis_url: Callable[[], str]
):
    target = f"{CLI.parent / 'workers' / 'target.py'}:mcp"
    shared = ("--journal", new_redis_url(), "--audit", "audit.jsonl")
    worker = programs.start("worker", target, *shared)
    worker.wait_for("working for")
    program, url = programs.serve("run", target, "--port", "0", *shared)
    for _ in range(2):
        assert programs.run("call", url, "count", "upto=1").code == 0
    for each in (program, worker):
        each.interrupt()
        each.finish()
    log = tmp_path / "audit.jsonl"
    assert [each["tool"] for each in records_in(log, "call")] == ["count", "count"]


def test_nothing_is_kept_unless_somebody_asks(programs: Programs, tmp_path: Path):
    program, url = programs.serve("run", str(EXAMPLE), "--port", "0")
    assert programs.run("call", url, "count").code == 0
    program.interrupt()
    assert '"event"' not in program.finish().err
    assert list(tmp_path.glob("**/*.jsonl")) == []
