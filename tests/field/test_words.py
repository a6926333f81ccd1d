"""Words are found in whatever they are written, or the source says what it cannot do."""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.kit.databases import URLS, table_of
from tests.kit.peers import connect, each_era, served

from headway import Headway
from headway.testing import run_tool
from headway.tools import build, words
from headway.tools.search import Databank, SearchTool, Table
from headway.tools.search.database import Database
from headway.tools.search.tool import operators_in

pytestmark = pytest.mark.anyio

ROWS = {
    "latin": "Un café à l'École, and naïve words",
    "japanese": "今日は成語しりとりをした。カタカナも",
    "chinese": "北京大学图书馆。設備清單也在這裡",
    "korean": "오늘 게임을 했다",
    "thai": "ภาษาไทยไม่มีช่องว่าง",
    "khmer": "ភាសាខ្មែរមិនមានចន្លោះ",
    "burmese": "မြန်မာဘာသာစကား",
    "hindi": "हिन्दी में लिखा है",
    "arabic": "مكتبة الجامعة",
    "russian": "ПРИВЕТ всем",
    "greek": "ΑΘΗΝΑ και Πάτρα",
    "signs": "C++ → 😀 at 100%",
    "common": "to be or not to be",
}

QUERIES = [
    ("cafe", "latin"), ("CAFÉ", "latin"), ("école", "latin"), ("naive", "latin"),
    ("しりとり", "japanese"), ("今日", "japanese"), ("成語しりとり", "japanese"),
    ("カタカナ", "japanese"),
    ("ｶﾀｶﾅ", "japanese"), ("設備", "chinese"), ("設備清單", "chinese"), ("图书馆", "chinese"),
    ("北", "chinese"), ("게임", "korean"), ("게임", "korean"), ("ไทย", "thai"), ("ช่องว่าง", "thai"),
    ("ខ្មែរ", "khmer"), ("ဘာသာ", "burmese"), ("हिन्दी", "hindi"), ("الجامعة", "arabic"),
    ("привет", "russian"), ("αθηνα", "greek"), ("πατρα", "greek"), ("++", "signs"), ("→", "signs"),
    ("😀", "signs"), ("100%", "signs"), ('"to be or not"', "common"), ("设备", None), ("象", None),
]  # fmt: skip


def server_of(directory: Path) -> Headway:
    """The ready-made tools over a directory with a file for each row."""
    root = directory / "root"
    if not root.exists():
        root.mkdir()
        for name, text in ROWS.items():
            (root / f"{name}.md").write_text(f"{text}\n")
    return build([root], directory / "data")


async def found(server: Headway, query: str, **more: Any) -> list[str]:
    outcome = await run_tool(server, "search", {"query": query, "limit": 100, **more})
    assert outcome.result["complete"], outcome.result["sources"]
    return [hit["link"].removesuffix(".md") for hit in outcome.result["hits"]]


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Headway:
    """A server whose files are in its index."""
    server = server_of(tmp_path_factory.mktemp("words"))
    anyio.run(run_tool, server, "process_files", {"directory": ".", "operation": "index"})
    return server


@pytest.mark.parametrize(("query", "row"), QUERIES)
async def test_a_word_of_an_indexed_file_is_found(
    indexed: Headway, query: str, row: str | None
) -> None:
    assert await found(indexed, query) == ([] if row is None else [row])


async def test_a_file_is_found_by_the_names_below_its_root_and_not_by_those_above(
    tmp_path: Path,
) -> None:
    home = tmp_path / "accounts"
    (home / "root" / "letters").mkdir(parents=True)
    (home / "root" / "letters" / "one.md").write_text("an apple\n")
    (home / "root" / "two.md").write_text("a pear\n")
    server = build([home / "root"], home / "data")
    await run_tool(server, "process_files", {"directory": "letters", "operation": "index"})
    await run_tool(server, "process_files", {"directory": ".", "operation": "index"})
    assert await found(server, "letters") == ["letters/one"]
    assert await found(server, "accounts") == []
    assert await found(server, "accounts pear") == ["two"]


@each_era
async def test_over_the_wire_such_a_word_is_found_with_the_text_around_it(
    indexed: Headway, era: str
) -> None:
    async with served(indexed) as wire:
        client = await connect(wire, era)
        answer = await client.call("search", {"query": "設備"})
        result = (await answer.outcome())["result"]["structuredContent"]
    assert [hit["link"] for hit in result["hits"]] == ["chinese.md"]
    assert result["hits"][0]["snippet"] == ROWS["chinese"]
    assert result["hits"][0]["title"] == ROWS["chinese"]


async def test_a_sentence_without_spaces_is_found_by_its_parts(indexed: Headway) -> None:
    assert await found(indexed, "設備清單在哪裡") == ["chinese"]
    assert await found(indexed, "図書館の設備") == ["chinese"]


async def test_signs_and_words_together_are_all_looked_for(indexed: Headway) -> None:
    assert await found(indexed, "at ++") == ["signs"]
    assert await found(indexed, "cafe ++") == []


async def test_a_file_s_name_is_found_in_any_script(tmp_path: Path) -> None:
    server = server_of(tmp_path)
    (tmp_path / "root" / "会議の記録.txt").write_text("nothing\n")
    await run_tool(server, "process_files", {"directory": ".", "operation": "index"})
    assert await found(server, "会議") == ["会議の記録.txt"]


