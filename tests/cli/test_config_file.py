"""`headway.toml`: what the commands take from it, and what they say of its mistakes."""

import json
import re
from pathlib import Path

import jsonschema
import pytest
from tests.cli.conftest import EXAMPLE, Command
from tests.kit.program import Programs

FACTORY = """
from headway import Headway


def create():
    mcp = Headway("made")

    @mcp.tool()
    def one() -> int:
        return 1

    return mcp


def needs(port): ...


async def later(): ...


def breaks():
    raise KeyError("customer_id")
"""

WRONG = """\
[server]
port = 80000
loop = "trio"
path = "mcp"
allow_host = "a"
timeout = "1h"
prot = 1
[worker]
concurrency = 0
[limits]
timeout = "1 parsec"
metrics = "everybody"
max_rums = 1
keep.ttl = "2h"
[[client]]
name = "known"
[[client]]
nom = "x"
[sources.wiki]
kind = "database"
[sevrer]
"""


def write(place: Path, text: str) -> Path:
    file = place / "headway.toml"
    file.write_text(text)
    return file


def test_the_file_in_the_current_directory_is_read_and_named(programs: Programs, tmp_path: Path):
    file = write(tmp_path, '[server]\nport = 0\npath = "/of-the-file"\n')
    program = programs.start("run", str(EXAMPLE))
    assert str(file) in program.wait_for("settings are from")
    assert "/of-the-file" in program.wait_for("serving")


def test_a_variable_wins_over_the_file_and_an_option_over_both(programs: Programs, tmp_path: Path):
    named = write(tmp_path, '[server]\nport = 0\npath = "/file"\n').rename(tmp_path / "other.toml")
    config = ("--config", str(named))
    by_variable = programs.start("run", str(EXAMPLE), *config, env={"HEADWAY_PATH": "/variable"})
    assert "/variable" in by_variable.wait_for("serving")
    by_option = programs.start(
        "run", str(EXAMPLE), *config, "--path", "/option", env={"HEADWAY_PATH": "/variable"}
    )
    assert "/option" in by_option.wait_for("serving")


def test_limits_are_settings_and_an_option_wins_over_them(programs: Programs, tmp_path: Path):
    """A tool that naps for longer than its limit says by which limit it was stopped."""
    write(tmp_path, '[server]\nport = 0\n[limits]\ntimeout = "1s"\n')
    for options, limit in ([], 1), (["--timeout", "2s"], 2):
        server = programs.start("run", str(EXAMPLE), *options)
        url = server.wait_for("serving").split(" at ")[1].split()[0]
        assert (
            f"within its limit of {limit} s" in programs.run("call", url, "nap", "seconds=80").err
        )


def test_settings_may_be_given_in_a_variable(programs: Programs):
    answer = programs.run("run", str(EXAMPLE), env={"HEADWAY_SET": "max_runs=5 max_rums=5"})
    assert answer.code == 3
    assert "'max_rums=5': write NAME=VALUE" in answer.err


def test_paths_begin_where_the_file_is_and_variables_are_filled_in(
    programs: Programs, tmp_path: Path
):
    there = tmp_path / "elsewhere"
    there.mkdir()
    file = write(there, '[server]\nport = 0\njournal = "sqlite:///${NAME}.db"\n')
    program = programs.start("run", str(EXAMPLE), "--config", str(file), env={"NAME": "kept"})
    program.wait_for("serving")
    assert (there / "kept.db").exists()


def test_every_mistake_is_named_with_its_line(command: Command, tmp_path: Path):
    file = write(tmp_path, WRONG)
    done = command("check", "--config", str(file))
    assert done.code == 3
    first, *listed = done.err.splitlines()
    assert first.endswith("headway.toml has 14 mistakes:")
    told = [line.strip().removeprefix(f"{file}:") for line in listed]
    starts = [
        "2: server.port: ", "3: server.loop: must be one of 'auto'", "4: server.path: 'mcp' is not",
        "5: server.allow_host: must be a list of texts", "6: server.timeout: write it in [limits]",
        "7: server.prot: there is no such key; did you mean 'port'?", "9: worker.concurrency: ",
        "11: limits.timeout: '1 parsec' is not a duration", "12: limits.metrics: metrics is one of",
        "13: limits.max_rums: there is no such key; did you mean 'max_runs'?",
        "17: client.1: 'nom' is not known", "19: sources.wiki.url: is missing",
    ]  # fmt: skip
    # What the tools' own sections lack is listed too, and a section that nobody has.
    for start in starts:
        assert any(line.startswith(start) for line in told), (start, told)
    assert any(line.startswith("21: sevrer: ") for line in told)


def test_a_server_does_not_start_with_a_mistake(command: Command, tmp_path: Path):
    file = write(tmp_path, "[limits]\nmax_rums = 1\n[sources.wiki]\nkind = 'database'\n")
    done = command("run", str(EXAMPLE), "--config", str(file))
    assert done.code == 3
    assert "has a mistake" in done.err  # the sources are another command's
    done = command("serve", "--config", str(file))
    assert "mistakes:" in done.err
    assert "did you mean 'max_runs'?" in done.err


