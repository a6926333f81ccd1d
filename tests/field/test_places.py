"""A template with a place that is none: nothing is sent, and the error has the form that works."""

import json
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.kit.peers import connect, each_era, served
from tests.tools.raw_servers import RawServer, Start, allowed, batch, raw_servers, reply

from headway import Headway
from headway.testing import run_tool
from headway.tools.batch import BatchTool
from headway.tools.config import ConfigError, load
from headway.tools.search import Databank, SearchTool, Table
from headway.tools.search.database import Database
from headway.tools.web.hosts import Hosts

pytestmark = pytest.mark.anyio

ITEMS = [{"id": 7, "name": "a", "kind": "x"}, {"id": 8, "name": "b", "kind": "x"}]


@pytest.fixture
async def start() -> AsyncGenerator[Start]:
    async with raw_servers() as start:
        yield start


@pytest.fixture
async def web(start: Start) -> RawServer:
    return await start(lambda _: reply())


async def refused(web: RawServer, items: list[Any], **request: Any) -> str:
    """What a caller is told; nothing may have been sent."""
    request["url"] = request.get("url", "http://api.test:PORT/{item.id}")
    request["url"] = request["url"].replace("PORT", str(web.port))
    outcome = await batch({"api.test": allowed(web.port)}, items, request)
    assert outcome.is_error, outcome.parts
    assert web.heads == []
    return outcome.error or ""


async def sent(web: RawServer, items: list[Any], **request: Any) -> list[str]:
    """The paths that were asked."""
    request["url"] = request.get("url", "http://api.test:PORT/{item.id}")
    request["url"] = request["url"].replace("PORT", str(web.port))
    outcome = await batch({"api.test": allowed(web.port)}, items, request)
    assert outcome.result["ok"] == len(items), (outcome.error, outcome.parts)
    return sorted(web.paths)


@pytest.mark.parametrize(
    ("path", "right"),
    [
        ("{{item.id}}", "{item.id}"), ("{{ item.id }}", "{item.id}"), ("{ item.id }", "{item.id}"),
        ("{id}", "{item.id}"), ("${item.id}", "{item.id}"), ("${id}", "{item.id}"),
        ("<item.id>", "{item.id}"), ("<id>", "{item.id}"), ("%s", "{item.id} or {item.name}"),
        ("%(id)s", "{item.id}"), (":id", "{item.id}"), ("%7Bitem.id%7D", "{item.id}"),
        ("{items[0].id}", "{item.id}"), ("{item['id']}", "{item.id}"), ("{Item.ID}", "{item.id}"),
        ("{}", "{item.id} or {item.name}"), ("{0}", "{item.id}"), ("{item.id", "{item.id}"),
        ("{item.id:>5}", "{item.id}"), ("$item", "{item.id}"), ("[item.id]", "{item.id}"),
        ("{user_id}", "{item.id} or {item.name}"), ("{{{item.id}}}", "{item.id}"),
    ],
)  # fmt: skip
async def test_what_is_no_place_in_a_url_is_refused_with_the_place_that_is_meant(
    web: RawServer, path: str, right: str
) -> None:
    url = f"http://api.test:PORT/{{item.name}}/{path}"
    error = await refused(web, ITEMS, url=url, method="POST")
    assert "Nothing was sent. The url" in error
    assert f"write {right}" in error


@pytest.mark.parametrize(
    "text",
    [
        "{{item.id}}", "{ item.id }", "{id}", "Dear {name}", "Dear {{name}}", "${id}", "<item.id>",
        "%s", "item.id", "item['id']", "Dear {}", "{ITEM}", "cost ${item.id}", '{"a": "{{item}}"}',
    ],
)  # fmt: skip
@pytest.mark.parametrize("place", ["body", "name", "header"])
async def test_what_is_no_place_in_a_body_or_a_header_is_refused(
    web: RawServer, text: str, place: str
) -> None:
    more: dict[str, Any] = {
        "body": {"body": {"a": ["{item.id}", {"b": text}]}},
        "name": {"body": {text: "{item.id}"}},
        "header": {"headers": {"X-Note": text}},
    }[place]
    error = await refused(web, ITEMS, method="POST", **more)
    assert "is no place for an item" in error
    assert "as_written" in error


