"""One row, file, hit or item that is too much for something does not spoil the others."""

import json
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tests.kit.databases import table_of
from tests.tools.raw_servers import Start, allowed, batch, raw_servers, reply

from headway import Headway, Settings
from headway.testing import run_tool
from headway.tools.batch import BatchTool
from headway.tools.search import Api, Databank, Endpoint, SearchTool, Source, Table
from headway.tools.search.database import Database
from headway.tools.search.sources import Asked, Hit
from headway.tools.timing import SystemClock
from headway.tools.web.hosts import Hosts

pytestmark = pytest.mark.anyio

SMALL = {"slug": "small", "title": "small", "body": "the needle"}


@cache
def many_words() -> str:
    return " ".join(f"{number:x}{number * 7919 % 99991:05x}word" for number in range(120_000))


@cache
def each_large() -> dict[str, str]:
    return {
        "many words": many_words(),
        "hyphens": "-".join(f"w{number:x}" for number in range(200_000)),
        "addresses": " ".join(f"http://h{n:x}.test/p{n * 31:x}" for n in range(60_000)),
        "one word": "x" * 3_000_000,
        "wide": " ".join(chr(0x20000 + number % 40_000) * 3 for number in range(120_000)),
        "accents": "e\u0301\u0323" * 150_000,
        "marks": "\u05b0\u0591" * 100_000,
    }


@pytest.fixture
async def start() -> AsyncGenerator[Start]:
    async with raw_servers() as start:
        yield start


async def search(*sources: Source, query: str = "needle", **more: Any) -> dict[str, Any]:
    mcp = Headway("s")
    mcp.add_tool(SearchTool(sources).search)
    outcome = await run_tool(mcp, "search", {"query": query, **more})
    assert not outcome.is_error, outcome.error
    return outcome.result


def table(url: str, name: str) -> Database:
    made = Table(name, ("title", "body"), "title", "{slug}", snippet="body")
    return Database("wiki", Databank(url, (made,), seconds=60))


@pytest.mark.parametrize("kind", ["PostgreSQL", "MariaDB"])
async def test_the_other_rows_are_found_and_the_large_one_by_its_beginning(kind: str) -> None:
    rows = [
        {"slug": name, "title": name, "body": f"beginning {text}"}
        for name, text in each_large().items()
    ]
    with table_of(kind, [SMALL, *rows]) as (url, name):
        result = await search(table(url, name))
        assert result["complete"], result["sources"]
        assert [hit["link"] for hit in result["hits"]] == ["small"]
        result = await search(table(url, name), query="beginning")
        assert {hit["link"] for hit in result["hits"]} == set(each_large())
        assert all(len(hit["snippet"]) <= 500 for hit in result["hits"])


