"""`search` over databases that are servers, where this machine has them."""

import os
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from headway import Headway
from headway.testing import run_tool
from headway.tools.search import Databank, SearchTool, Table
from headway.tools.search.database import Database

pytestmark = pytest.mark.anyio

URLS = {
    "PostgreSQL": os.environ.get(
        "HEADWAY_TEST_POSTGRES", "postgresql+psycopg://root@127.0.0.1/test"
    ),
    "MariaDB": os.environ.get("HEADWAY_TEST_MARIADB", "mysql+pymysql://root@127.0.0.1/test"),
}

ROWS = [
    ("r/1", "Rain", "Rain falls from clouds; it is raining."),
    ("s2", "Snow", "Snow is frozen rain, 100% of it."),
    ("t3", "Tea", "Nothing about weather."),
]


@pytest.fixture(params=URLS)
def wiki(request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """A database with a small table of its own: its URL and the table's name."""
    url = URLS[request.param]
    name = f"headway_{request.param}_{os.getpid()}".lower()
    try:
        engine = sa.create_engine(url, connect_args={"connect_timeout": 3})
        connection = engine.connect()
    except OperationalError as error:
        pytest.skip(f"no {request.param} here: {str(error).splitlines()[0]}")
    table = sa.Table(
        name,
        sa.MetaData(),
        *(sa.Column(column, sa.Text) for column in ("slug", "Title", "body")),
    )
    with closing(connection):
        table.create(connection)
        connection.execute(
            table.insert(), [dict(zip(("slug", "Title", "body"), row, strict=True)) for row in ROWS]
        )
        connection.commit()
        try:
            yield url, name
        finally:
            table.drop(connection)
            connection.commit()
    engine.dispose()


async def search(url: str, name: str, query: str, **more: Any) -> dict[str, Any]:
    table = Table(name, ("Title", "body"), "Title", "https://wiki.test/{slug}", **more)
    mcp = Headway("s")
    mcp.add_tool(SearchTool([Database("wiki", Databank(url, (table,), 5))]).search)
    outcome = await run_tool(mcp, "search", {"query": query})
    return outcome.result


async def test_rows_are_found_and_the_title_counts(wiki: tuple[str, str]) -> None:
    result = await search(*wiki, "rain", snippet="body")
    assert result["complete"], result["sources"]
    assert [hit["title"] for hit in result["hits"]] == ["Rain", "Snow"]
    assert result["hits"][0]["link"] == "https://wiki.test/r%2F1"


@pytest.mark.parametrize("query", ["'; DROP TABLE x; --", '"', "%", "rain & | ! (", "\\", "😀"])
async def test_any_text_is_only_words(wiki: tuple[str, str], query: str) -> None:
    result = await search(*wiki, f"{query} words")
    assert result["complete"], result["sources"]
    assert (await search(*wiki, "snow"))["hits"]


async def test_what_is_not_there_is_a_failed_source(wiki: tuple[str, str]) -> None:
    url, name = wiki
    result = await search(url, f"{name}_not", "rain")
    assert result["sources"][0]["status"] == "failed"
    assert "SELECT" not in result["sources"][0]["reason"].split("\n")[0][:60]