@pytest.mark.parametrize(
    "text",
    [
        'query { user(id: "{item.id}") { name } }', "mutation{drop(id:{item.id}){id}}",
        "<name>{item.name}</name>", "%Y-%m-%d", "$5.00", "50% off", "[a-z]{3}", "{}",
        "function () {}", "item", "Name <{item.name}>", "issue #{item.id}", "cart[item]",
        r"\frac{a}{b}", "<br>", "x@item.com",
    ],
)  # fmt: skip
async def test_what_is_something_else_is_sent_as_it_is(web: RawServer, text: str) -> None:
    body = {"text": text, "header": "x"}
    await sent(web, ITEMS, method="PUT", body=body)


async def test_what_is_meant_as_it_is_written_is_said_so(web: RawServer) -> None:
    body = {"hello": "Dear {name}", "price": "${item.id}"}
    error = await refused(web, ITEMS, method="POST", body=body)
    assert "'{name}'" in error or "'${item.id}'" in error
    as_written = ["{name}", "${item.id}"]
    assert await sent(web, ITEMS, method="POST", body=body, as_written=as_written) == ["/7", "/8"]


@pytest.mark.parametrize(
    ("items", "request_"),
    [
        ([7], {"method": "POST"}), ([7], {"method": "DELETE"}), ([7], {"method": "PUT"}),
        ([7], {"method": "PATCH", "body": {"amount": 5}}), ([7, 8], {"method": "GET"}),
        ([7, 8], {"method": "POST", "body": {"amount": 5}}),
    ],
)  # fmt: skip
async def test_a_request_without_any_place_is_refused_unless_that_is_said(
    web: RawServer, items: list[Any], request_: dict[str, Any]
) -> None:
    url = "http://api.test:PORT/pay"
    error = await refused(web, items, url=url, **request_)
    assert "has no place for the item" in error
    assert "same_for_all=true" in error
    assert len(await sent(web, items, url=url, same_for_all=True, **request_)) == len(items)


async def test_one_get_needs_no_place(web: RawServer) -> None:
    assert await sent(web, [7], url="http://api.test:PORT/all") == ["/all"]


async def test_items_that_are_alike_in_all_places_are_refused(web: RawServer) -> None:
    error = await refused(web, ITEMS, url="http://api.test:PORT/{item.kind}")
    assert "all 2 items are alike" in error
    assert "{item.id}" in error
    assert "alike" in await refused(web, [5, 5], url="http://api.test:PORT/{item}")


async def test_fields_with_dashes_lists_and_names_in_a_body_are_places(start: Start) -> None:
    web = await start(lambda _: reply())
    items = [{"user-id": 1, "tags": ["a", "b"]}, {"user-id": 2, "tags": ["c"]}]
    assert await sent(web, items, url="http://api.test:PORT/{item.user-id}/{item.tags.0}") == [
        "/1/a", "/2/c",
    ]  # fmt: skip
    outcome = await batch(
        {"api.test": allowed(web.port)}, [{"k": "a", "v": 1}],
        {"url": f"http://api.test:{web.port}/", "method": "PUT",
         "body": {"{item.k}": "{item.v}", "a": 2}},
    )  # fmt: skip
    assert "two names in its body would be the same" in outcome.result["failures"][0]["reason"]


async def test_json_as_a_text_and_json_with_another_type_are_refused(web: RawServer) -> None:
    error = await refused(web, ITEMS, method="POST", body='{"id": "{item.id}"}')
    assert "give the JSON itself" in error
    headers = {"content-type": "application/x-www-form-urlencoded"}
    error = await refused(web, ITEMS, method="POST", body={"id": "{item.id}"}, headers=headers)
    assert "write the body as one text" in error


