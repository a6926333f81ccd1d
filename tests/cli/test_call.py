"""`headway call` and `headway tools` as processes, in both eras, over real HTTP."""

import json
from pathlib import Path
from uuid import UUID

import pytest
from tests.cli.conftest import EXAMPLE, Command
from tests.kit.program import Programs
from tests.kit.terminal import Terminal

from headway.cli.server.listener import bind

ERAS = ["2025", "2026"]


@pytest.mark.parametrize("era", ERAS)
def test_progress_logs_and_parts_go_to_stderr_and_the_result_to_stdout(
    programs: Programs, served_example: str, era: str
):
    finished = programs.run("call", served_example, "count", "steps=12", "note=5", "--era", era)
    assert (finished.code, finished.out) == (0, "counted to 12\n")
    lines = finished.err.splitlines()
    assert "[12/12] Step 12" in lines
    assert 'warning: {"note": "5"}' in lines
    assert '+ {"file": "a.txt"}' in lines


@pytest.mark.parametrize("era", ERAS)
def test_ctrl_c_cancels_the_run(
    programs: Programs, command: Command, served_example: str, era: str
):
    mark = f"ctrl-c-{era}"
    program = programs.start("call", served_example, "wait", f"mark={mark}", "--era", era)
    program.wait_for("waiting")
    program.interrupt()
    finished = program.finish()
    assert (finished.code, finished.out) == (130, "")
    assert finished.err.endswith("headway: cancelled\n")
    assert command("call", served_example, "was_cancelled", f"mark={mark}").out == "yes\n"


@pytest.mark.parametrize("era", ERAS)
def test_each_call_has_an_idempotency_key_of_its_own(
    command: Command, served_example: str, era: str
):
    keys = [
        UUID(command("call", served_example, "key", "--era", era).out.strip()) for _ in range(2)
    ]
    assert keys[0] != keys[1]


@pytest.mark.parametrize("era", ERAS)
def test_a_time_limit_cancels_the_run(command: Command, served_example: str, era: str):
    for limit in (0.2, 2, 20, 60):  # a busy machine needs longer than that until a call begins
        mark = f"limit-{era}-{limit:g}"
        finished = command(
            "call", served_example, "wait", f"mark={mark}", "--timeout", f"{limit}s", "--era", era
        )
        assert finished.code == 1
        ends = ("it was cancelled", "the server was told to cancel it", "it was not begun")
        said = finished.err.splitlines()[-1]
        assert said.startswith(f"headway: wait did not finish within {limit:g} s; ")
        if "the server did not confirm" in said and limit < 60:
            continue  # a busy machine
        assert said.endswith(ends)
        answer = command("call", served_example, "was_cancelled", f"mark={mark}").out
        if answer != "never begun\n":
            break
    assert answer == "yes\n"


def test_json_output_is_one_object_with_the_structured_result(
    command: Command, served_example: str
):
    arguments = {"text": "5", "number": 1.5, "flag": True, "items": [1]}
    pairs = [f"{key}={json.dumps(value).strip(chr(34))}" for key, value in arguments.items()]
    finished = command("call", served_example, "types", *pairs, "--output", "json")
    assert finished.code == 0, finished.err
    assert json.loads(finished.out) == {"isError": False, "structuredContent": arguments}


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("number", [0, 1, 3])
@pytest.mark.parametrize("texts", [False, True])
def test_a_list_is_one_json_value(
    command: Command, served_example: str, number: int, texts: bool, era: str
):
    arguments = (f"number={number}", f"texts={json.dumps(texts)}", "--era", era)
    finished = command("call", served_example, "rows", *arguments)
    assert finished.code == 0, finished.err
    rows = [f"row {n}" if texts else {"row": n} for n in range(number)]
    assert json.loads(finished.out) == rows


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_a_terminal_of_any_encoding_can_be_written_to(
    served_example: str, tmp_path: Path, encoding: str
):
    env = {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    with Terminal("call", served_example, "umlauts", home=tmp_path, env=env) as terminal:
        assert terminal.finish() == 0, terminal.shown
    assert "Traceback" not in terminal.shown
    assert ("\\u2713" in terminal.shown) == (encoding != "utf-8")


@pytest.mark.parametrize(
    "place", ["127.0.0.1:8000/mcp", "localhost:8000", "[::1]:8000/mcp", "example.com/mcp"]
)
def test_an_address_without_its_scheme_is_recognised(command: Command, place: str):
    finished = command("call", place, "count")
    assert (finished.code, finished.out) == (2, "")
    assert f"did you mean http://{place} ?" in finished.err


def test_arguments_may_be_given_as_a_json_document(command: Command, served_example: str):
    finished = command("call", served_example, "count", "--json", '{"steps": 2}')
    assert (finished.code, finished.out) == (0, "counted to 2\n")


@pytest.mark.parametrize("era", ERAS)
def test_a_tool_error_is_exit_1_with_its_text(command: Command, served_example: str, era: str):
    finished = command("call", served_example, "fail", "--era", era)
    assert (finished.code, finished.out) == (1, "")
    assert finished.err.startswith("headway: ")


def test_a_tool_error_as_json_is_still_an_object(command: Command, served_example: str):
    finished = command("call", served_example, "fail", "--output", "json")
    assert finished.code == 1
    assert json.loads(finished.out)["isError"] is True


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nope"], "has no tool 'nope'; it has count, types"),
        (["count", "steps=many"], "steps: 'many' is not of type 'integer'"),
        (["count", "stpes=3"], "no argument 'stpes'"),
        (["types", "text=a"], "'number' is a required property"),
        (["count", "steps"], "'steps' is not key=value"),
        (["count", "--json", "{"], "--json is not JSON"),
        (["count", "--header", "nonsense"], "'nonsense' is not a header"),
        (["count", "--timeout", "0"], "'0' is not a duration"),
    ],
)
def test_usage_errors_are_exit_2(
    command: Command, served_example: str, arguments: list[str], says: str
):
    finished = command("call", served_example, *arguments)
    assert (finished.code, finished.out) == (2, "")
    assert says in finished.err
    assert finished.err.startswith("headway: ")
    assert finished.err.count("\n") == 1


