"""`search`: every source's hits as they come; who fails or hangs spoils nothing."""

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.tools.sources import Fixed, Hanging, Raising

from headway import Headway
from headway.testing import Outcome, run_tool
from headway.tools import build
from headway.tools.config import Config
from headway.tools.search import Api, Cache, Databank, Endpoint, SearchTool, Source, Table
from headway.tools.search.database import Database
from headway.tools.search.fusion import fuse
from headway.tools.search.sources import Hit, SourceFailed, terms_of
from headway.tools.timing import SystemClock

pytestmark = pytest.mark.anyio

Reply = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def web(reply: Reply) -> Iterator[str]:
    """A server on this machine that replies to every request."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            reply(self)

        do_POST = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def says(body: bytes, status: int = 200, **headers: str) -> Reply:
    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return reply


def endpoint(url: str, **more: Any) -> Endpoint:
    return Endpoint(
        url=f"{url}/find?q={{query}}&n={{limit}}", hits="items", title="name", link="at",
        snippet="text", private=True, **more,
    )  # fmt: skip


def found(*names: str) -> bytes:
    items = [
        {"name": name, "at": f"https://x.test/{name}", "text": f"about {name}"} for name in names
    ]
    return json.dumps({"items": items}).encode()


async def search(asked: Sequence[Source], deadline: float = 20.0, **arguments: Any) -> Outcome:
    mcp = Headway("s")
    mcp.add_tool(SearchTool(asked, deadline=deadline).search)
    return await run_tool(mcp, "search", {"query": "rain", **arguments}, raise_on_error=False)


async def test_five_sources_of_which_one_fails_and_one_hangs() -> None:
    """Scenario 25."""
    sources = [
        Fixed("a", "one", "two"), Fixed("b", "two"), Fixed("c"),
        Raising("broken", SourceFailed("it is on holiday")), Hanging("hung"),
    ]  # fmt: skip
    outcome = await search(sources, deadline=0.3)
    assert not outcome.is_error
    result = outcome.result
    assert [(s["source"], s["status"], s["hits"]) for s in result["sources"]] == [
        ("a", "complete", 2), ("b", "complete", 1), ("c", "complete", 0),
        ("broken", "failed", 0), ("hung", "missing", 0),
    ]  # fmt: skip
    assert result["complete"] is False
    assert [hit["link"] for hit in result["hits"]] == ["two", "one"]
    assert result["hits"][0]["sources"] == ["a", "b"]
    assert {p["source"] for p in outcome.parts} == {"a", "b", "c", "broken"}
    assert [p["title"] for p in outcome.parts[0]["hits"]] == ["ONE", "TWO"]
    said = [message for _, _, message in outcome.progress]
    assert "a: 2 hits" in said
    assert "broken failed" in said
    assert {log.level for log in outcome.logs} == {"warning"}
    assert outcome.progress[-1][:2] == (5, 5)


async def test_a_source_s_own_bug_does_not_reach_the_client() -> None:
    outcome = await search([Raising("x", RuntimeError("secret at 10.0.0.1")), Fixed("y", "hit")])
    assert "secret" not in json.dumps([outcome.result, outcome.parts, outcome.logs])
    assert [hit["link"] for hit in outcome.result["hits"]] == ["hit"]


def test_ranks_are_fused_and_a_source_has_one_vote() -> None:
    a = [Hit("x", "x"), Hit("y", "y"), Hit("x", "x")]
    b = [Hit("z", "z"), Hit("Y of b", "y")]
    merged = fuse({"a": a, "b": b}, 10)
    assert [one.hit.link for one in merged] == ["y", "x", "z"]
    assert merged[0].score == pytest.approx(2 / 62)
    assert len(fuse({"a": a, "b": b}, 2)) == 2


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"query": ""}, "at least 1"),
        ({"query": '  "" '}, "no words"),
        ({"query": "x" * 2000}, "at most 1000"),
        ({"limit": 0}, "greater than or equal to 1"),
        ({"limit": 1000}, "less than or equal to 100"),
        ({"limit": "many"}, "valid integer"),
        ({"limit": float("nan")}, "valid integer"),
        ({"limit": 1.5}, "fractional part"),
        ({"query": None}, "valid string"),
        ({"query": "x" * 1_000_000}, "at most 1000"),
        ({"sources": ["x" * 1_000_000]}, "at most 100"),
        ({"sources": "a"}, "valid list"),
        ({"sources": ["a", "nowhere"]}, "no source nowhere; the sources are: a"),
        ({"sources": []}, "no source to ask"),
    ],
)
async def test_bad_arguments_get_a_sentence(arguments: dict[str, Any], complaint: str) -> None:
    outcome = await search([Fixed("a", "hit")], **arguments)
    assert outcome.is_error
    assert complaint in (outcome.error or "")
    assert len(outcome.error or "") < 500


@pytest.mark.parametrize(
    "query", ['"', "'; DROP TABLE x; --", "a AND OR NOT", "NEAR(", "\0", "*", "%_"]
)
async def test_any_text_is_only_words_to_documents_and_databases(
    query: str, tmp_path: Path
) -> None:
    file = database(tmp_path)
    table = Table("page", ("title", "body"), "title", "{slug}")
    sources: list[Source] = [Database("db", Databank(f"sqlite:///{file}", (table,)))]
    outcome = await search([*sources, Fixed("a")], query=f"{query} words")
    assert outcome.result["complete"], outcome.result


def database(place: Path, *, fts: bool = False) -> Path:
    file = place / "wiki.db"
    with sqlite3.connect(file) as db:
        if fts:
            db.execute("CREATE VIRTUAL TABLE page USING fts5(slug, title, body)")
        else:
            db.execute("CREATE TABLE page (slug TEXT, title TEXT, body TEXT)")
        rows = [
            ("r/1", "Rain", "Rain falls from clouds."),
            ("s2", "Snow", "Snow is frozen rain, 100% of it."),
            ("t3", "Tea", "Nothing about weather."),
        ]
        db.executemany("INSERT INTO page VALUES (?, ?, ?)", rows)
    db.close()
    return file


@pytest.mark.parametrize("fts", [False, True], ids=["LIKE", "FTS5"])
async def test_a_database_is_searched_and_only_read(fts: bool, tmp_path: Path) -> None:
    file = database(tmp_path, fts=fts)
    table = Table("page", ("title", "body"), "title", "https://wiki.test/{slug}", snippet="body")
    outcome = await search([Database("wiki", Databank(f"sqlite:///{file}", (table,)))])
    hits = outcome.result["hits"]
    assert [hit["title"] for hit in hits] == ["Rain", "Snow"]
    assert hits[0]["link"] == "https://wiki.test/r%2F1"
    assert "clouds" in hits[0]["snippet"]
    everything = await search(
        [Database("wiki", Databank(f"sqlite:///{file}", (table,)))], query="%"
    )
    assert len(everything.result["hits"]) == 1


@pytest.mark.parametrize(
    "url",
    ["sqlite:////nowhere/at/all.db", "sqlite:///{tmp}/notes.txt"],
    ids=["missing", "no database"],
)
async def test_a_database_that_cannot_be_read_is_a_failed_source(url: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("this is no database, only text " * 100)
    table = Table("page", ("title",), "title", "{slug}")
    databank = Databank(url.format(tmp=tmp_path), (table,))
    outcome = await search([Database("db", databank), Fixed("a", "hit")])
    assert [s["status"] for s in outcome.result["sources"]] == ["failed", "complete"]


async def test_an_endpoint_is_asked_with_the_words_encoded() -> None:
    asked: list[str] = []

    def reply(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.path)
        says(found("a b", "c"))(handler)

    with web(reply) as url:
        source = Api("web", endpoint(url), SystemClock())
        outcome = await search([source], query="rain & {limit}/?#", limit=3)
    assert asked == ["/find?q=rain%20%26%20%7Blimit%7D%2F%3F%23&n=3"]
    assert [hit["title"] for hit in outcome.result["hits"]] == ["a b", "c"]


async def test_an_endpoint_is_asked_with_parameters_and_a_body() -> None:
    asked: list[tuple[str, str, Any]] = []

    def reply(handler: BaseHTTPRequestHandler) -> None:
        size = int(handler.headers["Content-Length"])
        body = json.loads(handler.rfile.read(size))
        asked.append((handler.path, handler.headers["Content-Type"], body))
        says(found("a"))(handler)

    with web(reply) as url:
        source = Endpoint(
            url=f"{url}/find?v=1", method="POST", private=True,
            params={"text": "{query}", "n": "{limit}"},
            body={"match": "all: {query}", "size": "{limit}", "more": ["{query}", 1, None]},
            hits="items", title="name", link="at",
        )  # fmt: skip
        query = 'a&b="{limit}'
        outcome = await search([Api("web", source, SystemClock())], query=query, limit=3)
    assert outcome.result["complete"], outcome.result
    body = {"match": f"all: {query}", "size": 3, "more": [query, 1, None]}
    path = "/find?v=1&text=a%26b%3D%22%7Blimit%7D&n=3"
    assert asked == [(path, "application/json", body)]


HOSTILE: dict[str, tuple[Reply, str]] = {
    "500": (says(b"oops", 500), "status 500"),
    "garbage": (says(b"\xff\xfe<html>"), "no JSON"),
    "nothing": (says(b""), "no JSON"),
    "no list": (says(b'{"items": {"a": 1}}'), "no list"),
    "other shape": (says(b'{"items": [1, null, {"x": 1}]}'), "none of its hits"),
    "deep": (says(b'{"items": ' + b"[" * 100_000), "no JSON"),
    "packed": (says(b"x", Content_Encoding="gzip"), "packed"),
    "redirect away": (says(b"", 302, Location="http://169.254.169.254/latest"), "not allowed"),
    "redirect to a file": (says(b"", 302, Location="file:///etc/passwd"), "no http"),
    "redirect for ever": (says(b"", 302, Location="/again"), "redirects more than"),
}


@pytest.mark.parametrize("kind", HOSTILE)
async def test_an_endpoint_that_answers_badly_is_a_failed_source(kind: str) -> None:
    reply, reason = HOSTILE[kind]
    with web(reply) as url:
        outcome = await search([Api("web", endpoint(url), SystemClock()), Fixed("a", "hit")])
    first, second = outcome.result["sources"]
    assert (first["status"], second["status"]) == ("failed", "complete")
    assert reason in first["reason"]


async def test_an_endless_answer_is_cut_at_its_limit() -> None:
    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            while True:
                handler.wfile.write(b" " * 65536)
        except OSError:
            pass

    with web(endless) as url:
        source = Api("web", endpoint(url, largest=200_000), SystemClock())
        outcome = await search([source])
    assert "larger than 200,000 bytes" in outcome.result["sources"][0]["reason"]


async def test_a_refused_connection_is_a_failed_source() -> None:
    source = Api("web", endpoint("http://127.0.0.1:1"), SystemClock())
    outcome = await search([source])
    assert "connection failed" in outcome.result["sources"][0]["reason"]


async def test_earlier_answers_stand_in_for_a_source_that_fails(tmp_path: Path) -> None:
    cache = Cache("cache", tmp_path / "answers.db", 3600, SystemClock())
    first = await search([Fixed("a", "one"), Fixed("b", "two"), cache])
    assert {hit["link"] for hit in first.result["hits"]} == {"one", "two"}
    down = Raising("a", SourceFailed("down"))
    second = await search([down, Fixed("b", "two"), cache], query="  RAIN ")
    hits = {hit["link"]: hit["sources"] for hit in second.result["hits"]}
    assert hits == {"one": ["cache"], "two": ["b"]}
    assert (await search([down, cache], query="other")).result["hits"] == []


async def test_an_earlier_answer_is_marked_with_its_age(tmp_path: Path) -> None:
    class Later(SystemClock):
        def time(self) -> float:
            return super().time() + 90

    await search([Fixed("a", "x", "y"), Cache("cache", tmp_path / "c.db", 3600, SystemClock())])
    cache = Cache("cache", tmp_path / "c.db", 3600, Later())
    down = Raising("a", SourceFailed("down"))
    outcome = await search([down, cache, Fixed("b", "z", "y")])
    assert {hit["link"]: hit["age"] for hit in outcome.result["hits"]} == {
        "x": pytest.approx(90, abs=5), "y": None, "z": None,
    }  # fmt: skip
    (cached,) = [part for part in outcome.parts if part["source"] == "cache"]
    assert [hit["source"] for hit in cached["hits"]] == ["a", "a"]
    assert cached["hits"][0]["age"] == pytest.approx(90, abs=5)


async def test_a_cache_that_cannot_be_written_costs_no_answer(tmp_path: Path) -> None:
    cache = Cache("cache", tmp_path / "c.db", 3600, SystemClock())
    await search([Fixed("a", "one"), cache])
    with closing(sqlite3.connect(tmp_path / "c.db")) as busy:
        busy.execute("BEGIN EXCLUSIVE")
        outcome = await search([Fixed("a", "one"), cache], deadline=0.5)
    assert [s["status"] for s in outcome.result["sources"]] == ["complete", "missing"]
    assert [part["source"] for part in outcome.parts] == ["a"]


async def test_a_failed_search_is_no_earlier_answer(tmp_path: Path) -> None:
    cache = Cache("cache", tmp_path / "c.db", 3600, SystemClock())
    await search([Raising("a", SourceFailed("down")), Hanging("b"), cache], deadline=0.2)
    assert not (tmp_path / "c.db").exists()


async def test_an_old_answer_is_no_answer(tmp_path: Path) -> None:
    class Later(SystemClock):
        def time(self) -> float:
            return super().time() + 7200

    await search([Fixed("a", "one"), Cache("cache", tmp_path / "c.db", 3600, SystemClock())])
    cache = Cache("cache", tmp_path / "c.db", 3600, Later())
    outcome = await search([Raising("a", SourceFailed("down")), cache])
    assert outcome.result["hits"] == []


async def test_a_broken_cache_is_a_failed_source_and_no_more(tmp_path: Path) -> None:
    (tmp_path / "c.db").write_bytes(b"not a database at all" * 100)
    cache = Cache("cache", tmp_path / "c.db", 3600, SystemClock())
    outcome = await search([Fixed("a", "one"), cache])
    assert [s["status"] for s in outcome.result["sources"]] == ["complete", "failed"]


async def test_what_was_indexed_is_found(tmp_path: Path) -> None:
    root, data = tmp_path / "root", tmp_path / "data"
    root.mkdir()
    (root / "weather.txt").write_text("Rain in the morning, sun in the evening.")
    (root / "tea.txt").write_text("Green tea.")
    mcp = build([root], data, config=Config())
    before = await run_tool(mcp, "search", {"query": "rain"})
    assert "process_files with operation='index'" in before.result["sources"][0]["reason"]
    await run_tool(mcp, "process_files", {"directory": ".", "operation": "index"})
    after = await run_tool(mcp, "search", {"query": '"in the morning" rain'})
    assert [Path(hit["link"]).name for hit in after.result["hits"]] == ["weather.txt"]


def test_a_query_is_split_into_words_and_phrases() -> None:
    assert terms_of('one "two three" one "') == ("one", "two three")
    assert terms_of('"" \0 "') == ()