async def test_what_full_text_cannot_take_at_all_is_looked_for_as_part_of_the_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As where a dictionary of the database makes many words of each."""
    monkeypatch.setattr("headway.tools.search.statements.SEARCHED", 10_000_000)
    rows = [{"slug": "large", "title": "large", "body": many_words()}]
    with table_of("PostgreSQL", [SMALL, *rows]) as (url, name):
        result = await search(table(url, name))
    assert result["complete"], result["sources"]
    assert [hit["link"] for hit in result["hits"]] == ["small"]


@pytest.mark.parametrize("fts", [False, True], ids=["table", "FTS5"])
async def test_a_row_of_sqlite_that_is_no_text_hides_no_other(tmp_path: Path, fts: bool) -> None:
    file = tmp_path / "wiki.db"
    made = "VIRTUAL TABLE page USING fts5" if fts else "TABLE page"
    with closing(sqlite3.connect(file)) as wiki:
        wiki.execute(f"CREATE {made}(slug, title, body)")
        wiki.execute("INSERT INTO page VALUES (:slug, :title, :body)", SMALL)
        bad = "CAST(X'ff6e6565646c6520ff' AS TEXT)"
        wiki.execute(f"INSERT INTO page VALUES ({bad}, 'bad', 'needle ' || {bad})")
        wiki.execute("INSERT INTO page VALUES (X'00ff', 'blob', 'needle')")
        large = "needle " + many_words() * 3
        wiki.execute("INSERT INTO page VALUES ('large', 'large', ?)", (large,))
        wiki.commit()
    result = await search(table(f"sqlite:///{file}", "page"))
    assert result["complete"], result["sources"]
    assert len(result["hits"]) == 4
    assert "small" in [hit["link"] for hit in result["hits"]]


async def test_one_hit_of_an_api_with_a_strange_number_hides_no_other(start: Start) -> None:
    items: list[Any] = [{"name": "good", "at": "https://x.test/1"}, {"at": "https://x.test/2"}]
    body = json.dumps({"items": items}).replace('"at": "https://x.test/2"', f'"at": {"9" * 5000}')
    web = await start(lambda _: reply(body=body.encode()))
    result = await search(_api(web.port))
    assert result["complete"], result["sources"]
    assert result["hits"][0]["link"] == "https://x.test/1"
    assert len(result["hits"][1]["link"]) <= 1500


class Huge(Source):
    """Hits of the largest size in the longest characters, or such as become long in JSON."""

    def __init__(self, name: str, character: str) -> None:
        super().__init__(name)
        self.character = character

    async def search(self, asked: Asked) -> list[Hit]:
        text = self.character * 3000
        return [Hit(text, f"{number}{text}", text) for number in range(100)]


@pytest.mark.parametrize("character", ["😀", "\x01", "\u2028", '"', "\udcff"])
async def test_the_largest_hits_there_can_be_are_a_part_and_a_result(character: str) -> None:
    mcp = Headway("s")
    mcp.add_tool(SearchTool([Huge("huge", character)]).search)
    outcome = await run_tool(mcp, "search", {"query": "x", "limit": 100})
    assert len(outcome.result["hits"]) > 1, outcome.error
    assert len(outcome.parts) == 1


async def test_hits_that_are_too_much_for_a_part_are_in_the_result() -> None:
    mcp = Headway("s")
    mcp.add_tool(SearchTool([Huge("huge", "x")]).search)
    settings = Settings(max_part=10_000)
    outcome = await run_tool(mcp, "search", {"query": "x", "limit": 100}, settings=settings)
    assert len(outcome.result["hits"]) == 100
    assert outcome.parts == []
    assert "its hits are in the result only" in str(outcome.logs[0].data)


@pytest.mark.parametrize(
    "item",
    [
        "http://" + "a" * 65_000 + ".test/", "http://api.test:99/" + "x" * 60_000, "x" * 500_000,
        {"deep": [[[[[[1]]]]]] * 1000}, "\ud800" * 1000,
    ],
    ids=["name", "port", "text", "object", "surrogates"],
)  # fmt: skip
async def test_an_item_that_fails_at_great_length_ends_no_other(start: Start, item: Any) -> None:
    web = await start(lambda _: reply())
    good = f"http://api.test:{web.port}/"
    outcome = await batch({"api.test": allowed(web.port)}, [item, good, item], {"url": "{item}"})
    assert (outcome.result["ok"], outcome.result["failed"]) == (1, 2), outcome.error
    assert len(outcome.parts) == 3
    assert all(len(failure["reason"]) < 400 for failure in outcome.result["failures"])


async def test_a_part_that_is_too_large_ends_no_other_item(start: Start) -> None:
    web = await start(lambda path: reply(body=b'"' + b"x" * 1500 + b'"' if path == "/0" else b"1"))
    mcp = Headway("s")
    mcp.add_tool(BatchTool(Hosts({"127.0.0.1": allowed(web.port)})).process_batch)
    arguments = {"items": [0, 1, 2], "request": {"url": f"http://127.0.0.1:{web.port}/{{item}}"}}
    outcome = await run_tool(mcp, "process_batch", arguments, settings=Settings(max_part=1000))
    assert outcome.result["ok"] == 3
    assert sorted(part["index"] for part in outcome.parts) == [1, 2]
    assert "its part cannot be told" in str(outcome.logs[0].data)


def _api(port: int) -> Api:
    endpoint = Endpoint(
        url=f"http://127.0.0.1:{port}/?q={{query}}", hits="items", title="name", link="at",
        private=True,
    )  # fmt: skip
    return Api("web", endpoint, SystemClock())
