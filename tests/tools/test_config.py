"""`headway.toml`: checked as a whole before anything starts, each mistake named with its line."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.kit.waits import PATIENCE

from headway.errors import SetupError
from headway.toml_lines import line_of
from headway.tools import build
from headway.tools.config import Config, ConfigError, load
from headway.tools.sections import SECTION_TYPES

GOOD = """\
roots = ["docs", "/srv"]
data = "var"
journal = "sqlite:///var/journal.db"

[search]
deadline = "5s"

[cache]
ttl = "1h"

[sources.wiki]
kind = "database"
url = "sqlite:///wiki.db"
timeout = 3

  [[sources.wiki.tables]]
  name = "page"
  columns = ["title", "body"]
  title = "title"
  link = "https://wiki.test/{slug}"

[sources.web]
kind = "api"
url = "https://search.test/?q={query}&n={limit}"
hits = "data.items"
title = "name"
link = "url"
headers = { Authorization = "Bearer ${SEARCH_KEY}" }

[hosts."*.example.com"]
ports = [443, 8443]
rate = 5
headers = { X-Key = "${SEARCH_KEY}" }
"""


def loaded(place: Path, text: str) -> Config:
    file = place / "headway.toml"
    file.write_text(text)
    return load(file)


def complaints(place: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        loaded(place, text)
    first, *lines = str(refused.value).splitlines()
    assert "headway.toml" in first
    return [line.strip().removeprefix(f"{place}/headway.toml:") for line in lines]


def test_a_whole_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEARCH_KEY", "s3cret")
    config = loaded(tmp_path, GOOD)
    assert config.roots == (tmp_path / "docs", Path("/srv"))
    assert config.data == tmp_path / "var"
    assert config.journal == f"sqlite:///{tmp_path}/var/journal.db"
    assert (config.deadline, config.cache_ttl) == (5, 3600)
    ((name, databank),) = config.databases
    assert (name, databank.url, databank.seconds) == ("wiki", f"sqlite:///{tmp_path}/wiki.db", 3)
    ((name, endpoint),) = config.endpoints
    assert (name, endpoint.headers) == ("web", {"Authorization": "Bearer s3cret"})
    host = config.hosts.find("api.example.com")
    assert host is not None
    assert (host.ports, host.rate, host.headers) == ((443, 8443), 5, {"X-Key": "s3cret"})
    (tmp_path / "docs").mkdir()
    server = build([tmp_path / "docs"], tmp_path / "data", config=config)
    assert set(server.tool_options) == {"process_files", "search", "process_batch", "long_task"}


def test_an_empty_configuration_changes_nothing(tmp_path: Path) -> None:
    config = loaded(tmp_path, "")
    assert (config.roots, config.data, config.journal) == (None, None, None)
    assert (config.databases, config.endpoints, config.cache_ttl) == ((), (), None)
    assert not config.allows_hosts


API = "[sources.x]\nkind='api'\n"
DATABASE = "[sources.x]\nkind='database'\n"
TWO_TABLES = f"""\
{DATABASE}url='sqlite://'
[[sources.x.tables]]
name='a'
[[sources.x.tables]]
name='b'
columns=[1]
title='t'
link='l'
"""


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("\nrot = 1", "2: rot: there is no such key; did you mean 'roots'?"),
        ("roots = 'docs'", "1: roots: a valid list"),
        ("roots = [1]", "1: roots.0: a valid string"),
        ("[search]\n\ndeadline = 'soon'", "3: search.deadline: 'soon' is not a duration"),
        ("[search]\ndeadline = true", "2: search.deadline: write a duration"),
        ("[sources.x]", "1: sources.x.kind: is missing"),
        ("[sources.x]\nkind = 'web'", "2: sources.x.kind: is neither"),
        ("[sources.cache]\nkind = 'api'", "1: sources.cache: is a source that is always there"),
        ("[sources.'A B']\nkind = 'api'", "1: sources.A B: is no name for a source"),
        (f"{API}url='http://x/{{query}}'\ntitle='a'", "1: sources.x.link: is missing"),
        (f"{API}url='http://x/'\ntitle='a'\nlink='b'", "1: sources.x: {query} is nowhere"),
        (f"{API}url='{{query}}'\ntitle='a'\nlink='b'", "3: sources.x.url: it is no http"),
        (f"{DATABASE}url='what'\ntables=[]", "3: sources.x.url: it is no SQLAlchemy URL"),
        (f"{DATABASE}url='nodb://x'\ntables=[]", "3: sources.x.url: SQLAlchemy knows no such"),
        (TWO_TABLES, "8: sources.x.tables.1.columns.0: a valid string"),
        ("[hosts.'x y']", "1: hosts.x y: is no host name"),
        ("[hosts.x]\nports = [\n  443,\n  0,\n]", "2: hosts.x.ports.1: greater than or equal to 1"),
        ("[hosts.x]\nheaders = { A = '${NOT_SET_1}' }", "2: hosts.x.headers.A: the environment"),
        ("[hosts.x]\nheaders = { A = \"a\\nb\" }", "2: hosts.x.headers.A: a header holds"),
        ("hosts.x.rate = -1", "1: hosts.x.rate: greater than 0"),
        ("sources = 3", "1: sources: is a table"),
        ("roots = []", "1: roots: List should have at least 1"),
        ("journal = 'mongodb://x'", "1: journal: it is no journal; write memory:"),
        ("[search]\ndeadline = '9999d'", "2: search.deadline: longer than a year"),
        ("[batch]\nitems = 0", "2: batch.items: greater than or equal to 1"),
        ("[files]\nfile = 1", "2: files.file: there is no such key; did you mean 'files'?"),
        ("[hosts.x]\nurl = 1", "2: hosts.x.url: there is no such key; there are ports, private"),
        ("[hosts.x]\nprivat = 1", "2: hosts.x.privat: there is no such key; did you mean 'private"),
        (f"{API}titel='a'", "3: sources.x.titel: there is no such key; did you mean 'title'?"),
        (f"{TWO_TABLES}colums=[]", "11: sources.x.tables.1.colums: there is no such key; did you"),
        ("[hosts.'x:99']", "1: hosts.x:99: is no host name"),
        ("[hosts.'*']", "1: hosts.*: is no host name"),
        ("[hosts.'https://x']", "1: hosts.https://x: is no host name"),
        ("[hosts.'A.b']\n[hosts.'a.b.']", "2: hosts.a.b.: is there in another spelling"),
        ("[hosts.x.headers]\nHost = 'y'", "2: hosts.x.headers.Host: is a header that belongs"),
        ("[hosts.x.headers]\n'a b' = 'y'", "2: hosts.x.headers.a b: is no name of a header"),
        (f"{API}url='http://x/'\ntitle='a'\nlink='b'\nparams={{q='{{limit}}'}}",
         "1: sources.x: {query} is nowhere"),
        (f"{API}url='http://x/{{query}}'\ntitle='a'\nlink='b'\nbody={{}}",
         "1: sources.x: a body is sent with method"),
        (f"{API}url='http://{{query}}.x/'\ntitle='a'\nlink='b'", "3: sources.x.url: {query} and"),
        (f"{API}url='http://u:p@x/{{query}}'", "3: sources.x.url: a name and a password are not"),
        (f"{DATABASE}url='postgresql+psycopg2://x'", "3: sources.x.url: its driver is not"),
        (f"{DATABASE}url='postgresql+psycopg_async://x'", "3: sources.x.url: its driver 'psyc"),
        ("# a\u2028b\u0085c\n\nrot = 1", "3: rot: there is no such key"),
        ("\r\n\r\nrot = 1\r\n", "3: rot: there is no such key"),
    ],
)  # fmt: skip
def test_every_mistake_is_named_with_its_line(tmp_path: Path, text: str, complaint: str) -> None:
    told = complaints(tmp_path, text)
    assert any(line.startswith(complaint) for line in told), told


def test_all_mistakes_are_told_at_once_in_order(tmp_path: Path) -> None:
    told = complaints(tmp_path, "a = 1\n[cache]\nttl = 'x'\n[search]\ndeadlin = 3\n")
    assert [line.split(":")[0] for line in told] == ["1", "3", "5"]


def test_what_is_no_toml_says_where(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"headway\.toml:2: Invalid value \(column 5\)"):
        loaded(tmp_path, "a = 1\nb = what\n")
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "missing.toml")
    (tmp_path / "headway.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(SetupError, match="cannot be read"):
        load(tmp_path / "headway.toml")


@pytest.mark.parametrize(
    ("secret", "section"),
    [
        ("notaurl:s3cret", f"{DATABASE}url='${{SECRET}}'\n"),
        ("s3cret", f"{DATABASE}url='postgresql+psycopg://h:${{SECRET}}/x'\n"),
        ("s3cret", f"{API}url='https://h:${{SECRET}}/{{query}}'\n"),
        ("s3cret\n", f"{API}url='https://h/{{query}}'\nheaders={{A='${{SECRET}}'}}\n"),
    ],
)
def test_a_secret_is_in_no_complaint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secret: str, section: str
) -> None:
    monkeypatch.setenv("SECRET", secret)
    told = complaints(tmp_path, section)
    assert told
    assert "s3cret" not in " ".join(told)


def test_the_documented_configuration_is_right_and_has_every_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Path(__file__).parents[2] / "docs" / "tools.md"
    (example,) = re.findall(r"^```toml\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
    for name in re.findall(r"\$\{(\w+)\}", example):
        monkeypatch.setenv(name, "x")
    config = loaded(tmp_path, example)
    assert (config.files, config.batch) == (Config().files, Config().batch), "the defaults"
    sections = [section for _, section in SECTION_TYPES]
    keys = {each.alias or name for one in sections for name, each in one.model_fields.items()}
    missing = {key for key in keys if not re.search(rf"\b{key}\b.*[=\]]", example)}
    assert missing == {"journal"}, "its old place, which nobody is to learn"


def test_limits_reach_the_tools(tmp_path: Path) -> None:
    config = loaded(tmp_path, "[batch]\nitems = 3\ntimeout = '2s'\n[files]\nindex_bytes = 9\n")
    assert (config.batch.items, config.batch.timeout) == (3, 2)
    assert config.batch.answer_bytes == Config().batch.answer_bytes
    assert (config.files.index_bytes, config.files.files) == (9, Config().files.files)


def serve(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`headway serve`, which is not expected to come up."""
    return subprocess.run(
        [sys.executable, "-m", "headway", "serve", *arguments],
        cwd=place, env=os.environ | {"XDG_DATA_HOME": str(place)}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip


def test_the_command_line_names_every_mistake_and_cannot_start(tmp_path: Path) -> None:
    (tmp_path / "headway.toml").write_text("rots = 1\n[hosts.x]\nrate = 0\n")
    ended = serve(tmp_path, "--config", "headway.toml")
    assert ended.returncode == 3
    assert ended.stderr.splitlines() == [
        "headway: headway.toml has 2 mistakes:",
        "  headway.toml:1: rots: there is no such key; did you mean 'roots'?",
        "  headway.toml:3: hosts.x.rate: greater than 0",
    ]


def test_the_command_line_wins_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "headway.toml").write_text("roots = ['of-the-file']\n")
    by_file = serve(tmp_path, "--config", "headway.toml")
    assert f"'{tmp_path}/of-the-file' cannot be opened" in by_file.stderr
    by_option = serve(tmp_path, "--config", "headway.toml", "--root", "of-the-option")
    assert f"'{tmp_path}/of-the-option' cannot be opened" in by_option.stderr
    assert (by_file.returncode, by_option.returncode) == (3, 3)


