"""A token of the start: whoever may read the server's own file has it, and nobody else."""

import json
import stat
from pathlib import Path

import pytest
from tests.cli.conftest import EXAMPLE, Command
from tests.kit.program import Program, Programs

from headway.cli.local_token import find_token, token_file


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    return tmp_path / "home" / "headway" / "tokens"


def start(programs: Programs, *options: str) -> tuple[Program, str, Path]:
    program = programs.start("run", str(EXAMPLE), "--local-token", "--port", "0", *options)
    file = Path(program.wait_for("calls need the token in").split(" in ")[1].split(": ")[0])
    url = program.wait_for("headway: serving ").split(" at ")[1].split()[0]
    return program, url, file


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_user_who_started_it_needs_to_say_nothing(
    workers: str, programs: Programs, tokens: Path
):
    program, url, file = start(programs, "--workers", workers)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(tokens.stat().st_mode) == 0o700
    for _ in range(3):
        assert programs.run("tools", url).code == 0
    assert programs.run("call", url, "count", "steps=1").code == 0
    detached = programs.run("call", url, "count", "steps=1", "--detach").out.strip()
    assert programs.run("attach", detached, url).code == 0
    token = file.read_text().strip()
    program.interrupt()
    log = program.finish().err
    assert token not in log
    assert list(tokens.iterdir()) == []


def test_other_users_and_other_addresses_get_nothing(
    programs: Programs, tokens: Path, tmp_path: Path
):
    _, url, file = start(programs)
    other = programs.run("tools", url, env={"XDG_DATA_HOME": str(tmp_path / "other")})
    assert other.code != 0
    assert "401" in other.err
    # What `localhost` is need not be this server.
    assert programs.run("tools", url.replace("127.0.0.1", "localhost")).code != 0
    given = {"XDG_DATA_HOME": str(tmp_path / "other"), "HEADWAY_TOKEN": file.read_text()}
    assert programs.run("tools", url, env=given).code == 0
    assert programs.run("tools", url, env={"HEADWAY_TOKEN": "wrong"}).code != 0


def test_a_name_has_a_token_at_each_of_its_addresses(programs: Programs):
    _, url, _ = start(programs, "--host", "localhost")
    assert programs.run("tools", url).code == 0
    assert programs.run("tools", url.replace("localhost", "127.0.0.1")).code == 0


def test_a_token_that_others_may_read_or_have_put_there_is_not_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    file = token_file("127.0.0.1", 8000)
    file.parent.mkdir(parents=True)
    file.write_text("hw_x\n")
    file.chmod(0o600)
    assert find_token("http://127.0.0.1:8000/mcp") == "hw_x"
    for url in ("http://127.0.0.1:8001/mcp", "http://127.0.0.2:8000/mcp", "x.py:mcp", "http://["):
        assert find_token(url) is None
    file.chmod(0o644)
    assert find_token("http://127.0.0.1:8000/mcp") is None
    file.rename(file.with_name("real"))
    file.with_name("real").chmod(0o600)
    file.symlink_to(file.with_name("real"))
    assert find_token("http://127.0.0.1:8000/mcp") is None


def test_one_that_a_killed_server_left_is_replaced(programs: Programs, tokens: Path):
    program, url, file = start(programs)
    old = file.read_text()
    program.end()
    assert file.exists()
    port = url.rpartition(":")[2].partition("/")[0]
    second = programs.start("run", str(EXAMPLE), "--local-token", "--port", port)
    second.wait_for("headway: serving ")
    assert file.read_text() != old
    assert programs.run("tools", url).code == 0


def test_it_goes_with_tokens_of_the_file(programs: Programs):
    alice = programs.run("token", "alice", "--into", "auth.toml").out.strip()
    _, url, _ = start(programs, "--auth", "auth.toml")
    assert programs.run("tools", url).code == 0
    assert programs.run("tools", url, env={"HEADWAY_TOKEN": alice}).code == 0


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--uds", "x.sock"], "is for a port"),
        (["--port", "0", "--anonymous"], "leave one of them out"),
    ],
)
def test_where_it_makes_no_sense_it_is_refused(options: list[str], why: str, command: Command):
    done = command("run", str(EXAMPLE), "--local-token", "--journal", "memory:", *options)
    assert done.code == 3
    assert why in done.err


def test_a_second_caller_of_its_name_is_refused(command: Command, tmp_path: Path):
    command("token", "local", "--into", str(tmp_path / "auth.toml"))
    done = command("run", str(EXAMPLE), "--local-token", "--auth", str(tmp_path / "auth.toml"))
    assert (done.code, "auth.tokens.local" in done.err) == (3, True)


def test_the_file_of_settings_may_ask_for_it(command: Command):
    schema = json.loads(command("check", "--schema").out)
    assert schema["properties"]["server"]["properties"]["local_token"] == {"type": "boolean"}
