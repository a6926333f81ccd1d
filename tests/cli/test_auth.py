"""`[auth]` on the command line: the file and its mistakes, and tokens made by `headway token`."""

import json
import re
import tomllib
from pathlib import Path

import jsonschema
import pytest
from tests.cli.conftest import EXAMPLE, Command
from tests.kit.program import Programs, programs_in

WRONG = """\
[auth]
issuer = "http://idp.example.com/"
jwks = ""
algorithms = ["HS256"]
scopes = ["two words"]
principal = "both"
leeway = "soon"
audience = "x"
[auth.tokens.ci]
sha256 = "secret"
expires = "2027-01-01"
[auth.tokens.none]
"""


def test_every_mistake_is_named_with_its_line(command: Command, tmp_path: Path):
    file = tmp_path / "headway.toml"
    file.write_text(WRONG)
    said = command("check", "--config", str(file))
    assert said.code == 3
    named = dict(re.findall(r"headway\.toml:(\d+): ([\w.]+):", said.err))
    assert named == {
        "2": "auth.issuer", "3": "auth.jwks", "4": "auth.algorithms.0", "5": "auth.scopes.0",
        "6": "auth.principal", "7": "auth.leeway", "8": "auth.audience",
        "10": "auth.tokens.ci.sha256", "11": "auth.tokens.ci.expires",
        "12": "auth.tokens.none.sha256",
    }  # fmt: skip
    assert "auth.algorithms.0: 'RS256', " in said.err


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "has no [auth]"),
        ("[auth]\n", "lets nobody in"),
        ('[auth]\nissuer = "https://idp.example"\n', "auth: resource is needed with issuer"),
        ('[auth]\njwks = "keys.json"\n', "auth: issuer is needed"),
        ('auth = "x"\n', "auth: is a table"),
        ("[auth]\ntokens = 1\n", "auth.tokens: is a table"),
        ("[auth.tokens]\nci = 1\n", "auth.tokens.ci: is a table"),
        ("[server]\nport = 1\n", "server: there is no such key"),
        ('[auth]\nissuer = "${NOT_SET_ANYWHERE}"\n', "NOT_SET_ANYWHERE is not set"),
    ],
)  # fmt: skip
def test_a_file_that_makes_no_sense_starts_nothing(
    text: str, why: str, command: Command, tmp_path: Path
):
    file = tmp_path / "auth.toml"
    file.write_text(text)
    said = command("run", str(EXAMPLE), "--auth", str(file))
    assert said.code == 3
    assert why in said.err


def test_check_says_whose_tokens_let_in_and_shows_none(command: Command, tmp_path: Path):
    made = command("token", "ci", "--into", str(tmp_path / "headway.toml")).out.strip()
    with (tmp_path / "headway.toml").open("a") as file:
        file.write('[auth]\nissuer = "https://idp.example"\nresource = "https://a.example/mcp"\n')
    said = command("check")
    assert "tokens of https://idp.example for https://a.example/mcp" in said.out
    assert "tokens of this file: ci" in said.out
    assert made not in said.out


def test_a_tool_that_the_server_does_not_have_is_named_with_its_line(
    command: Command, tmp_path: Path
):
    file = tmp_path / "headway.toml"
    command("token", "ci", "--into", str(file))
    with file.open("a") as opened:
        opened.write('[auth.tools]\nwait = []\nwaitt = ["net"]\n')
    for words in (("check", str(EXAMPLE)), ("run", str(EXAMPLE))):
        said = command(*words)
        assert said.code == 3
        assert re.search(r"headway\.toml:\d+: auth\.tools\.waitt: .* no such tool", said.err)
        assert "did you mean" in said.err
    file.write_text(file.read_text().replace('waitt = ["net"]\n', ""))
    said = command("check", str(EXAMPLE))
    assert said.code == 0
    assert "wait needs no further scope" in said.out


def test_the_schema_knows_the_section(command: Command, tmp_path: Path):
    schema = json.loads(command("check", "--schema").out)
    command("token", "ci", "--scope", "mcp", "--expires", "2999-01-01", "--into", "a.toml")
    right = tomllib.loads((tmp_path / "a.toml").read_text())
    jsonschema.validate(right, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"auth": {"audience": "x"}}, schema)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("a b",), "is no name for a token"),
        (("ci", "--expires", "2020-01-01"), "has passed"),
        (("ci", "--scope", "a b"), "is no scope"),
        (("ci", "--scope", 'a"\n[auth]'), "is no scope"),
        (("ci", "--into", "missing/a.toml"), "cannot be written"),
    ],
)
def test_a_token_that_makes_no_sense_is_not_made(
    arguments: tuple[str, ...], why: str, command: Command
):
    said = command("token", *arguments)
    assert said.code in (2, 3)
    assert why in said.err
    assert said.out == ""


def test_a_name_is_taken_once_and_what_is_there_stays(command: Command, tmp_path: Path):
    file = tmp_path / "a.toml"
    file.write_text("# mine")
    assert command("token", "ci", "--into", str(file)).code == 0
    before = file.read_text()
    again = command("token", "ci", "--into", str(file))
    assert (again.code, again.out) == (3, "")
    assert "may have that name already" in again.err
    assert file.read_text() == before
    assert before.startswith("# mine\n\n[auth.tokens.ci]\nsha256 = ")


@pytest.mark.parametrize("text", ["auth = 1\n", "[auth]\ntokens = 1\n", "[auth\n", "\udcff"])
def test_a_file_that_cannot_take_a_token_stays_as_it_is(
    text: str, command: Command, tmp_path: Path
):
    file = tmp_path / "a.toml"
    before = text.encode("utf-8", "surrogateescape")
    file.write_bytes(before)
    said = command("token", "ci", "--into", str(file))
    assert (said.code, said.out) == (3, "")
    assert "a.toml" in said.err
    assert file.read_bytes() == before


def test_from_nothing_to_a_server_that_two_may_use(command: Command, tmp_path: Path):
    """What docs/auth.md shows."""
    alice, bob = (
        command("token", name, "--into", "headway.toml").out.strip() for name in ("alice", "bob")
    )
    assert alice != bob
    with programs_in(tmp_path) as programs:
        program, url = programs.serve("run", str(EXAMPLE), "--port", "0", "--journal", "memory:")
        for token in (alice, bob):
            known = programs.run("tools", url, env={"HEADWAY_TOKEN": token})
            assert known.code == 0
        unknown = programs.run("tools", url, env={"HEADWAY_TOKEN": alice[:-1]})
        assert unknown.code != 0
        assert "401" in unknown.err
        assert "HEADWAY_TOKEN" in programs.run("tools", url).err
        program.interrupt()
        log = program.finish().err
    assert alice not in log
    assert bob not in log


def test_every_process_of_a_server_asks_for_tokens(
    command: Command, programs: Programs, tmp_path: Path
):
    token = command("token", "alice", "--into", str(tmp_path / "auth.toml")).out.strip()
    _, url = programs.serve(
        "run", str(EXAMPLE), "--port", "0", "--workers", "2", "--auth", str(tmp_path / "auth.toml")
    )
    for _ in range(4):
        assert programs.run("tools", url).code != 0
        assert programs.run("tools", url, env={"HEADWAY_TOKEN": token}).code == 0
