"""`headway discover`: the servers that other programs know."""

import json
from pathlib import Path

import pytest
from tests.cli.conftest import Command

SERVERS = {
    "mcpServers": {
        "remote": {"url": "https://ada:hunter2@mcp.example.com/mcp?key=hunter2"},
        "local": {
            "command": "npx",
            "args": ["-y", "tool", "--api-key", "hunter2", "--token=hunter2", "--port", "80"],
            "env": {"API_KEY": "hunter2"},
        },
        "none": 7,
        "empty": {},
        "evil\x1b[2J": {"command": "a\x1bb"},
    }
}


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "XDG_CONFIG_HOME", "CODEX_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_what_install_has_written_is_found_in_each_program(command: Command):
    for client in ("claude-code", "cursor", "codex", "gemini-cli", "vscode"):
        assert command("install", client, "http://127.0.0.1:8000/mcp", "--write").code == 0
    found = json.loads(command("discover", "--output", "json").out)
    assert [server["client"] for server in found] == [
        "Claude Code", "VS Code", "Cursor", "Codex", "Gemini CLI",
    ]  # fmt: skip
    assert {(server["name"], server["place"]) for server in found} == {
        ("headway", "http://127.0.0.1:8000/mcp")
    }


@pytest.mark.parametrize("output", ["text", "json"])
def test_no_secret_is_shown_and_nothing_drives_the_terminal(
    output: str, command: Command, tmp_path: Path
):
    write(tmp_path / "home" / ".cursor" / "mcp.json", json.dumps(SERVERS))
    said = command("discover", "--output", output)
    assert said.code == 0
    assert "hunter2" not in said.out
    assert "\x1b" not in said.out
    assert "https://mcp.example.com/mcp" in said.out
    assert "npx -y tool --api-key … --token=… --port 80" in (
        said.out.replace("\\u2026", "…").replace("'", "")
    )


def test_a_file_that_cannot_be_read_is_named_and_the_others_are_listed(
    command: Command, tmp_path: Path
):
    write(tmp_path / "home" / ".cursor" / "mcp.json", "{not JSON")
    write(tmp_path / "home" / ".gemini" / "settings.json", '{"mcpServers": []}')
    write(tmp_path / ".vscode" / "mcp.json", '{"servers": {"one": {"url": "http://h/mcp"}}}')
    said = command("discover")
    assert "one  http://h/mcp" in said.out
    assert "Cursor is left out" in said.err
    assert "Gemini CLI is left out" in said.err


def test_without_any_it_says_where_it_has_looked(command: Command):
    said = command("discover")
    assert (said.code, said.out) == (0, "")
    assert "no servers in the configurations of Claude Code" in said.err
    assert command("discover", "--output", "json").out == "[]\n"
