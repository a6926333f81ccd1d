"""Where things are on the server's machine and in its network is nothing that a client is told."""

import json
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from tests.kit.databases import URLS, table_of
from tests.kit.peers import connect, each_era, served

from headway import Headway
from headway.testing import run_tool
from headway.tools import build
from headway.tools.config import Config
from headway.tools.search import Api, Databank, Endpoint, SearchTool, Source, Table
from headway.tools.search.database import Database
from headway.tools.timing import SystemClock

pytestmark = pytest.mark.anyio


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "secret-place" / "docs"
    (root / "sub").mkdir(parents=True)
    (root / "sub" / "a.txt").write_text("rain\n")
    (root / "sub" / "b.txt").write_bytes(b"\0")
    return root


@each_era
async def test_no_tool_tells_an_absolute_path(root: Path, era: str) -> None:
    (root / "link").symlink_to("/etc")
    server = build([root], root.parent / "data")
    calls: list[tuple[str, dict[str, Any]]] = [
        ("process_files", {"directory": "."}),
        ("process_files", {"directory": str(root / "sub"), "operation": "index"}),
        ("process_files", {"directory": "nowhere"}),
        ("process_files", {"directory": "/etc"}),
        ("process_files", {"directory": "link"}),
        ("process_files", {"directory": "..", "pattern": "x"}),
        ("process_files", {"directory": "sub", "pattern": "/x"}),
        ("search", {"query": "rain"}),
        ("search", {"query": "rain", "sources": ["nowhere"]}),
    ]
    async with served(server) as wire:
        client = await connect(wire, era)
        listed = await client.request("tools/list")
        said = [await listed.outcome(), getattr(client, "handshake", {})]
        for name, arguments in calls:
            answer = await client.call(name, arguments, token=1)
            said += await answer.rest() if answer.is_stream else [await answer.json()]
    text = json.dumps(said)
    assert "sub/a.txt" in text
    # The caller's own words come back as they were.
    assert "secret-place" not in text.replace(str(root / "sub"), "")


async def test_a_hit_can_be_processed_by_the_path_that_is_told(root: Path) -> None:
    server = build([root], root.parent / "data")
    await run_tool(server, "process_files", {"directory": ".", "operation": "index"})
    found = await run_tool(server, "search", {"query": "rain"})
    directory, _, name = found.result["hits"][0]["link"].rpartition("/")
    again = await run_tool(server, "process_files", {"directory": directory, "pattern": name})
    assert again.result["ok"] == 1


async def test_a_broken_index_does_not_say_where_it_is(root: Path) -> None:
    data = root.parent / "data"
    data.mkdir()
    (data / "index.sqlite").write_text("no database " * 200)
    server = build([root], data)
    indexed = await run_tool(
        server, "process_files", {"directory": ".", "operation": "index"}, raise_on_error=False
    )
    assert "it is no database" in (indexed.error or "")
    found = await run_tool(server, "search", {"query": "rain"})
    assert "it is no database" in found.result["sources"][0]["reason"]
    (data / "index.sqlite").unlink()
    (data / "index.sqlite").mkdir()
    indexed = await run_tool(
        server, "process_files", {"directory": ".", "operation": "index"}, raise_on_error=False
    )
    assert "it cannot be opened" in (indexed.error or "")
    assert "secret-place" not in str([indexed, found.result])


@pytest.fixture
def port() -> Iterator[int]:
    """A port at which nobody answers."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


async def reason_of(source: Source, **more: Any) -> str:
    mcp = Headway("s")
    mcp.add_tool(SearchTool([source]).search)
    outcome = await run_tool(mcp, "search", {"query": "rain", **more})
    (report,) = outcome.result["sources"]
    assert report["status"] == "failed"
    said = [log.data for log in outcome.logs]
    assert all(report["reason"] in str(each) for each in said)
    return report["reason"]


def database(url: str, *columns: str, name: str = "page") -> Database:
    table = Table(name, columns or ("title",), "title", "{title}")
    return Database("wiki", Databank(url, (table,), seconds=3))


WORDS = ("127.0.0.1", "localhost", "reader", "hunter2", "wiki_db", "SELECT", "psycopg", "pymysql")


@pytest.mark.parametrize("driver", ["postgresql+psycopg", "mysql+pymysql"])
async def test_a_database_that_is_away_names_no_host_port_or_user(
    port: int, driver: str, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"{driver}://reader:hunter2@127.0.0.1:{port}/wiki_db"
    reason = await reason_of(database(url))
    assert reason == "the database cannot be searched: it cannot be reached"
    assert "127.0.0.1" in caplog.text, "the operator is told"
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize("kind", URLS)
async def test_each_failure_of_a_database_is_told_in_words_of_our_own(kind: str) -> None:
    with table_of(kind, [{"slug": "a", "title": "a", "body": "rain"}]) as (url, name):
        missing = "a table or a column of the configuration is not there"
        reasons = {
            missing: [database(url, name=f"{name}_x"), database(url, "nothing", name=name)],
            "there is no such database": [database(f"{url}_nowhere")],
        }
        nobody = url.replace("root@", "nobody:hunter2@")
        for expected, sources in reasons.items():
            for source in sources:
                reason = await reason_of(source)
                assert reason == f"the database cannot be searched: {expected}"
        reason = await reason_of(database(nobody, name=name))
        assert not any(word in reason for word in (*WORDS, "nobody", name))


async def test_a_database_that_takes_too_long_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"slug": "a", "title": "a", "body": "rain"}]
    with table_of("PostgreSQL", rows) as (url, name):
        slow = sa.select(sa.func.pg_sleep(60))
        monkeypatch.setattr("headway.tools.search.database.full_text_postgres", lambda *_: slow)
        table = Table(name, ("title",), "title", "{title}")
        reason = await reason_of(Database("wiki", Databank(url, (table,), seconds=0.2)))
    assert reason == "the database cannot be searched: it took too long"


async def test_a_file_that_is_no_database_does_not_say_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no database " * 200)
    reason = await reason_of(database(f"sqlite:///{tmp_path / 'notes.txt'}"))
    assert reason == "the database cannot be searched: it is no database"
    reason = await reason_of(database(f"sqlite:///{tmp_path / 'nowhere' / 'x.db'}"))
    assert reason == "the database cannot be searched: it cannot be opened"


async def test_an_api_that_fails_names_no_host(port: int) -> None:
    for url in (
        f"http://127.0.0.1:{port}/?q={{query}}", "http://search.internal.invalid/?q={query}",
    ):  # fmt: skip
        endpoint = Endpoint(url=url, hits="", title="t", link="l", private=True)
        reason = await reason_of(Api("web", endpoint, SystemClock()))
        assert "internal" not in reason
        assert "127.0.0.1" not in reason
        assert str(port) not in reason


async def test_a_cache_of_an_earlier_version_is_not_shown(root: Path, tmp_path: Path) -> None:
    """It has absolute paths in it."""
    data = tmp_path / "data"
    data.mkdir()
    with closing(sqlite3.connect(data / "answers.sqlite")) as cache:
        cache.execute(
            "CREATE TABLE answer (source TEXT, query TEXT, time REAL, hits TEXT, "
            "PRIMARY KEY (source, query))"
        )
        hits = json.dumps([["old", "/secret-place/docs/a.txt", ""]])
        cache.execute("INSERT INTO answer VALUES ('documents', 'rain', 9e9, ?)", (hits,))
        cache.execute("PRAGMA user_version = 1")
        cache.commit()
    server = build([root], data, config=Config(cache_ttl=3600))
    outcome = await run_tool(server, "search", {"query": "rain"})
    assert "secret-place" not in str(outcome.result)