def test_check_says_what_would_be_served_and_no_password(command: Command, tmp_path: Path):
    file = write(
        tmp_path,
        '[server]\nport = 8001\njournal = "redis://me:secret@host/0"\n[limits]\nmax_runs = 5\n',
    )
    done = command("check", f"{EXAMPLE}:mcp", "--config", str(file))
    assert done.code == 0, done.err
    assert "max_runs = 5 instead of 1000" in done.out
    assert "redis://" in done.out
    assert "secret" not in done.out + done.err
    assert "tools" in done.out
    write(
        tmp_path, '[server]\njournal = "redis://host/0?password=secret&sentinel_password=secret"\n'
    )
    assert "secret" not in command("check", "--config", str(file)).out


def test_the_documented_file_has_no_mistake(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    page = Path(__file__).parents[2] / "docs" / "configuration.md"
    (example,) = re.findall(r"^```toml\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
    monkeypatch.setenv("HEADWAY_REDIS_PASSWORD", "x")
    command("journal", "key", "--into", str(tmp_path / "journal.keys"))
    file = write(tmp_path, example)
    assert command("check", "--config", str(file)).code == 0


def test_init_begins_a_file_that_check_accepts_and_keeps_one_that_is_there(
    command: Command, tmp_path: Path
):
    assert command("init", str(tmp_path)).code == 0
    file = tmp_path / "headway.toml"
    assert command("check", "--config", str(file)).out == f"{file} has no mistakes\n"
    # What it has as comments is right as well.
    command("journal", "key", "--into", str(tmp_path / "journal.keys"))
    bare = "\n".join(line.removeprefix("# ") for line in file.read_text().splitlines()[3:])
    file.write_text(bare)
    assert command("check", "--config", str(file)).code == 0
    again = command("init", str(tmp_path))
    assert again.code == 2
    assert "stays as it is" in again.err
    assert file.read_text() == bare


def test_the_schema_takes_what_is_right_and_refuses_what_is_not(command: Command):
    schema = json.loads(command("check", "--schema").out)
    good = {
        "roots": ["docs"],
        "server": {"port": 1, "grace": "1m", "allow_host": ["a"], "loop": "uvloop"},
        "worker": {"concurrency": 2},
        "limits": {"timeout": "1h", "max_runs": 5, "keep": {"ttl": 7}},
        "client": [{"name": "x"}],
        "encryption": {"keys": "journal.keys", "plain": "read"},
    }
    jsonschema.validate(good, schema)
    for wrong in ({"sevrer": {}}, {"server": {"port": "a"}}, {"limits": {"max_rums": 1}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("needs", "missing a required argument: 'port'"),
        ("later", "is async"),
        ("breaks", "KeyError: 'customer_id'"),
    ],
)
def test_a_function_that_makes_no_server_is_refused(
    command: Command, tmp_path: Path, name: str, says: str
):
    (tmp_path / "factory.py").write_text(FACTORY)
    done = command("call", f"{tmp_path / 'factory.py'}:{name}", "one")
    assert done.code == 3
    assert says in done.err


def test_a_function_that_makes_a_server_is_called(command: Command, tmp_path: Path):
    (tmp_path / "factory.py").write_text(FACTORY)
    done = command("call", f"{tmp_path / 'factory.py'}:create", "one")
    assert (done.code, done.out) == (0, "1\n")


RATED = """\
[limits]
calls_each = "2/h"

[limits.tools]
count = "1/h"
"""


def test_rates_are_in_the_file_and_on_the_command_line(programs: Programs, tmp_path: Path) -> None:
    file = tmp_path / "headway.toml"
    file.write_text(RATED)
    given = ("--set", "tools.fail=1/h", "--config", str(file), "--journal", "memory:")
    checked = programs.run("check", "--config", str(file)).out
    assert "calls_each = 2/h instead of none\n" in checked
    assert "tools.count = 1/h\n" in checked
    _, url = programs.serve("run", f"{EXAMPLE}:mcp", "--port", "0", *given)
    assert programs.run("call", url, "count").code == 0
    refused = programs.run("call", url, "count", "--retry-for", "1s")
    assert refused.code == 4
    assert "More than 1/h calls of count come from you (calls_each)" in refused.err


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (
            'calls_each = "often"',
            "toml:2: limits.calls_each: calls_each: 'often' is no rate",
        ),
        (
            'tools.count = "often"',
            "toml:2: limits.tools.count: tools.count: 'often' is no rate",
        ),
        ("tools.count = {}", ""),
    ],
)
def test_what_is_no_rate_is_named_with_its_line(
    command: Command, tmp_path: Path, line: str, says: str
) -> None:
    file = tmp_path / "headway.toml"
    file.write_text(f"[limits]\n{line}\n")
    checked = command("check", "--config", str(file))
    assert (checked.code == 0) == (not says)
    assert says in checked.err
