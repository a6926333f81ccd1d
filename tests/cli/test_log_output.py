"""How a server writes its log: lines or JSON, requests too, or as a file says; no secret in it."""

import json
import signal
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import EXAMPLE
from tests.cli.nap import call_tool
from tests.kit.program import Program, Programs

SECRET = "hunter2"


def ended(program: Program) -> str:
    """Everything that a server has written to stderr, after its end."""
    program.interrupt(signal.SIGTERM)
    return program.finish().err


def start(programs: Programs, *options: str) -> tuple[Program, str]:
    return programs.serve("run", f"{EXAMPLE}:mcp", "--port", "0", *options)


def json_lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def test_a_failed_call_is_found_in_the_log_by_the_reference_of_the_list(programs: Programs) -> None:
    program, url = start(programs)
    answer = call_tool(url, "fail")
    call_tool(url, "again", secret=SECRET)
    (row,) = json.loads(programs.run("runs", "--failed", "--output", "json").out)
    assert json.loads(answer)["result"]["_meta"]["headway/reference"] == row["reference"]
    err = ended(program)
    named = [line for line in err.splitlines() if row["reference"] in line]
    (call,) = [line for line in named if "headway.calls" in line]
    assert f"call {row['reference']} fail by - failed after " in call
    # And what the tool raised, with the author's own frame, is in a record of the same run.
    assert f"(run {row['reference']})" in err
    assert "ValueError: it broke" in err
    assert SECRET not in err


def test_as_json_each_record_is_an_object_that_names_its_run(programs: Programs) -> None:
    program, url = start(programs, "--log-format", "json")
    call_tool(url, "fail")
    records = json_lines(ended(program))
    (call,) = [record for record in records if record["logger"] == "headway.calls"]
    assert (call["level"], call["call"]["tool"], call["call"]["end"]) == ("info", "fail", "failed")
    assert call["call"]["answered"] == "json"
    (raised,) = [record for record in records if "exception" in record]
    assert raised["run"] == call["run"] == call["call"]["reference"]
    assert raised["exception"].splitlines()[-2:] == [
        "ValueError: it broke", "(frames of Headway and the SDK are left out)",
    ]  # fmt: skip


def test_an_access_log_has_a_line_for_each_request_and_no_query(programs: Programs) -> None:
    import httpx2

    program, url = start(programs, "--access-log")
    httpx2.get(url.replace("/mcp", f"/healthz?token={SECRET}"))
    err = ended(program)
    assert '"GET /healthz HTTP/1.1" 200' in err
    assert SECRET not in err


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_start_says_version_tools_and_journal(
    programs: Programs, tmp_path: Path, workers: str
) -> None:
    journal = tmp_path / "j.db"
    program, url = start(programs, "--journal", f"sqlite:///{journal}", "--workers", workers)
    line = program.wait_for("headway: headway ")
    listed = json.loads(programs.run("tools", url, "--output", "json").out)
    assert line == f"headway: headway {version('headway')}, {len(listed)} tools, journal {journal}"


def test_without_it_there_is_none(programs: Programs) -> None:
    program, url = start(programs)
    call_tool(url, "count")
    assert "POST /mcp" not in ended(program)


def test_at_warning_there_is_no_line_of_a_call(programs: Programs) -> None:
    program, url = start(programs, "--log-level", "warning")
    call_tool(url, "count")
    assert "headway.calls" not in ended(program)


TOML = """
[handlers.file]
class = "logging.FileHandler"
filename = "{place}"
formatter = "with_run"

[formatters.with_run]
format = "FILE %(name)s [%(headway_run)s] %(message)s"

[root]
handlers = ["file"]
level = "INFO"
"""
INI = """
[loggers]
keys=root
[handlers]
keys=file
[formatters]
keys=plain
[logger_root]
handlers=file
level=INFO
[handler_file]
class=FileHandler
args=("{place}",)
formatter=plain
[formatter_plain]
format=FILE %(name)s [%(headway_run)s] %(message)s
"""


@pytest.mark.parametrize("kind", ["toml", "json", "ini"])
def test_a_file_sets_up_logging_instead(programs: Programs, tmp_path: Path, kind: str) -> None:
    place, config = tmp_path / "out.log", tmp_path / f"log.{kind}"
    text = {"toml": TOML, "ini": INI}.get(kind, "").format(place=place)
    if kind == "json":
        handler = {"class": "logging.FileHandler", "filename": str(place), "formatter": "f"}
        form = {"format": "FILE %(name)s [%(headway_run)s] %(message)s"}
        root = {"handlers": ["file"], "level": "INFO"}
        known = {"formatters": {"f": form}, "handlers": {"file": handler}, "root": root}
        text = json.dumps({"version": 1, **known})
    config.write_text(text)
    program, url = start(programs, "--log-config", str(config))
    call_tool(url, "fail")
    err = ended(program)
    assert "headway.calls" not in err
    written = place.read_text()
    assert "FILE headway.calls [" in written
    (line,) = [each for each in written.splitlines() if each.startswith("FILE headway.calls")]
    reference = line.partition(" call ")[2].split()[0]
    assert f"[{reference}] Tool 'fail' raised" in written


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("none.json", None),
        ("bad.json", "{"),
        ("bad.toml", "[root"),
        ("bad.ini", "x"),
        ("odd.json", '{"handlers": {"a": {"class": "no.such.Class"}}}'),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_at_the_start(
    programs: Programs, tmp_path: Path, name: str, text: str | None
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    done = programs.run("run", f"{EXAMPLE}:mcp", "--port", "0", "--log-config", name)
    assert (done.code, f"headway: --log-config {name}: " in done.err) == (3, True)


def test_an_access_log_is_for_http_alone(programs: Programs) -> None:
    done = programs.run("run", f"{EXAMPLE}:mcp", "--stdio", "--access-log")
    assert (done.code, "--access-log cannot go with --stdio" in done.err) == (2, True)