LINES = '''\
top = """
[not.a.table]
key = 1
"""
[a."b.c"]
x = { y = 1, z = [
  2,
] }
[[list]]
[[list]]
deep.er = 1
[[list.inner]]
k = "# [no] comment"
'''


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        (["top"], 1), (["a", "b.c"], 5), (["a", "b.c", "x", "y"], 6), (["list", 0], 9),
        (["list", 1, "deep", "er"], 11), (["list", 1, "inner", 0, "k"], 13), (["nothing"], 1),
        (["list", 1, "missing"], 10),
    ],
)  # fmt: skip
def test_a_setting_is_found_in_its_line(keys: list[str | int], line: int) -> None:
    assert line_of(LINES, keys) == line


@given(st.text(alphabet="ab.[]={}\"'#\n 1", max_size=80), st.lists(st.sampled_from(["a", "b", 0])))
def test_looking_for_a_line_never_fails_on_valid_toml(text: str, keys: list[str | int]) -> None:
    import tomllib

    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    assert 1 <= line_of(text, keys) <= text.count("\n") + 1


WITHOUT_SQLALCHEMY = """
import sys
sys.modules["sqlalchemy"] = None  # as where it is not installed
sys.argv = ["headway", *sys.argv[1:]]
from headway.cli import main
main()
"""


def test_without_sqlalchemy_only_databases_are_missing(tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", WITHOUT_SQLALCHEMY, *arguments],
            cwd=tmp_path, capture_output=True, text=True, check=False, timeout=PATIENCE,
        )  # fmt: skip

    (tmp_path / "own.py").write_text(
        "from pathlib import Path\nfrom headway.tools import build\n"
        "mcp = build([Path()], Path('data'))\n"
    )
    called = run("call", "own.py:mcp", "process_files", "directory=.", "operation=index")
    assert called.returncode == 0, called.stderr
    assert run("call", "own.py:mcp", "search", "query=import").returncode == 0
    (tmp_path / "headway.toml").write_text(
        "[sources.wiki]\nkind = 'database'\nurl = 'sqlite:///w.db'\n"
        "[[sources.wiki.tables]]\nname = 'a'\ncolumns = ['b']\ntitle = 'b'\nlink = 'c'\n"
    )
    refused = run("serve")
    assert refused.returncode == 3
    assert "sources.wiki.url: databases need SQLAlchemy; install it with: pip install" in (
        refused.stderr
    )