def test_a_server_that_is_not_there_is_exit_4(command: Command):
    with bind("127.0.0.1", 0) as listener:
        port = listener.port
    finished = command("tools", f"http://127.0.0.1:{port}/mcp")
    assert finished.code == 4
    assert "is the server running there?" in finished.err
    assert finished.err.count("\n") == 1


@pytest.mark.parametrize("era", [[], ["--era", "2025"], ["--era", "2026"]])
def test_a_wrong_path_is_exit_4(command: Command, served_example: str, era: list[str]):
    finished = command("call", served_example.replace("/mcp", "/nope"), "count", *era)
    assert finished.code == 4
    assert "HTTP 404" in finished.err


def test_no_url_and_no_target_is_exit_3(command: Command):
    finished = command("call", "nowhere.py", "count")
    assert finished.code == 3
    assert "nowhere.py does not exist" in finished.err


def test_a_target_is_served_for_the_call(programs: Programs):
    finished = programs.run("call", str(EXAMPLE), "count", "steps=2")
    assert (finished.code, finished.out) == (0, "counted to 2\n")
    assert "[2/2] Step 2" in finished.err


def test_what_a_target_prints_does_not_mix_with_the_result(programs: Programs):
    finished = programs.run("call", str(EXAMPLE), "noisy", "--output", "json")
    assert json.loads(finished.out)["structuredContent"] == {"result": "quiet"}
    assert "from the tool itself" in finished.err


def test_ctrl_c_ends_a_target_whose_tool_hangs_in_a_thread(programs: Programs):
    program = programs.start("call", str(EXAMPLE), "stuck")
    program.wait_for("stuck")
    program.interrupt()
    assert program.finish().code == 130


@pytest.mark.parametrize("era", ERAS)
def test_a_question_is_declined_where_nobody_can_be_asked(
    command: Command, served_example: str, era: str
):
    finished = command("call", served_example, "ask", "--era", era)
    assert (finished.code, finished.out) == (0, "decline\n")
    assert "declined, no terminal to ask on: Which colour?" in finished.err


@pytest.mark.parametrize("era", ERAS)
def test_a_question_is_asked_on_a_terminal(tmp_path: Path, served_example: str, era: str):
    with Terminal("call", served_example, "ask", "--era", era, home=tmp_path) as terminal:
        terminal.wait_for("colour")
        terminal.type("blue\n")
        terminal.wait_for("y, n")
        terminal.type("\n")
        assert terminal.finish() == 0
        assert "accept blue" in terminal.shown


def test_a_terminal_gets_a_bar(tmp_path: Path, served_example: str):
    with Terminal("call", served_example, "count", "steps=12", home=tmp_path) as terminal:
        assert terminal.finish() == 0
        assert "12/12" in terminal.shown
        assert '+ {"file": "a.txt"}' in terminal.shown
        assert "counted to 12" in terminal.shown


def test_ctrl_c_at_a_question_cancels(tmp_path: Path, served_example: str):
    with Terminal("call", served_example, "ask", home=tmp_path) as terminal:
        terminal.wait_for("colour")
        terminal.type("\x03")
        assert terminal.finish() == 130
        assert "headway: cancelled" in terminal.shown


def test_tools_are_listed_with_descriptions_and_arguments(command: Command, served_example: str):
    finished = command("tools", served_example)
    assert finished.code == 0
    assert finished.out.startswith(
        "count\n"
        "  Count, and tell.\n"
        "\n"
        "  A second paragraph.\n"
        "    steps: integer = 3  How far to count\n"
        "    note: null | string\n"
        "\n"
        "types\n"
    )
    assert "    text: string, required\n" in finished.out


def test_tools_are_listed_as_json(command: Command, served_example: str):
    finished = command("tools", served_example, "--output", "json", "--era", "2025")
    names = [tool["name"] for tool in json.loads(finished.out)]
    assert names[:2] == ["count", "types"]


def test_tools_of_a_target_are_a_table_on_a_terminal(tmp_path: Path):
    with Terminal("tools", str(EXAMPLE), home=tmp_path) as terminal:
        assert terminal.finish() == 0
        assert "What it does" in terminal.shown
        assert "Count, and tell." in terminal.shown


@pytest.mark.parametrize("era", ERAS)
def test_the_rest_of_a_call_that_is_handed_over_is_fetched(
    programs: Programs, command: Command, tmp_path: Path, era: str
):
    clients = tmp_path / "clients.toml"
    clients.write_text('[[client]]\nname = "headway"\ndeadline = "400ms"\nresets = false\n')
    options = ("--hand-over", "30s", "--clients", str(clients), "--journal", "memory:")
    _, url = programs.serve("run", f"{EXAMPLE}:mcp", "--port", "0", *options)
    finished = command("call", url, "nap", "seconds=1.5", "--era", era)
    assert (finished.code, finished.out) == (0, "rested\n"), finished.err
    assert command("call", url, "naps").out == "1\n"
