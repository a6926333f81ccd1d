"""A server that others can reach starts only if somebody has said who may call it."""

import json
import re
import socket
from pathlib import Path

import pytest
from tests.cli.conftest import EXAMPLE, Command
from tests.kit.program import Programs

OWN_AUTH = """
from mcp.server import MCPServer
from mcp.server.auth.settings import AuthSettings

class Nobody:
    async def verify_token(self, token):
        return None

mcp = MCPServer("own", token_verifier=Nobody(), auth=AuthSettings(
    issuer_url="https://idp.example", resource_server_url="https://mcp.example/mcp",
    validate_token_resource=False))
"""

ELSEWHERE = ("--host", "0.0.0.0", "--port", "0", "--journal", "memory:")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "::ffff:0.0.0.0"])
@pytest.mark.parametrize("words", [("run", str(EXAMPLE)), ("serve", "--root", ".")])
def test_a_server_for_everybody_is_not_started_unasked(
    words: tuple[str, ...], host: str, command: Command
):
    done = command(*words, "--host", host, "--port", "0")
    assert done.code == 3
    for remedy in ("[auth]", "--auth FILE", "headway token", "--anonymous"):
        assert remedy in done.err
    assert "serving" not in done.err


def test_processes_and_reloads_are_not_started_either(command: Command):
    for options in (["--workers", "2"], ["--reload"]):
        done = command("run", str(EXAMPLE), "--host", "0.0.0.0", "--port", "0", *options)
        assert (done.code, "--anonymous" in done.err) == (3, True)


def test_a_port_that_was_refused_is_free_again(command: Command):
    with socket.socket() as free:
        free.bind(("0.0.0.0", 0))
        port = str(free.getsockname()[1])
    for _ in range(2):
        done = command("run", str(EXAMPLE), "--host", "0.0.0.0", "--port", port)
        assert "--anonymous" in done.err


@pytest.mark.parametrize("way", ["option", "variable", "file"])
def test_everybody_may_be_let_in_on_purpose(way: str, programs: Programs, tmp_path: Path):
    if way == "file":
        (tmp_path / "headway.toml").write_text("[server]\nanonymous = true\n")
    options = ["--anonymous"] if way == "option" else []
    env = {"HEADWAY_ANONYMOUS": "1"} if way == "variable" else {}
    _, url = programs.serve("run", str(EXAMPLE), *ELSEWHERE, *options, env=env)
    assert programs.run("tools", url).code == 0
    page = {"--header": "Origin: http://evil.example", "Host": "evil.example"}
    forged = ["--header", page["--header"], "--header", f"Host: {page['Host']}"]
    refused = programs.run("tools", url, *forged)
    assert refused.code != 0
    assert "403" in refused.err


@pytest.mark.parametrize("workers", ["1", "2"])
def test_tokens_are_enough(workers: str, programs: Programs):
    token = programs.run("token", "alice", "--into", "auth.toml").out.strip()
    _, url = programs.serve(
        "run", str(EXAMPLE), *ELSEWHERE, "--auth", "auth.toml", "--workers", workers,
        *(["--journal", "sqlite:///x.db"] if workers == "2" else []),
    )  # fmt: skip
    assert programs.run("tools", url, env={"HEADWAY_TOKEN": token}).code == 0
    assert programs.run("tools", url).code != 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_server_that_asks_for_tokens_itself_may_start(
    workers: str, programs: Programs, tmp_path: Path
):
    (tmp_path / "own.py").write_text(OWN_AUTH)
    _, url = programs.serve(
        "run", "own.py", "--host", "0.0.0.0", "--port", "0", "--workers", workers
    )
    refused = programs.run("tools", url)
    assert refused.code != 0
    assert "401" in refused.err


def test_tokens_and_no_tokens_cannot_both_be_meant(command: Command, tmp_path: Path):
    command("token", "alice", "--into", str(tmp_path / "headway.toml"))
    done = command("run", str(EXAMPLE), "--anonymous", "--port", "0")
    assert done.code == 3
    assert "leave one of them out" in done.err


@pytest.mark.parametrize(("host", "is_refused"), [("127.0.0.1", False), ("0.0.0.0", True)])
def test_a_socket_of_a_service_manager_counts_by_its_address(
    host: str, is_refused: bool, command: Command
):
    """Without a journal that can be opened it ends either way, and says for what."""
    with socket.socket() as inherited:
        inherited.bind((host, 0))
        number = str(inherited.detach())
        done = command("run", str(EXAMPLE), "--fd", number, "--journal", "sqlite:////nowhere/x.db")
    assert done.code == 3
    assert ("--anonymous" in done.err) is is_refused


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_loopback_needs_nothing(host: str, command: Command):
    done = command("run", str(EXAMPLE), "--host", host, "--port", "0", "--journal", "redis://[")
    assert "--anonymous" not in done.err


def test_what_is_shipped_for_many_machines_asks_for_tokens():
    deploy = Path(__file__).parents[2] / "deploy"
    assert "HEADWAY_HOST=0.0.0.0" in (deploy / "Dockerfile").read_text()
    for name in ("compose.yaml", "kubernetes/headway.yaml"):
        text = (deploy / name).read_text()
        assert re.search(r"^[^#\n]*HEADWAY_AUTH\b", text, re.MULTILINE), name
        assert "ANONYMOUS" not in text


def test_the_file_may_say_it(command: Command):
    schema = json.loads(command("check", "--schema").out)
    known = schema["properties"]["server"]["properties"]
    assert known["anonymous"] == {"type": "boolean"}
