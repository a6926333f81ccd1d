"""`--stdio` on the command line: what goes with it, and what is said when it cannot start."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.kit.stdio import ROOT
from tests.kit.waits import PATIENCE

TARGET = str(Path(__file__).with_name("target.py"))


def headway(
    *arguments: str, cwd: Path = ROOT, env: dict[str, str] | None = None, given: str = ""
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "headway", *arguments],
        cwd=cwd, text=True, capture_output=True, timeout=PATIENCE, check=False, input=given,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | (env or {}),
    )  # fmt: skip


@pytest.mark.parametrize("command", [["run", TARGET], ["serve"]])
@pytest.mark.parametrize(
    "option",
    [
        ["--host", "127.0.0.1"],
        ["--port", "8000"],
        ["--path", "/mcp"],
        ["--allow-host", "example.org"],
        ["--allow-origin", "https://example.org"],
    ],
    ids=lambda option: option[0],
)
def test_what_needs_http_is_refused_in_a_sentence(command: list[str], option: list[str]):
    finished = headway(*command, "--stdio", *option)
    assert (finished.returncode, finished.stdout) == (2, "")
    assert finished.stderr == (
        f"headway: {option[0]} cannot go with --stdio, where nothing is listened on\n"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["run", "--stdio"], 2, "Missing argument 'TARGET'"),
        (["run", "nowhere.py", "--stdio"], 3, "nowhere.py does not exist"),
        (["run", TARGET, "--stdio", "--journal", "sqlite:///corrupt.db"], 3, "corrupt.db"),
        (["run", TARGET, "--stdio", "--journal", "pigeon:"], 3, "pigeon"),
        (["run", "broken.py", "--stdio"], 3, "broken.py cannot be imported"),
        (["run", "startup.py", "--stdio"], 3, "startup code raised ValueError: no database"),
        (["serve", "--stdio", "--root", "nowhere"], 3, "nowhere"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_cannot_start_says_why_on_stderr_only(
    tmp_path: Path, arguments: list[str], code: int, says: str
):
    (tmp_path / "corrupt.db").write_bytes(b"this is no database at all " * 100)
    (tmp_path / "broken.py").write_text("print('loud')\nraise ValueError('broken')\n")
    (tmp_path / "startup.py").write_text(STARTUP)
    finished = headway(*arguments, cwd=tmp_path)
    assert (finished.returncode, finished.stdout) == (code, "")
    told = [line for line in finished.stderr.splitlines() if line.startswith("headway: ")]
    assert len(told) == 1
    assert says in told[0]


STARTUP = """
from contextlib import asynccontextmanager
from mcp.server import MCPServer
from tests.kit.waits import PATIENCE

@asynccontextmanager
async def lifespan(server):
    raise ValueError("no database")
    yield

mcp = MCPServer("startup", lifespan=lifespan)
"""


def test_options_for_http_in_the_environment_are_no_mistake():
    finished = headway("run", TARGET, "--stdio", env={"HEADWAY_PORT": "9000"})
    assert finished.returncode == 0


def test_the_end_of_stdin_at_once_is_an_orderly_end():
    finished = headway("run", TARGET, "--stdio")
    assert (finished.returncode, finished.stdout) == (0, "")
    assert "serving target on stdin and stdout" in finished.stderr
    assert "Traceback" not in finished.stderr


def test_nothing_is_left_in_the_home_of_the_user(tmp_path: Path):
    env = {"XDG_DATA_HOME": str(tmp_path / "data"), "HOME": str(tmp_path)}
    assert headway("run", TARGET, "--stdio", env=env).returncode == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("closed", "name"), [("<&-", "stdin"), (">&-", "stdout")])
def test_a_closed_standard_stream_is_reported(tmp_path: Path, closed: str, name: str):
    command = f"exec {sys.executable} -m headway run {TARGET} --stdio {closed}"
    finished = subprocess.run(
        ["sh", "-c", command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert finished.returncode == 3
    assert f"headway: {name} is closed" in finished.stderr


def test_without_stderr_it_serves_all_the_same():
    command = f"exec {sys.executable} -m headway run {TARGET} --stdio 2>&-"
    process = subprocess.run(
        ["sh", "-c", command], cwd=ROOT, capture_output=True, timeout=PATIENCE, check=False,
        input=b'{"jsonrpc":"2.0","id":1,"method":"ping"}\n',
    )  # fmt: skip
    assert process.stdout == b'{"jsonrpc":"2.0","id":1,"result":{}}\n'


@pytest.mark.requirement("auth.stdio", era="2025 2026")
def test_nobody_is_asked_for_a_token_over_stdio(tmp_path: Path) -> None:
    file = tmp_path / "auth.toml"
    file.write_text(f'[auth.tokens.ci]\nsha256 = "{"0" * 64}"\n[auth.tools]\nadd = ["net"]\n')
    envelope = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    hello = {"protocolVersion": "2025-11-25", "capabilities": {},
             "clientInfo": {"name": "t", "version": "1"}}  # fmt: skip
    call = {"name": "add", "arguments": {"a": 1, "b": 2}}
    for before, meta in (([("initialize", hello)], {}), ([], {"_meta": envelope})):
        asked = [*before, ("tools/call", call | meta)]
        messages = [
            {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
            for number, (method, params) in enumerate(asked)
        ]
        said = headway(
            "run", TARGET, "--stdio", "--config", str(file),
            given="".join(f"{json.dumps(message)}\n" for message in messages),
        )  # fmt: skip
        assert said.returncode == 0, said.stderr
        assert '"text":"3"' in said.stdout.splitlines()[-1].replace(" ", "")