@each_era
async def test_over_the_wire_a_mistaken_place_is_a_tool_error(web: RawServer, era: str) -> None:
    mcp = Headway("batch")
    mcp.add_tool(BatchTool(Hosts({"127.0.0.1": allowed(web.port)})).process_batch)
    request = {"url": f"http://127.0.0.1:{web.port}/{{{{item.id}}}}", "method": "POST"}
    async with served(mcp) as wire:
        client = await connect(wire, era)
        answer = await client.call("process_batch", {"items": ITEMS, "request": request})
        result = (await answer.outcome())["result"]
    assert result["isError"]
    assert "write {item.id}" in result["content"][0]["text"]
    assert web.heads == []


API = "[sources.web]\nkind = 'api'\ntitle = 'a'\nlink = 'b'\n"
WIKI = (
    "[sources.wiki]\nkind = 'database'\nurl = 'sqlite:///wiki.db'\n[[sources.wiki.tables]]\n"
    "name = 'page'\ncolumns = ['body']\ntitle = 'slug'\n"
)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (f"{API}url = 'https://x.test/?q={{{{query}}}}'", "5: sources.web.url: has what is no"),
        (f"{API}url = 'https://x.test/?q={{searchTerms}}&q={{query}}'", "(write {query})"),
        (f"{API}url = 'https://x.test/?q=%s&r={{query}}'", "(write {query} or {limit})"),
        (f"{API}url = 'https://x.test/?q={{query}}&n={{count}}'", "(write {limit})"),
        (f"{API}url = 'https://x.test/{{query}}'\nparams = {{ n = '{{ limit }}' }}",
         "(write {limit})"),
        (f"{API}url = 'https://x.test/'\nmethod = 'POST'\nbody = {{ q = '{{{{query}}}}' }}",
         "7: sources.web.body: has what is no place"),
        (f"{API}url = 'https://x.test/{{query}}'\nheaders = {{ X = '{{query}}' }}",
         "6: sources.web.headers: X has a place"),
        (f"{API}url = 'https://x.test/{{query}}'\nhits = 'data.items[0]'",
         "6: sources.web.hits: is no path"),
        (f"{API}url = 'https://x.test/{{query}}'\nhits = '$.data'", "is no path"),
        (f"{API}url = 'https://x.test/{{query}}'\nhits = '/data/items'", "is no path"),
        (f"{WIKI}link = 'https://x.test/{{{{slug}}}}'", "8: sources.wiki.tables.0.link: has what"),
        (f"{WIKI}link = 'https://${{HOST}}/{{slug}}'", "link: has what is no place: '${HOST}'"),
        (f"{WIKI}link = 'https://x.test/{{page.slug}}'", "'page.slug' is no name of a column"),
        (f"{WIKI}link = 'https://x.test/{{ slug }}'", "is no name of a column"),
        (f"{WIKI}link = 'https://x.test/page'", "link: has no column in braces"),
    ],
)  # fmt: skip
def test_templates_of_sources_are_looked_at_before_anything_starts(
    tmp_path: Path, text: str, complaint: str
) -> None:
    (tmp_path / "headway.toml").write_text(text)
    with pytest.raises(ConfigError) as refused:
        load(tmp_path / "headway.toml")
    assert complaint in str(refused.value)


async def test_a_column_that_is_not_there_is_no_text(tmp_path: Path) -> None:
    """SQLite takes a name that it does not know for a text."""
    with closing(sqlite3.connect(tmp_path / "wiki.db")) as wiki:
        wiki.execute("CREATE TABLE page (slug TEXT, body TEXT)")
        wiki.execute("INSERT INTO page VALUES ('a', 'rain')")
        wiki.commit()
    for table in (
        Table("page", ("body",), "slug", "{slugg}"), Table("page", ("bodyy",), "slug", "{slug}")
    ):  # fmt: skip
        mcp = Headway("s")
        databank = Databank(f"sqlite:///{tmp_path / 'wiki.db'}", (table,))
        mcp.add_tool(SearchTool([Database("wiki", databank)]).search)
        outcome = await run_tool(mcp, "search", {"query": "body"})
        assert outcome.result["hits"] == [], json.dumps(outcome.result)
        assert outcome.result["sources"][0]["status"] == "failed"
        assert "no such column" in outcome.result["sources"][0]["reason"]
