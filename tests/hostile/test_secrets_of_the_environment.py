"""No program that a tool starts inherits Headway's secrets, and no token stands in `ps`."""

import os
from hashlib import sha256
from pathlib import Path

import pytest
import typer
from tests.kit.program import programs_in

from headway.cli import environment
from headway.cli.commands.list_tools import headers_of

SECRETS = {
    "HEADWAY_JOURNAL": "redis://:hunter2@db/0",
    "HEADWAY_TOKEN": "hunter2",
    "HEADWAY_SOME_PASSWORD": "hunter2",
}


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_taken", {})
    for name in [each for each in os.environ if each.startswith("HEADWAY_")]:
        monkeypatch.delenv(name)


def test_secrets_are_taken_out_and_are_there_for_ourselves(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**SECRETS, "HEADWAY_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    environment.take_secrets()
    assert not SECRETS.keys() & os.environ.keys()
    assert os.environ["HEADWAY_PORT"] == "1"
    assert SECRETS.items() <= environment.for_ourselves().items()
    assert environment.token() == "hunter2"


CHILD = """
import os, subprocess, sys
from headway import Headway, in_process, stream_command
from work import names
mcp = Headway("s")
@mcp.tool()
async def inherited() -> list[str]:
    ask = [sys.executable, "-c", "import os; print(*os.environ)"]
    there = (await stream_command(ask)).stdout + subprocess.check_output(ask, text=True)
    there += " ".join(await in_process(names)) + " ".join(os.environ)
    return sorted({each for each in there.split() if each.startswith("HEADWAY_")})
"""


@pytest.mark.parametrize("workers", [[], ["--workers", "2"]], ids=["one process", "two"])
def test_a_tools_children_have_no_secret_of_ours(tmp_path: Path, workers: list[str]) -> None:
    (tmp_path / "s.py").write_text(CHILD)
    (tmp_path / "work.py").write_text("import os\ndef names(): return list(os.environ)\n")
    journal = f"sqlite:///{tmp_path}/own.db"
    env = {"HEADWAY_JOURNAL": journal, "HEADWAY_TOKEN": "x", "HEADWAY_LOG_LEVEL": "info"}
    with programs_in(tmp_path) as programs:
        _, url = programs.serve("run", "s.py:mcp", "--port", "0", *workers, env=env)
        called = programs.run("call", url, "inherited", "--output", "json")
    assert (tmp_path / "own.db").exists()  # who is to know it does, the workers too
    assert called.code == 0, called.err
    assert "HEADWAY_LOG_LEVEL" in called.out
    assert not any(name in called.out for name in SECRETS)


def test_a_secret_that_the_file_names_is_not_inherited_where_it_has_our_prefix(
    tmp_path: Path,
) -> None:
    (tmp_path / "s.py").write_text(CHILD)
    (tmp_path / "work.py").write_text("import os\ndef names(): return list(os.environ)\n")
    (tmp_path / "headway.toml").write_text(
        f'[server]\njournal = "sqlite:///{tmp_path}/${{HEADWAY_DB_PASSWORD}}.db"\n'
        '[auth]\nresource = "https://s.example/mcp"\nissuer = "https://idp.example/"\n'
        '[auth.introspection]\nurl = "https://idp.example/ask"\nclient = "s"\n'
        'secret = "${HEADWAY_IDP_SECRET}"\n'
        f'[auth.tokens.ci]\nsha256 = "{sha256(b"of ci").hexdigest()}"\n'
    )
    env = {"HEADWAY_DB_PASSWORD": "hunter2", "HEADWAY_IDP_SECRET": "hunter2"}
    with programs_in(tmp_path) as programs:
        options = ("--port", "0", "--workers", "2", "--config", str(tmp_path / "headway.toml"))
        _, url = programs.serve("run", "s.py:mcp", *options, env=env)
        token = {"HEADWAY_TOKEN": "of ci"}
        called = programs.run("call", url, "inherited", "--output", "json", env=token)
    assert (tmp_path / "hunter2.db").exists()
    assert called.code == 0, called.err
    assert not any(name in called.out for name in env)


def test_headers_may_come_from_a_file_and_the_token_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "headers"
    file.write_text("# of staging\nX-Tenant: a\n\nX-Key:  b: c \n")
    monkeypatch.setenv("HEADWAY_TOKEN", "hunter2")
    assert headers_of([f"@{file}", "X-Other: d"]) == {
        "X-Tenant": "a", "X-Key": "b: c", "X-Other": "d", "Authorization": "Bearer hunter2",
    }  # fmt: skip
    assert "HEADWAY_TOKEN" not in os.environ
    assert headers_of(["authorization: Basic x"]) == {"authorization": "Basic x"}


@pytest.mark.parametrize(
    "content", ["no colon: \nhunter2\n", "X-Key: hunter2\x01\n", "Bad Name: hunter2"]
)
def test_a_file_with_a_mistake_is_named_by_its_line_and_not_by_what_it_holds(
    content: str, tmp_path: Path
) -> None:
    file = tmp_path / "headers"
    file.write_text(content)
    with pytest.raises(typer.BadParameter, match=r"line \d of ") as refused:
        headers_of([f"@{file}"])
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("token", ["a\nX-Evil: 1", "ä"])
def test_a_token_that_is_none_is_refused_without_being_shown(
    token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADWAY_TOKEN", token)
    with pytest.raises(typer.BadParameter, match="HEADWAY_TOKEN") as refused:
        headers_of(None)
    assert token not in str(refused.value)


def test_a_file_that_is_not_there_or_too_large_is_a_usage_error(tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_text("X: y\n" * 100_000)
    for name, words in ((tmp_path / "none", "cannot be read"), (large, "more than")):
        with pytest.raises(typer.BadParameter, match=words):
            headers_of([f"@{name}"])
