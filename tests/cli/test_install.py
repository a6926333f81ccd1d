"""`headway install`: what connects a client is printed, or added to its file."""

import asyncio
import json
import re
import stat
import sys
import tomllib
from pathlib import Path

import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from tests.kit.program import Finished, Programs

from headway.client_config import CLIENTS, INSPECTOR
from headway.client_profiles import profile_of

PAGE = (Path(__file__).parents[2] / "docs" / "connect.md").read_text()
URL = "http://127.0.0.1:8000/mcp"
SERVER = "from headway import Headway\n\nprint('noise')\nmcp = Headway('reports')\n"
BLOCK = re.compile(r"^```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)

FILES = {
    "claude-code": ".mcp.json",
    "vscode": ".vscode/mcp.json",
    "cursor": ".cursor/mcp.json",
    "codex": ".codex/config.toml",
    "gemini-cli": ".gemini/settings.json",
}
"""Where each has its file, in a directory that is the home too."""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "server.py").write_text(SERVER)
    return tmp_path


def install(programs: Programs, *words: str) -> Finished:
    home = {"HOME": str(programs.cwd), "CODEX_HOME": "", "XDG_CONFIG_HOME": ""}
    return programs.run("install", *words, env=home)


def blocks_of(title: str) -> list[str]:
    section = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]
    return BLOCK.findall(section)


@pytest.mark.parametrize("client", CLIENTS)
def test_the_page_has_exactly_what_the_command_prints(
    programs: Programs, place: Path, client: str
) -> None:
    row = CLIENTS[client]
    printed = [install(programs, client, URL)]
    if row.of_command is not None:
        printed.append(install(programs, client, "server.py"))
    assert [each.code for each in printed] == [0] * len(printed)
    own = Path(sys.executable).with_name("headway")
    shown = [
        each.out.replace(str(own), "/home/you/.venv/bin/headway").replace(str(place), "/home/you")
        for each in printed
    ]
    assert blocks_of(row.title) == shown


@pytest.mark.anyio
async def test_a_client_that_starts_programs_can_start_what_is_printed(
    programs: Programs, place: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (place / "pkg").mkdir()
    (place / "pkg" / "tools.py").write_text(SERVER)
    (place / "headway.toml").write_text("[limits]\nmax_runs = 7\n")
    shown = await asyncio.to_thread(install, programs, "cursor", "pkg.tools:mcp", "--name", "mine")
    entry = json.loads(shown.out)["mcpServers"]["mine"]
    assert entry["env"] == {"PYTHONPATH": str(place)}
    assert entry["args"][-2:] == ["--config", str(place / "headway.toml")]
    parameters = StdioServerParameters(
        **entry, cwd=tmp_path_factory.mktemp("elsewhere")
    )  # with the few variables that the SDK, like desktop programs, hands on
    async with Client(stdio_client(parameters)) as client:
        info = client.server_info
        assert info is not None
        assert info.name == "reports"


@pytest.mark.parametrize("client", FILES)
def test_an_entry_is_added_and_all_that_is_there_stays(
    programs: Programs, place: Path, client: str
) -> None:
    file, row = place / FILES[client], CLIENTS[client]
    before = {
        "json": '{ "z": 1.50,\n\t"TABLE": {"other" : {"command":"x"}}, "ü": [1e3] }',
        "toml": 'z = 1.50  # mine\n[TABLE.other]\ncommand = "x" # theirs',
    }[row.form].replace("TABLE", row.table)
    file.parent.mkdir(exist_ok=True)
    file.write_text(before)
    file.chmod(0o640)
    done = install(programs, client, URL, "--write")
    assert (done.code, done.out) == (0, "")
    assert str(file) in done.err
    after = file.read_text()
    added = re.sub(r"\s", "", after)
    for piece in re.split(r"(?<=\})|(?=\}\})|\n", before):
        assert piece in after
    values = json.loads(after) if row.form == "json" else tomllib.loads(after)
    assert values[row.table]["headway"] == row.of_url(URL)
    assert values[row.table]["other"] == {"command": "x"}
    assert next(iter(values)) == "z"
    assert "1.50" in added
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    again = install(programs, client, URL, "--write")
    assert again.code == 0
    assert "already" in again.err
    assert file.read_text() == after
    assert [
        each.name for each in file.parent.iterdir() if each.name.startswith(f".{file.name}")
    ] == []


@pytest.mark.parametrize("client", FILES)
def test_a_file_that_is_not_there_is_made(programs: Programs, place: Path, client: str) -> None:
    file, row = place / FILES[client], CLIENTS[client]
    assert install(programs, client, "server.py", "--write").code == 0
    text = file.read_text()
    assert text.strip() == install(programs, client, "server.py").out.strip()
    assert row.table in text


def test_the_file_of_claude_desktop_is_where_it_looks(programs: Programs, place: Path) -> None:
    assert install(programs, "claude-desktop", URL, "--write").code == 0
    (file,) = place.rglob("claude_desktop_config.json")
    assert json.loads(file.read_text())["mcpServers"]["headway"]["args"][-1] == URL


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{ // a comment\n}", "is no JSON, and stays as it is"),
        ('{"mcpServers": []}', "is no table"),
        ("[1]", "is no table"),
        (
            '{"mcpServers": {"headway": {"url": "http://other/mcp"}}}',
            "has another server 'headway'",
        ),
        ('{"mcpServers": {}, "mcpServers": {"a": {}}}', None),
    ],
)
def test_a_file_that_is_not_understood_stays_as_it_is(
    programs: Programs, place: Path, text: str, reason: str | None
) -> None:
    file = place / ".cursor" / "mcp.json"
    file.parent.mkdir()
    file.write_text(text)
    done = install(programs, "cursor", URL, "--write")
    if reason is None:  # a key that is there twice: the last one counts
        assert json.loads(file.read_text())["mcpServers"].keys() == {"a", "headway"}
        return
    assert done.code == 2
    assert reason in done.err
    assert file.read_text() == text


