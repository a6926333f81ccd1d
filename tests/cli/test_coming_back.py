"""Leaving a call and coming back to it, and what of it is shown."""

import inspect
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.conftest import Command
from tests.kit.program import Program, Programs, programs_in
from tests.kit.terminal import Terminal
from tests.kit.waits import wait_until

from headway.cli.commands.attach import attach
from headway.cli.commands.call import call

LASTING = Path(__file__).parent / "lasting.py"


@pytest.fixture(scope="module")
def served_lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with programs_in(tmp_path_factory.mktemp("lasting")) as programs:
        yield programs.serve("run", f"{LASTING}:mcp", "--port", "0", "--journal", "memory:")[1]


class Waiting:
    """The arguments of a call that waits for a file, and the files."""

    def __init__(self, directory: Path) -> None:
        self.go = directory / "go"
        self.mark = directory / "cancelled"
        self.arguments = ("until", f"go={self.go}", f"mark={self.mark}")


def wait_for_file(path: Path) -> None:
    wait_until(path.exists, f"there is no {path}")


@pytest.fixture
def waiting(tmp_path: Path) -> Waiting:
    return Waiting(tmp_path)


def started(program: Program) -> Program:
    program.wait_for("Waiting for a file")
    return program


@pytest.mark.parametrize("era", [[], ["--era", "2025"], ["--era", "2026"]])
def test_a_call_that_was_left_is_come_back_to(
    programs: Programs, served_lasting: str, waiting: Waiting, era: list[str]
):
    left = programs.run("call", served_lasting, *waiting.arguments, "--detach")
    run = left.out.strip()
    assert (left.code, len(run.split())) == (0, 1)
    assert f"headway attach {run} {served_lasting}" in left.err
    back = started(programs.start("attach", run, served_lasting, *era))
    waiting.go.touch()
    ended = back.finish()
    assert (ended.code, ended.out) == (0, "gone\n")
    again = programs.run("attach", f"headway://runs/{run}", served_lasting, *era)
    assert (again.code, again.out) == (0, "gone\n")
    assert not waiting.mark.exists()


def test_who_came_back_may_cancel(programs: Programs, served_lasting: str, waiting: Waiting):
    run = programs.run("call", served_lasting, *waiting.arguments, "--detach").out.strip()
    back = started(programs.start("attach", run, served_lasting))
    back.interrupt()
    ended = back.finish()
    assert (ended.code, ended.err.splitlines()[-1]) == (130, "headway: cancelled")
    wait_for_file(waiting.mark)
    late = programs.run("attach", run, served_lasting)
    assert (late.code, late.out) == (1, "")
    assert "cancelled" in late.err


def test_sigterm_cancels_a_call(programs: Programs, served_lasting: str, waiting: Waiting):
    program = started(programs.start("call", served_lasting, *waiting.arguments))
    program.interrupt(signal.SIGTERM)
    assert program.finish().code == 128 + signal.SIGTERM
    wait_for_file(waiting.mark)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["call", str(LASTING), "steps", "number=1", "marks=m", "--detach"], "a TARGET ends with"),
        (["call", "URL", "no_task", "number=1", "marks=m", "--detach"], "cannot be left running"),
        (["attach", "nonsense", "URL"], "there is no call nonsense to come back to"),
        (["attach", "a b", "URL"], "'a b' is no id of a call"),
        (["attach", "abc", "server.py"], "server.py is no URL"),
        (
            ["call", "URL", "steps", "number=1", "marks=m", "--parts", "no/where"],
            "cannot be written",
        ),
        (
            ["call", "URL", "steps", "number=1", "marks=m", "--detach", "--timeout", "5s"],
            "--timeout needs somebody who waits",
        ),
        (["call", "URL", "steps", "number=1", "marks=m", "--key", ""], "--key is a text of 1 to"),
    ],
)
def test_what_cannot_be_left_or_come_back_to_is_refused(
    command: Command, served_lasting: str, arguments: list[str], says: str
):
    finished = command(*(served_lasting if each == "URL" else each for each in arguments))
    assert (finished.code, finished.out) == (2, "")
    assert says in finished.err


def test_who_comes_back_has_all_options_that_are_not_about_what_is_called():
    options = [set(inspect.signature(command).parameters) for command in (call, attach)]
    of_call = {"place", "tool", "pairs", "document", "key", "detach", "debug"}
    assert options[0] - options[1] == of_call
    assert options[1] - options[0] == {"run", "url"}


