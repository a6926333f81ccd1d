"""`headway generate-cli`: a program with a command for each tool."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from mcp_types import Tool
from tests.cli.conftest import EXAMPLE, Command
from tests.kit.waits import PATIENCE

from headway.cli.commands.generate_cli import program_for


@pytest.fixture
def program(command: Command, served_example: str, tmp_path: Path) -> Path:
    assert command("generate-cli", served_example, "--into", str(tmp_path / "count-it")).code == 0
    return tmp_path / "count-it"


def run(program: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    place = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", **more}
    return subprocess.run(
        [program, *arguments], capture_output=True, text=True, timeout=PATIENCE, check=False,
        env={**os.environ, **place},
    )  # fmt: skip


def test_each_tool_is_a_command_and_each_argument_an_option(program: Path):
    assert run(program, "count", "--steps", "2").stdout == "counted to 2\n"
    typed = run(
        program, "types", "--text", "a b", "--number", "1.5", "--flag", "true",
        "--items", "[1, 2]", "--quiet",
    )  # fmt: skip
    assert json.loads(typed.stdout)["items"] == [1, 2]
    assert typed.stderr == ""
    assert run(program, "fail").returncode == 1
    missing = run(program, "types")
    assert missing.returncode == 2
    assert "--text" in missing.stderr
    elsewhere = run(program, "count", HEADWAY_PLACE="http://127.0.0.1:9/mcp")
    assert elsewhere.returncode != 0
    assert "127.0.0.1:9" in elsewhere.stderr
    told = run(program, "count", "--help").stdout
    assert "Count, and tell." in told
    assert "How far to count" in told


def test_what_is_there_stays_and_without_a_file_it_is_printed(
    command: Command, program: Path, served_example: str
):
    before = program.read_text()
    again = command("generate-cli", served_example, "--into", str(program))
    assert again.code == 2
    assert "stays as it is" in again.err
    assert program.read_text() == before == command("generate-cli", served_example).out


def test_a_target_is_named_for_any_directory(command: Command):
    said = command("generate-cli", os.path.relpath(EXAMPLE) + ":mcp").out
    assert f"PLACE = '{EXAMPLE}:mcp'" in said


def test_a_tool_that_cannot_be_a_command_is_left_out_and_named(command: Command, tmp_path: Path):
    file = tmp_path / "odd.py"
    file.write_text(
        "from mcp.server import MCPServer\nmcp = MCPServer('odd')\n"
        "@mcp.tool(name='two words')\ndef two() -> int: return 2\n"
    )
    said = command("generate-cli", f"{file}:mcp")
    assert said.code == 2
    assert "has no tools whose names can be commands" in said.err
    with file.open("a") as opened:
        opened.write("@mcp.tool()\ndef one() -> int: return 1\n")
    said = command("generate-cli", f"{file}:mcp")
    assert "left out, because a command cannot be called so: two words" in said.err
    assert '"one"' in said.out


def test_nothing_that_a_server_says_is_executed(tmp_path: Path):
    evil = "x'''\n\"\"\"\nraise SystemExit('evil')\n#\\"
    tool = Tool(
        name="tool", description=f"100%s {evil}\x1b[2J",
        input_schema={
            "type": "object",
            "properties": {evil: {}, "good": {"description": f"%(evil)s {evil}\x1b"}},
        },
    )  # fmt: skip
    file = tmp_path / "made.py"
    file.write_text(program_for("http://127.0.0.1:9/mcp", [tool]))
    told = run_python(file, "--help")
    assert told.returncode == 0, told.stderr
    shown = told.stdout + run_python(file, "tool", "--help").stdout
    assert "--good" in shown
    assert "%(evil)s" in shown
    assert "\x1b" not in shown


def run_python(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
