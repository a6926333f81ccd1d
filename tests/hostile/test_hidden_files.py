"""Keys, passwords, hidden files and the server's own: never read, never listed, never found."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.kit.program import programs_in

from headway import Headway
from headway.testing import Outcome, run_tool
from headway.tools import Limits, build, files_of
from headway.tools.config import load
from headway.tools.index import Document, TextIndex

pytestmark = pytest.mark.anyio

SECRETS = [
    ".env", ".env.production", "app/.envrc", "prod.env", ".ENV", ".ssh/id_rsa", ".ssh/config",
    ".git/config", "vendor/.git/HEAD", "tls/server.pem", "tls/SERVER.PEM", "tls/server.key",
    "id_rsa", "id_ed25519.pub", "ID_ECDSA", ".netrc", ".aws/credentials", ".bash_history",
]  # fmt: skip

HIDDEN = [".profile", ".config/app.toml", "sub/.notes"]

OPEN = ["readme.md", "sub/idea.txt", "environment.txt", "pem.txt"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    for name in (*SECRETS, *HIDDEN, *OPEN):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"hunter2 in {name}\n")
    return root


async def process(server: Headway, **arguments: Any) -> Outcome:
    return await run_tool(
        server, "process_files", {"directory": ".", **arguments}, raise_on_error=False
    )


def listed(outcome: Outcome) -> list[str]:
    return sorted(part["file"] for part in outcome.parts)


async def test_secret_and_hidden_files_are_neither_read_nor_listed(root: Path) -> None:
    server = build([root], root.parent / "data")
    outcome = await process(server, operation="index")
    assert listed(outcome) == sorted(OPEN)
    assert outcome.result["files"] == len(OPEN)
    assert outcome.result["left_out"] > 10
    found = await run_tool(server, "search", {"query": "hunter2", "limit": 100})
    assert sorted(hit["link"] for hit in found.result["hits"]) == sorted(OPEN)


async def test_with_hidden_files_allowed_secret_ones_stay_closed(root: Path) -> None:
    server = build([root], root.parent / "data", limits=Limits(hidden=True))
    outcome = await process(server)
    assert listed(outcome) == sorted([*OPEN, *HIDDEN])


async def test_the_operator_says_which_names_are_private(root: Path, tmp_path: Path) -> None:
    (tmp_path / "headway.toml").write_text('[files]\nhidden = true\nprivate = ["*.MD"]\n')
    config = load(tmp_path / "headway.toml")
    outcome = await process(build([root], tmp_path / "data", config=config))
    assert set(listed(outcome)) == {*OPEN, *HIDDEN, *SECRETS} - {"readme.md"}


@pytest.mark.parametrize(
    ("directory", "pattern", "says"),
    [
        (".ssh", "*", "is private here"), (".git", "**/*", "is private here"),
        ("vendor/.git", "*", "is private here"), (".config", "*", "is hidden"),
        (".", ".git/*", "is private here"), (".", "**/.ssh/**", "is private here"),
        (".", ".env", "is private here"), (".", "id_*", "is private here"),
        (".", "**/*.pem", "is private here"), (".", ".*", "is hidden"),
        (".", ".config/*", "is hidden"),
        ("way-in", "*", "is private here"),
    ],
)  # fmt: skip
async def test_who_asks_for_them_by_name_is_told_so(
    root: Path, directory: str, pattern: str, says: str
) -> None:
    (root / "way-in").symlink_to(".ssh")
    outcome = await process(
        build([root], root.parent / "data"), directory=directory, pattern=pattern
    )
    assert outcome.is_error, outcome.parts
    assert says in (outcome.error or "")
    assert "hunter2" not in str(outcome)


@pytest.mark.parametrize(
    "pattern", ["?env", "[.]env", "*env*", "[.]ssh/*", "?ssh/*", "i[d]_*", "**/*"]
)
async def test_no_wildcard_gets_around_it(root: Path, pattern: str) -> None:
    outcome = await process(build([root], root.parent / "data"), pattern=pattern)
    assert {*listed(outcome)} <= {*OPEN}


async def test_no_link_leads_to_them(root: Path) -> None:
    (root / "a-link").symlink_to(".env")
    (root / "sub" / "key").symlink_to("../.ssh/id_rsa")
    outcome = await process(build([root], root.parent / "data"))
    reasons = {part["file"]: part.get("reason") for part in outcome.parts}
    assert reasons["a-link"] == reasons["sub/key"] == "a link that leaves the allowed directories"


async def test_a_root_that_is_hidden_itself_is_read(tmp_path: Path) -> None:
    root = tmp_path / ".hidden" / ".ssh"
    root.mkdir(parents=True)
    (root / "notes.txt").write_text("x\n")
    (root / "id_rsa").write_text("x\n")
    outcome = await process(build([root], tmp_path / "data"))
    assert listed(outcome) == ["notes.txt"]


async def test_what_an_older_index_has_of_them_is_not_found_and_forgotten(root: Path) -> None:
    data = root.parent / "data"
    index = TextIndex(data / "index.sqlite")
    for name in (".env", ".ssh/id_rsa", "readme.md"):
        status = (root / name).stat()
        path = str(root / name)
        index.add_document(
            Document(path, status.st_size, status.st_mtime_ns, f"hunter2 in {name}\n", name)
        )
    index.close()
    server = build([root], data)
    for _ in range(2):
        found = await run_tool(server, "search", {"query": "hunter2"})
        assert [hit["link"] for hit in found.result["hits"]] == ["readme.md"]
    with closing(sqlite3.connect(data / "index.sqlite")) as database:
        rows = database.execute("SELECT path FROM file").fetchall()
    assert rows == [(str(root / "readme.md"),)]


CONFIG = """
roots = ["."]
data = "var"
journal = "sqlite:///state/journal.db"
[sources.wiki]
kind = "database"
url = "sqlite:///wiki.db"
tables = [{ name = "page", columns = ["body"], title = "slug", link = "{slug}" }]
[hosts."127.0.0.1"]
private = true
headers = { Authorization = "Bearer hunter2" }
"""


async def test_the_server_s_own_files_are_closed_whatever_leads_to_them(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "state").mkdir(parents=True)
    (root / "headway.toml").write_text(CONFIG)
    for name in ("state/journal.db", "state/journal.db-wal", "state/journal.db-shm", "wiki.db"):
        (root / name).write_text("hunter2")
    os.link(root / "headway.toml", root / "another-name.txt")
    os.link(root / "state" / "journal.db", root / "copy.txt")
    (root / "to-config").symlink_to("headway.toml")
    (root / "plain.txt").write_text("plain\n")
    config = load(root / "headway.toml")
    own = files_of(config.journal or "")
    outcome = await process(build([root], config.data or root, config=config, own=own))
    status = {part["file"]: part["status"] for part in outcome.parts}
    assert status == {
        "plain.txt": "ok", "another-name.txt": "skipped", "copy.txt": "skipped",
        "to-config": "skipped",
    }  # fmt: skip
    assert "hunter2" not in str(outcome)


def test_serve_closes_its_own_journal_and_configuration(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "plain.txt").write_text("plain\n")
    (root / "headway.toml").write_text('roots = ["."]\n')
    (root / "clients.toml").write_text("")
    options = (
        "--config", "headway.toml", "--clients", "clients.toml", "--auth", "auth.toml",
        "--audit", "audit.jsonl", "--encryption-keys", "secret-words",
    )  # fmt: skip
    with programs_in(tmp_path) as programs:
        token = programs.run("token", "me", "--into", "auth.toml", cwd=root).out.strip()
        programs.run("journal", "key", "--into", "secret-words", cwd=root)
        journal = ("--journal", "sqlite:///journal.db")
        _, url = programs.serve("serve", *options, *journal, "--port", "0", cwd=root)
        env = {"HEADWAY_TOKEN": token}
        words = ("call", url, "process_files", "directory=.", "--output", "json")
        programs.run(*words, env=env)
        done = programs.run(*words, env=env)  # the first one has its record by now
    assert '"files": 1' in done.out, done
    assert "journal" not in done.out + done.err
    assert "auth.toml" not in done.out + done.err
    assert "audit" not in done.out + done.err
    assert "secret-words" not in done.out + done.err
    assert "headway.toml" not in done.out + done.err


def test_a_server_without_a_root_says_loudly_what_is_read(tmp_path: Path) -> None:
    with programs_in(tmp_path) as programs:
        program = programs.start("serve", "--port", "0")
        line = program.wait_for("no --root is given")
        assert f"below {tmp_path}" in line
        assert "choose what is read with --root DIR" in line
        program.wait_for("headway: serving ")


def test_the_root_of_the_file_system_is_no_default(tmp_path: Path) -> None:
    with programs_in(tmp_path) as programs:
        ended = programs.run("serve", "--port", "0", cwd=Path("/"))
    assert ended.code == 3
    assert "the current directory is /" in ended.err
    assert "--root DIR" in ended.err
