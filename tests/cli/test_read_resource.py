"""`headway read` and `headway prompt`."""

import json
from pathlib import Path

import pytest
from tests.cli.conftest import Command
from tests.kit.program import Programs

SERVER = """
from mcp.server import MCPServer

mcp = MCPServer("all")


@mcp.resource("notes://today", mime_type="text/plain")
def today() -> str:
    return "rest\\x1b[2J\\nand more"


@mcp.resource("bytes://all", mime_type="application/octet-stream")
def everything() -> bytes:
    return bytes(range(256))


@mcp.resource("notes://{day}")
def of(day: str) -> str:
    return f"on {day}\\n"


@mcp.prompt()
def greet(name: str, how: str = "kindly") -> str:
    return f"greet {name} {how}"
"""


@pytest.fixture
def target(tmp_path: Path) -> str:
    file = tmp_path / "all_of_it.py"
    file.write_text(SERVER)
    return f"{file}:mcp"


@pytest.mark.parametrize("era", ["2025", "2026"])
def test_a_text_is_printed_as_it_is(command: Command, target: str, era: str):
    said = command("read", target, "notes://today", "--era", era)
    assert (said.code, said.out) == (0, "rest\x1b[2J\nand more\n")
    assert command("read", target, "notes://monday", "--era", era).out == "on monday\n"
    [content] = json.loads(
        command("read", target, "notes://today", "--era", era, "--output", "json").out
    )["contents"]
    assert (content["uri"], content["mimeType"]) == ("notes://today", "text/plain")


def test_bytes_are_written_as_they_are(command: Command, target: str, tmp_path: Path):
    file = tmp_path / "all.bin"
    said = command("read", target, "bytes://all", "--into", str(file))
    assert (said.code, said.out, file.read_bytes()) == (0, "", bytes(range(256)))
    again = command("read", target, "bytes://all", "--into", str(file))
    assert (again.code, "cannot be written: File exists" in again.err) == (2, True)


def test_what_is_not_there_is_refused(programs: Programs, target: str):
    said = programs.run("read", target, "nothing://here")
    assert said.code != 0
    assert "nothing://here" in said.err
    assert len(said.err.splitlines()) == 1


@pytest.mark.parametrize("era", ["2025", "2026"])
def test_a_prompt_is_filled_in(command: Command, target: str, era: str):
    said = command("prompt", target, "greet", "name=Ada", "how=a=b", "--era", era)
    assert (said.code, said.out) == (0, "user: greet Ada a=b\n")
    whole = json.loads(command("prompt", target, "greet", "name=Ada", "--output", "json").out)
    assert whole["messages"][0]["content"]["text"] == "greet Ada kindly"


@pytest.mark.parametrize(
    ("words", "why"),
    [(("greet", "Ada"), "write name=value"), (("nobody",), "nobody"), (("greet",), "name")],
)
def test_a_prompt_that_cannot_be_filled_in_says_why(
    command: Command, target: str, words: tuple[str, ...], why: str
):
    said = command("prompt", target, *words)
    assert said.code != 0
    assert why in said.err