def test_a_toml_file_that_cannot_be_added_to_stays_as_it_is(
    programs: Programs, place: Path
) -> None:
    file = place / ".codex" / "config.toml"
    file.parent.mkdir()
    for text in ("mcp_servers = { a = { command = 'x' } }\n", "a = \n"):
        file.write_text(text)
        done = install(programs, "codex", URL, "--write")
        assert done.code == 2
        assert file.read_text() == text


def test_a_path_that_no_configuration_can_have_is_refused(
    programs: Programs, tmp_path: Path
) -> None:
    name = b"caf\xe9.py".decode("utf-8", "surrogateescape")
    try:
        (tmp_path / name).write_text(SERVER)
    except OSError:
        pytest.skip("this file system has UTF-8 only")
    for words in ((), ("--write",)):
        done = install(programs, "cursor", name, *words)
        assert done.code == 2
        assert "is no UTF-8" in done.err
    assert not (tmp_path / ".cursor").exists()


def test_a_link_stays_a_link(programs: Programs, place: Path) -> None:
    kept, file = place / "dotfiles.json", place / ".cursor" / "mcp.json"
    kept.write_text("{}\r\n")
    file.parent.mkdir()
    file.symlink_to(kept)
    assert install(programs, "cursor", URL, "--write").code == 0
    assert file.is_symlink()
    assert kept.read_bytes().count(b"\n") == kept.read_bytes().count(b"\r\n")
    assert "headway" in kept.read_text()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("cursr", URL), "did you mean cursor?"),
        (("cursor", "nowhere.py"), "does not exist"),
        (("cursor", "http://me:secret@127.0.0.1/mcp"), "password"),
        (("cursor", "http://"), "is no URL"),
        (("cursor", URL, "--name", "a b"), "a name has letters"),
        (("inspector", URL, "--write"), "no file of its own"),
        (("mcp-remote", "server.py"), "starts no server"),
    ],
)
def test_what_cannot_be_done_says_why(
    programs: Programs, place: Path, words: tuple[str, ...], reason: str
) -> None:
    done = install(programs, *words)
    assert done.code != 0
    assert done.out == ""
    assert reason in done.err
    assert "secret" not in done.err


@pytest.mark.parametrize(
    ("title", "name", "version"),
    [
        ("Claude Code", "claude-code", "2.1.319"),
        ("Claude Desktop", "claude-ai", "1"),
        ("VS Code", "Visual Studio Code", "1"),
        ("Cursor", "cursor-vscode", "1"),
        ("Codex", "codex-mcp-client", "0.147.0"),
        ("Codex", "codex-mcp-client", "0.92.0"),
        ("Gemini CLI", "gemini-cli-mcp-client", "1"),
    ],
)
def test_the_page_says_how_long_a_client_waits(title: str, name: str, version: str) -> None:
    (line,) = re.findall(rf"^\| {title} \|.*$", PAGE, re.MULTILINE)
    profile = profile_of(name, version)
    assert profile.deadline is not None
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert f"{profile.deadline:g} s" in cells[1]
    known = {None: "not known", True: "yes", False: "no"}
    assert cells[2] == known[profile.resets]
    assert cells[3].startswith(known[profile.sends_token])
    assert cells[4] == known[profile.tasks] or (profile.tasks and "since" in cells[4])


def test_the_inspector_is_the_one_that_is_tested() -> None:
    packages = json.loads((Path(__file__).parents[1] / "clients" / "package.json").read_text())
    wanted = packages["dependencies"]["@modelcontextprotocol/inspector"]
    assert INSPECTOR.endswith(f"@{wanted}")