def test_a_call_with_the_key_of_an_earlier_one_is_not_done_again(
    command: Command, served_lasting: str, tmp_path: Path
):
    arguments = (
        "call",
        served_lasting,
        "steps",
        "number=2",
        f"marks={tmp_path / 'marks'}",
        "--key",
        "one",
    )
    first, second = command(*arguments), command(*arguments)
    assert first.out == second.out
    assert (tmp_path / "marks").read_text() == "called\n"


def test_on_a_terminal_ctrl_c_asks_and_the_call_may_go_on(
    programs: Programs, served_lasting: str, waiting: Waiting, tmp_path: Path
):
    with Terminal("call", served_lasting, *waiting.arguments, home=tmp_path) as terminal:
        terminal.wait_for("Waiting for a file")
        terminal.type("\x03")
        terminal.wait_for("Leave the call running, or cancel it?")
        terminal.type("l\n")
        assert terminal.finish() == 130
        way_back = terminal.shown.split("come back with: headway ")[1].split()
    assert not waiting.mark.exists()
    waiting.go.touch()
    assert programs.run(*way_back).out == "gone\n"


@pytest.mark.parametrize("typed", ["c\n", "\n", "\x03"])
def test_on_a_terminal_ctrl_c_asks_and_the_call_may_be_cancelled(
    served_lasting: str, waiting: Waiting, tmp_path: Path, typed: str
):
    with Terminal("call", served_lasting, *waiting.arguments, home=tmp_path) as terminal:
        terminal.wait_for("Waiting for a file")
        terminal.type("\x03")
        terminal.wait_for("Leave the call running, or cancel it?")
        terminal.type(typed)
        assert terminal.finish() == 130
        assert "headway: cancelled" in terminal.shown
    wait_for_file(waiting.mark)


def test_a_server_that_is_gone_leaves_a_way_back(programs: Programs, waiting: Waiting):
    server, url = programs.serve(
        "run", f"{LASTING}:mcp", "--port", "0", "--journal", "memory:", "--set", "retry=100ms"
    )
    program = started(programs.start("call", url, *waiting.arguments, "--retry-for", "200ms"))
    server.interrupt(signal.SIGKILL)
    ended = program.finish()
    assert ended.code == 4
    assert "Come back with: headway attach " in ended.err
    assert ended.err.rstrip().endswith(url)


def test_parts_and_progress_go_where_they_are_wanted(
    command: Command, served_lasting: str, tmp_path: Path
):
    way = ("call", served_lasting, "steps", "number=2", f"marks={tmp_path / 'marks'}")
    assert "+ " not in command(*way, "--parts", "none").err
    assert '+ {"step": 2}' in command(*way, "--parts", "all").err
    file = tmp_path / "parts.jsonl"
    shown = command(*way, "--parts", str(file)).err
    assert ("+ " in shown, "[2/2] Step 2" in shown) == (False, True)
    assert [json.loads(line) for line in file.read_text().splitlines()] == [
        {"step": 1},
        {"step": 2},
    ]
    quiet = command(*way, "--quiet")
    assert (json.loads(quiet.out), quiet.err) == ([1, 2], "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's full device")
@pytest.mark.parametrize("option", ["--parts", "--trace"])
def test_a_full_disk_loses_no_result(
    command: Command, served_lasting: str, tmp_path: Path, option: str
):
    way = ("call", served_lasting, "steps", "number=2", f"marks={tmp_path / 'marks'}")
    ended = command(*way, option, "/dev/full")
    assert (ended.code, json.loads(ended.out)) == (1, [1, 2]), ended.err
    assert ended.err.endswith("headway: /dev/full is not whole: No space left on device\n")


def test_messages_on_a_terminal_are_not_torn_by_a_bar(served_lasting: str, tmp_path: Path):
    way = ("call", served_lasting, "steps", "number=3", f"marks={tmp_path / 'marks'}")
    with Terminal(*way, "--trace", "-", home=tmp_path) as terminal:
        assert terminal.finish() == 0
    lines = [line for line in terminal.shown.splitlines() if '"time"' in line]
    assert all(json.loads(line)["message"] for line in lines)
    assert len(lines) > 5
    assert "\x1b" not in terminal.shown


def test_the_messages_of_the_protocol_can_be_seen(
    command: Command, served_lasting: str, tmp_path: Path
):
    way = ("call", served_lasting, "steps", "number=1", f"marks={tmp_path / 'marks'}")
    file = tmp_path / "trace.jsonl"
    command(*way, "--trace", str(file))
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    methods = [(line["to"], line["message"].get("method")) for line in lines]
    assert ("server", "tools/call") in methods
    assert ("client", "notifications/progress") in methods
    assert all(isinstance(line["time"], float) for line in lines)
    assert '"method": "tools/call"' in command(*way, "--quiet", "--trace", "-").err
