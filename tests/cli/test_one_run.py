"""`headway show`, `watch`, `result` and `logs`: one run, from another terminal than its call's."""

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.cli.conftest import EXAMPLE
from tests.cli.nap import NapCall, call_tool
from tests.kit.program import Programs
from tests.kit.terminal import Terminal
from tests.kit.waits import PATIENCE, wait_until


class Site(NamedTuple):
    """A server on the user's own journal."""

    programs: Programs
    url: str

    def newest(self, *options: str) -> dict[str, Any]:
        """The newest run, as `headway runs` has it."""
        return json.loads(self.programs.run("runs", "--output", "json", *options).out)[0]

    def call_meanwhile(self, tool: str, **arguments: object) -> threading.Thread:
        """Begin a call whose answer nobody looks at."""
        call = threading.Thread(target=call_tool, args=(self.url, tool), kwargs=arguments)
        call.start()
        wait_until(
            lambda: json.loads(self.programs.run("runs", "--tool", tool, "--output", "json").out)
        )
        return call


@pytest.fixture
def site(programs: Programs) -> Site:
    _program, url = programs.serve(
        "run", f"{EXAMPLE}:mcp", "--port", "0", "--set", "max_result=2000"
    )
    return Site(programs, url)


@pytest.fixture
def napping(site: Site) -> Iterator[Site]:
    call = NapCall(site.url, 600)
    call.start()
    call.until_it_naps()
    yield site
    site.programs.run("cancel", site.newest("--tool", "nap", "--all")["run"])
    call.join(PATIENCE)


def test_a_failed_run_says_why_and_when_and_whose_it_was(site: Site) -> None:
    call_tool(site.url, "fail")
    row = site.newest("--failed")
    shown = site.programs.run("show", row["reference"])
    assert shown.code == 0
    lines = dict(line.split(maxsplit=1) for line in shown.out.splitlines() if "  " in line.strip())
    assert lines["Run"].split() == [row["reference"], row["run"]]
    assert (lines["Tool"], lines["State"]) == ("fail", "failed")
    assert {"Accepted", "Started", "Ended", "Took", "Caller", "Server"} <= lines.keys()
    assert "Error\n  Error executing tool fail" in shown.out
    all_of_it = json.loads(site.programs.run("show", row["run"][:12], "--output", "json").out)
    assert all_of_it["result"]["isError"] is True
    assert all_of_it["error"].startswith("Error executing tool fail")
    assert all_of_it["ended"] == row["ended"]


def test_a_run_shows_its_parts_and_logs(site: Site) -> None:
    call_tool(site.url, "count", steps=2, note="a")
    run = site.newest("--all")["reference"]
    shown = site.programs.run("show", run).out
    assert 'Parts (1)\n  + {"file": "a.txt"}' in shown
    assert 'warning: {"note": "a"}' in shown
    assert "Progress   2/2 Step 2" in shown
    assert "Result\n  counted to 2" in shown
    told = json.loads(site.programs.run("show", run, "--output", "json").out)
    assert told["parts"] == [{"file": "a.txt"}]
    assert [(log["level"], log["data"]) for log in told["logs"]] == [("warning", {"note": "a"})]
    logs = site.programs.run("logs", run)
    assert (logs.code, logs.out.partition(" ")[2]) == (0, 'warning: {"note": "a"}\n')
    (line,) = site.programs.run("logs", run, "--output", "json").out.splitlines()
    assert json.loads(line)["data"] == {"note": "a"}


def test_arguments_are_named_and_their_values_only_where_asked_for(site: Site) -> None:
    call_tool(site.url, "again", secret="hunter2")
    run = site.newest("--all")["run"]
    plain = site.programs.run("show", run).out
    assert "Arguments  secret\n" in plain
    everything = [plain, site.programs.run("show", run, "--output", "json").out]
    everything.append(site.programs.run("runs", "--all", "--output", "json").out)
    assert not any("hunter2" in text for text in everything)
    asked = json.loads(site.programs.run("show", run, "--arguments", "--output", "json").out)
    assert asked["arguments"] == {"secret": "hunter2"}
    assert '"secret": "hunter2"' in site.programs.run("show", run, "--arguments").out
    call_tool(site.url, "count", note="hunter2")
    other = site.programs.run("show", site.newest("--all")["run"], "--arguments").out
    assert "not in the journal" in other


def test_a_watch_shows_progress_and_ends_as_the_run_does(site: Site, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    call = site.call_meanwhile("steps", gate=str(gate))
    run = site.newest()["reference"]
    watch = site.programs.start("watch", run)
    watch.wait_for("[1/2] first")
    logs = site.programs.start("logs", run, "--follow")
    logs.wait_for_output("info: one")
    refused = site.programs.run("result", run)
    assert (refused.code, "has not ended (working, 1/2 first)" in refused.err) == (1, True)
    waiting = site.programs.start("result", run, "--wait")
    gate.write_text("go")
    watch.wait_for("[2/2] second")
    seen, told, last = watch.finish(), waiting.finish(), logs.finish()
    assert (seen.code, seen.out) == (0, "")
    assert (told.code, told.out) == (0, "all of it\n")
    assert [line.partition(" ")[2] for line in last.out.splitlines()] == ["info: one", "info: two"]
    call.join(PATIENCE)


def test_a_watch_of_a_failed_run_ends_with_its_error(site: Site) -> None:
    call_tool(site.url, "fail")
    run = site.newest("--failed")["reference"]
    for command in ("watch", "result"):
        ended = site.programs.run(command, run)
        assert (ended.code, ended.out) == (1, "")
        assert "Error executing tool fail" in ended.err


def test_a_watch_of_a_cancelled_run_ends_with_the_reason(napping: Site) -> None:
    run = napping.newest()["run"]
    watch = napping.programs.start("watch", run)
    napping.programs.run("cancel", run, "--reason", "too slow")
    ended = watch.finish()
    assert (ended.code, ended.err.splitlines()[-1]) == (1, "headway: Request cancelled: too slow")


def test_ctrl_c_stops_the_watching_and_not_the_run(napping: Site) -> None:
    row = napping.newest()
    with Terminal("watch", row["reference"], home=napping.programs.home) as terminal:
        terminal.wait_for(row["reference"])
        terminal.type("\x03")
        assert terminal.finish() == 130
    assert "the run is left as it is" in terminal.shown
    assert napping.newest()["run"] == row["run"]


def test_a_result_that_was_too_large_for_an_answer_is_printed_whole(site: Site) -> None:
    call_tool(site.url, "count", steps=1)
    call_tool(site.url, "much")
    run = site.newest("--all", "--tool", "much")["run"]
    whole = site.programs.run("result", run)
    assert (whole.code, len(whole.out)) == (0, 50_001)


@pytest.mark.parametrize("command", ["show", "watch", "result", "logs"])
def test_a_name_of_no_run_or_of_several_is_refused(site: Site, command: str) -> None:
    call_tool(site.url, "noisy")
    call_tool(site.url, "noisy")
    none = site.programs.run(command, "nothing-like-it")
    assert (none.code, "names no run; see headway runs --all" in none.err) == (2, True)
    both = site.programs.run(command, site.newest("--all")["run"][:8])
    assert (both.code, "names several runs" in both.err) == (2, True)
