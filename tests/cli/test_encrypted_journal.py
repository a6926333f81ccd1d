"""`headway run`, and the commands that look into journals, where the journal is encrypted."""

import json
import signal
import stat
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.cli.conftest import EXAMPLE
from tests.cli.nap import call_tool
from tests.kit.program import Programs

from headway.encryption import shown_id

pytestmark = pytest.mark.anyio

LASTING = Path(__file__).with_name("lasting.py")

VARIABLE = "HEADWAY_ENCRYPTION_KEYS"


@pytest.fixture(params=["sqlite", "redis"])
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'j.db'}"
    new_redis_url: Callable[[], str] = request.getfixturevalue("new_redis_url")
    return new_redis_url()


@pytest.fixture
def keys(programs: Programs, tmp_path: Path) -> Path:
    """A file with a key."""
    file = tmp_path / "journal.keys"
    assert programs.run("journal", "key", "--into", str(file)).code == 0
    return file


def first_key(file: Path) -> str:
    return file.read_text().split()[0]


def test_a_key_goes_to_stdout_or_into_a_file_of_its_owner_alone(
    programs: Programs, tmp_path: Path, keys: Path
) -> None:
    line = programs.run("journal", "key").out
    assert line.startswith("hwk_")
    assert shown_id(line.split()[0]) in line
    assert stat.S_IMODE(keys.stat().st_mode) == 0o600
    first = first_key(keys)
    told = programs.run("journal", "key", "--into", str(keys)).err
    assert "as its last, which decrypts" in told
    assert first_key(keys) == first
    assert len(keys.read_text().splitlines()) == 2
    (tmp_path / "other").write_text("something else")
    refused = programs.run("journal", "key", "--into", str(tmp_path / "other"))
    assert (refused.code, "key 1 is none" in refused.err) == (3, True)
    assert (tmp_path / "other").read_text() == "something else"


def test_the_commands_find_the_keys_where_the_server_does(
    programs: Programs, journal: str, keys: Path, tmp_path: Path
) -> None:
    more = ("--port", "0", "--journal", journal, "--encryption-keys", str(keys))
    _, url = programs.serve("run", f"{EXAMPLE}:mcp", *more)
    call_tool(url, "count")
    listed = ("runs", "--all", "--output", "json", "--journal", journal)
    (row,) = json.loads(programs.run(*listed, env={VARIABLE: str(keys)}).out)
    assert row["tool"] == "count"
    config = tmp_path / "conf" / "headway.toml"
    config.parent.mkdir()
    config.write_text('[encryption]\nkeys = "../journal.keys"\n')
    assert json.loads(programs.run(*listed, env={"HEADWAY_CONFIG": str(config)}).out) == [row]
    assert json.loads(programs.run(*listed, cwd=config.parent).out) == [row]
    shown = ("show", row["reference"], "--journal", journal)
    assert "count" in programs.run(*shown, env={VARIABLE: str(keys)}).out
    assert programs.run(
        "journal", "info", "--journal", journal, env={VARIABLE: str(keys)}
    ).out.startswith("Journal")
    for refused in (programs.run(*listed), programs.run("journal", "prune", "--journal", journal)):
        assert refused.code != 0
        assert f"encrypted with the key {shown_id(first_key(keys))}" in refused.err
        assert VARIABLE in refused.err
    assert json.loads(programs.run(*listed, env={VARIABLE: str(keys)}).out) == [row]


def test_a_server_without_the_key_does_not_start(
    programs: Programs, journal: str, keys: Path, tmp_path: Path
) -> None:
    more = ("run", f"{EXAMPLE}:mcp", "--port", "0", "--journal", journal)
    _, url = programs.serve(*more, env={VARIABLE: str(keys)})
    call_tool(url, "count")
    refused = programs.run(*more)
    assert (refused.code, refused.out) == (3, "")
    assert f"encrypted with the key {shown_id(first_key(keys))}" in refused.err
    wrong = tmp_path / "wrong.keys"
    programs.run("journal", "key", "--into", str(wrong))
    refused = programs.run(*more, "--encryption-keys", str(wrong))
    assert refused.code == 3
    assert f"this process has {shown_id(first_key(wrong))}; add that key" in refused.err
    assert "Traceback" not in refused.err


def test_a_mistake_in_the_section_is_named_with_its_line(
    programs: Programs, tmp_path: Path
) -> None:
    config = tmp_path / "headway.toml"
    config.write_text('[encryption]\nkeys = "none.keys"\n')
    told = programs.run("check", "--config", str(config))
    assert "headway.toml:2: encryption.keys: the file with the keys" in told.err
    config.write_text('[encryption]\nkeys = "none.keys"\nplain = "maybe"\nplane = 1\n')
    told = programs.run("check", "--config", str(config))
    assert "headway.toml:3: encryption.plain: 'refuse', 'read' or 'write'" in told.err
    assert "headway.toml:4: encryption.plane: there is no such key; did you mean" in told.err


def test_a_call_goes_on_in_the_next_process_under_a_new_key(
    programs: Programs, journal: str, keys: Path
) -> None:
    """The first one is killed, and the call is begun anew from what it has encrypted."""
    options = ("--journal", journal, "--encryption-keys", str(keys))
    options += ("--set", "lease=1", "--set", "retry=100ms")
    server, url = programs.serve("run", f"{LASTING}:mcp", "--port", "0", *options)
    port = str(urlsplit(url).port)
    client = programs.start("call", url, "begun_anew")
    client.wait_for("Waiting for the end")
    server.interrupt(signal.SIGKILL)
    server.finish()
    programs.run("journal", "key", "--into", str(keys))
    keys.write_text("".join(reversed(keys.read_text().splitlines(keepends=True))))
    programs.serve("run", f"{LASTING}:mcp", "--port", port, *options)
    ended = client.finish()
    assert (ended.code, ended.out) == (0, "whole\n"), ended.err
    parts = [line for line in ended.err.splitlines() if line.startswith("+")]
    assert parts == ["+ first half", "+ second half"]
