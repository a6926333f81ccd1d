"""`headway tools --resources --prompts`: all that a server has."""

import json
from pathlib import Path

import pytest
from tests.cli.conftest import Command

SERVER = '''
from mcp.server import MCPServer

mcp = MCPServer("all")


@mcp.tool()
def one() -> int:
    """The only tool."""
    return 1


@mcp.resource("notes://today", mime_type="text/plain")
def today() -> str:
    """What is to be done \\x1b[2J."""
    return "rest"


@mcp.resource("notes://{day}")
def of(day: str) -> str:
    """A day's note."""
    return day


@mcp.prompt()
def greet(name: str, how: str = "kindly") -> str:
    """Greet somebody."""
    return f"greet {name} {how}"


bare = MCPServer("bare")
'''


@pytest.fixture
def server(tmp_path: Path) -> Path:
    file = tmp_path / "all_of_it.py"
    file.write_text(SERVER)
    return file


def test_resources_templates_and_prompts_are_listed(command: Command, server: Path):
    said = command("tools", f"{server}:mcp", "--resources", "--prompts").out
    assert said.startswith("one\n  The only tool.\n")
    resources, prompts = said.split("\nResources:\n")[1].split("\nPrompts:\n")
    assert "notes://today (text/plain)\n  today\n  What is to be done" in resources
    assert "notes://{day}" in resources
    assert "greet\n  Greet somebody.\n    name: string, required\n    how: string\n" in prompts
    assert "\x1b" not in said


@pytest.mark.parametrize("era", ["2025", "2026"])
def test_as_json_each_list_has_its_name(era: str, command: Command, server: Path):
    said = command(
        "tools", f"{server}:mcp", "--era", era, "--resources", "--prompts", "--output", "json"
    )
    lists = json.loads(said.out)
    assert list(lists) == ["tools", "resources", "prompts"]
    assert lists["tools"][0]["name"] == "one"
    uris = [each.get("uri") or each["uriTemplate"] for each in lists["resources"]]
    assert {"notes://today", "notes://{day}"} <= set(uris)
    assert [each["name"] for each in lists["prompts"]] == ["greet"]
    some = json.loads(command("tools", f"{server}:mcp", "--prompts", "--output", "json").out)
    assert list(some) == ["tools", "prompts"]


def test_a_server_that_has_none_says_so(command: Command, server: Path):
    said = command("tools", f"{server}:bare", "--prompts")
    assert said.code == 0
    assert said.out.endswith("no prompts\n")