@pytest.fixture(scope="module", params=["PostgreSQL", "MariaDB", "SQLite", "FTS5"])
def wiki(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str]]:
    rows = [{"slug": name, "title": name, "body": text} for name, text in ROWS.items()]
    if request.param in URLS:
        with table_of(request.param, rows) as made:
            yield made
        return
    file = tmp_path_factory.mktemp("wiki") / "wiki.db"
    kind = "VIRTUAL TABLE page USING fts5" if request.param == "FTS5" else "TABLE page"
    with closing(sqlite3.connect(file)) as database:
        database.execute(f"CREATE {kind}(slug, title, body)")
        database.executemany("INSERT INTO page VALUES (:slug, :title, :body)", rows)
        database.commit()
    yield f"sqlite:///{file}", "page"


def searching(url: str, name: str, columns: Sequence[str] = ("body",)) -> Headway:
    table = Table(name, tuple(columns), "title", "{slug}")
    mcp = Headway("s")
    mcp.add_tool(SearchTool([Database("wiki", Databank(url, (table,)))]).search)
    return mcp


@pytest.mark.parametrize(("query", "row"), QUERIES)
async def test_a_word_of_a_row_is_found(
    wiki: tuple[str, str], query: str, row: str | None, request: pytest.FixtureRequest
) -> None:
    if "FTS5" in request.node.callspec.id and query in ("ｶﾀｶﾅ", "πατρα"):
        pytest.skip("its own tokenizer, which makes no matter of it")
    expected = [] if row is None else [row]
    assert await found(searching(*wiki), query) == expected


async def test_a_table_that_cuts_words_in_three_is_searched_for_shorter_ones_too(
    tmp_path: Path,
) -> None:
    with closing(sqlite3.connect(tmp_path / "wiki.db")) as database:
        database.execute(
            "CREATE VIRTUAL TABLE page USING fts5(slug, title, body, tokenize='trigram')"
        )
        database.execute("INSERT INTO page VALUES ('a', 'a', '設備清單 and more')")
        database.commit()
    server = searching(f"sqlite:///{tmp_path / 'wiki.db'}", "page")
    for query in ("設備", "設備清單", "ore", "an"):
        assert await found(server, query) == ["a"], query


OLD = """
CREATE TABLE file (
    id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, size INTEGER NOT NULL, mtime_ns INTEGER NOT
    NULL
);
CREATE VIRTUAL TABLE text USING fts5 (
    path, title, body, tokenize = "unicode61 remove_diacritics 2"
);
PRAGMA user_version = 1;
"""


def old_index(directory: Path) -> None:
    """An index as the version before made it: texts are whole."""
    server_of(directory)
    (directory / "data").mkdir()
    with closing(sqlite3.connect(directory / "data" / "index.sqlite")) as index:
        index.executescript(OLD)
        for number, (name, text) in enumerate(ROWS.items(), start=1):
            path = str(directory / "root" / f"{name}.md")
            status = os.stat(path)  # noqa: PTH116 - as the index keeps it
            row = (number, path, status.st_size, status.st_mtime_ns)
            index.execute("INSERT INTO file VALUES (?, ?, ?, ?)", row)
            values = (number, path, text, f"{text}\n")
            index.execute("INSERT INTO text (rowid, path, title, body) VALUES (?, ?, ?, ?)", values)
        index.commit()


async def test_an_index_of_an_earlier_version_is_brought_up_to_date_by_a_search(
    tmp_path: Path,
) -> None:
    old_index(tmp_path)
    server = server_of(tmp_path)
    assert await found(server, "設備清單") == ["chinese"]
    assert await found(server, "cafe") == ["latin"]
    # Nothing had to be read again for it.
    again = await run_tool(server, "process_files", {"directory": ".", "operation": "index"})
    assert again.result["skipped_because"] == {"unchanged since it was indexed": len(ROWS)}


async def test_an_index_of_an_earlier_version_that_is_busy_is_searched_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old_index(tmp_path)
    server = server_of(tmp_path)
    monkeypatch.setattr("headway.tools.search.sources.UPDATING", 0.05)
    with closing(sqlite3.connect(tmp_path / "data" / "index.sqlite")) as busy:
        busy.execute("PRAGMA journal_mode = WAL")
        busy.execute("BEGIN IMMEDIATE")
        assert await found(server, "cafe") == ["latin"]
        outcome = await run_tool(server, "search", {"query": "設備"})
        assert not outcome.result["complete"]
        assert "made by an earlier version" in outcome.result["sources"][0]["reason"]


def test_long_texts_are_split_in_pieces_and_joined_as_they_were() -> None:
    text = ("設備 清單 Ünïcode " * 10 + "한국어ภาษา" * 20) * 800
    assert words.join(words.split(text)) == text
    assert words.split("plain words") == "plain words"
    assert words.split("ｶﾞ") == words.split("ガ")


def test_marks_of_no_meaning_take_no_quadratic_time() -> None:
    """Python sorts accents in quadratic time where whole texts are normalized: minutes for this."""
    hostile = "e\u0301\u0323" * 300_000
    assert len(words.split(hostile)) == len(hostile)
    assert words.folded(hostile) == "e" * 300_000


@pytest.mark.parametrize(
    ("query", "noted"),
    [
        ("rain -snow", ["-snow"]), ("rain AND snow", ["AND"]), ("NOT rain", ["NOT"]),
        ("rain*", ["rain*"]), ("title:rain", ["title:rain"]), ("/ra.n/", ["/ra.n/"]),
        ("+rain", ["+rain"]), ('"rain AND snow"', []), ("rain and snow", []),
        ("a-b http://x.y", []),
    ],
)  # fmt: skip
async def test_what_looks_like_an_operator_is_told(
    indexed: Headway, query: str, noted: list[str]
) -> None:
    notes = operators_in(query)
    assert [note.split("'")[1] for note in notes] == noted
    outcome = await run_tool(indexed, "search", {"query": query})
    assert outcome.result["notes"] == notes
