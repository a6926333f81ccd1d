"""An HTTP answer is read by the charset that it declares, and one that cannot be says so."""

import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from tests.tools.raw_servers import Start, allowed, batch, raw_servers, reply

from headway import Headway
from headway.testing import run_tool
from headway.tools.search import Api, Endpoint, SearchTool
from headway.tools.timing import SystemClock
from headway.tools.web.charsets import codec_of, decode

pytestmark = pytest.mark.anyio


@pytest.fixture
async def start() -> AsyncGenerator[Start]:
    async with raw_servers() as start:
        yield start


async def part_of(start: Start, body: bytes, content_type: str | None) -> dict[str, Any]:
    """The part of an item whose answer is this."""
    headers: dict[str, Any] = {} if content_type is None else {"Content_Type": content_type}
    web = await start(lambda _: reply(body=body, **headers))
    request = {"url": f"http://api.test:{web.port}/"}
    outcome = await batch({"api.test": allowed(web.port)}, [1], request)
    assert outcome.result["ok"] == 1
    return outcome.parts[0]


@pytest.mark.parametrize(
    ("codec", "declared", "text"),
    [
        ("latin-1", "text/plain; charset=iso-8859-1", "café"),
        ("cp1252", "text/plain; charset=ISO-8859-1", "10 € – “quoted”"),
        ("shift_jis", "text/plain; charset=Shift_JIS", "日本語"),
        ("cp932", 'text/html; charset="x-sjis"', "①～"),
        ("cp1251", "text/plain;charset=windows-1251", "Привет"),
        ("koi8-r", "text/plain; charset=KOI8-R", "Привет"),
        ("gbk", "text/plain; charset=gb2312", "中文測試"),
        ("big5", "text/plain; charset=Big5", "繁體中文"),
        ("euc-kr", "text/plain; charset=ks_c_5601-1987", "한국어"),
        ("iso2022_jp", "text/plain; charset=iso-2022-jp", "日本語"),
        ("cp874", "text/plain; charset=TIS-620", "ภาษาไทย"),
        ("utf-16-le", "text/plain; charset=utf-16le", "naïve 日本"),
        ("utf-16-be", "text/plain; charset=UTF-16BE", "naïve 日本"),
        ("utf-8", "text/plain; charset='utf8'", "naïve"),
        ("utf-8", None, "naïve"),
    ],
)
async def test_text_is_read_by_the_charset_that_is_declared(
    start: Start, codec: str, declared: str | None, text: str
) -> None:
    part = await part_of(start, text.encode(codec), declared)
    assert part["body"] == text
    assert "note" not in part


@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16", "utf-32"])
async def test_a_byte_order_mark_is_no_part_of_the_text_and_wins(start: Start, codec: str) -> None:
    data = json.dumps({"name": "café"}, ensure_ascii=False).encode(codec)
    part = await part_of(start, data, "application/json; charset=iso-8859-1")
    assert part["body"] == {"name": "café"}


async def test_json_is_read_by_its_charset_unless_it_is_utf_8(start: Start) -> None:
    text = json.dumps({"name": "café"}, ensure_ascii=False)
    declared = "application/json; charset=iso-8859-1"
    assert (await part_of(start, text.encode("latin-1"), declared))["body"] == {"name": "café"}
    # RFC 8259: JSON is UTF-8, and servers that say something else send it all the same.
    assert (await part_of(start, text.encode(), declared))["body"] == {"name": "café"}
    problem = "application/problem+json; charset=shift_jis"
    assert (await part_of(start, '{"a": "日本"}'.encode("cp932"), problem))["body"] == {"a": "日本"}


@pytest.mark.parametrize(
    "name",
    [
        "klingon",
        "zip",
        "idna",
        "punycode",
        "utf-7",
        "unicode_escape",
        "x" * 5000,
        "",
        "\\",
        "utf-99",
    ],
)
async def test_a_charset_that_is_none_is_utf_8_and_what_is_not_is_told(
    start: Start, name: str
) -> None:
    declared = f"text/plain; charset={name}"
    assert (await part_of(start, "naïve".encode(), declared))["body"] == "naïve"
    part = await part_of(start, b"caf\xe9", declared)
    assert part["body"] == "caf\ufffd"
    assert "not UTF-8" in part["note"]
    assert len(part["note"]) < 300


async def test_a_text_that_is_not_what_it_declares_says_so(start: Start) -> None:
    part = await part_of(start, b"caf\xe9", "text/plain; charset=utf-8")
    assert part["body"] == "caf\ufffd"
    assert "not utf-8 throughout" in part["note"]
    assert "note" in await part_of(start, b"\x89PNG\r\n\xff", "image/png")


@pytest.mark.parametrize("codec", ["utf-8", "shift_jis", "utf-16-le", "gb18030", "iso2022_jp"])
async def test_a_long_text_is_cut_between_characters(start: Start, codec: str) -> None:
    part = await part_of(start, ("日本" * 5000).encode(codec), f"text/plain; charset={codec}")
    assert part["body"] == "日本" * 1000 + "…"
    assert "note" not in part


@pytest.mark.parametrize(
    ("codec", "declared"),
    [
        ("latin-1", "application/json; charset=iso-8859-1"),
        ("cp1252", "text/json;charset=windows-1252"),
        ("utf-16", "application/json"),
        ("utf-8-sig", "application/json; charset=klingon"),
    ],
)
async def test_an_api_source_is_read_by_its_charset_too(
    start: Start, codec: str, declared: str
) -> None:
    found = {"items": [{"name": "Café", "at": "https://x.test/é"}]}
    data = json.dumps(found, ensure_ascii=False).encode(codec)
    web = await start(lambda _: reply(body=data, Content_Type=declared))
    outcome = await _search(web.port)
    assert [(hit["title"], hit["link"]) for hit in outcome["hits"]] == [
        ("Café", "https://x.test/é")
    ], outcome


async def test_an_api_source_that_cannot_be_read_says_why(start: Start) -> None:
    declared = "application/json; charset=klingon"
    web = await start(lambda _: reply(body=b'{"items": ["\xe9"]', Content_Type=declared))
    (source,) = (await _search(web.port))["sources"]
    assert source["status"] == "failed"
    assert "'klingon' is not known" in source["reason"]


async def test_what_is_sent_is_written_in_the_charset_that_the_caller_declares(
    start: Start,
) -> None:
    web = await start(lambda _: reply())
    request = {
        "url": f"http://api.test:{web.port}/{{item}}", "method": "POST", "body": "a={item}",
        "headers": {"Content-Type": "text/plain; charset=iso-8859-1"},
    }  # fmt: skip
    outcome = await batch({"api.test": allowed(web.port)}, ["é", "日"], request)
    assert web.header("content-length") == ["3"]
    assert "charset in Content-Type lacks" in outcome.result["failures"][0]["reason"]


def test_names_of_charsets_are_those_of_the_web() -> None:
    assert codec_of("text/plain; charset=latin1") == "cp1252"
    assert codec_of('text/plain; x="charset=utf-8"; charset=gbk') == "gb18030"
    assert codec_of("text/plain; charset*=utf-8''koi8-r") == "koi8-r"
    assert codec_of("text/plain") is None
    assert decode(b"", "text/plain; charset=utf-16").text == ""


async def _search(port: int) -> dict[str, Any]:
    endpoint = Endpoint(
        url=f"http://127.0.0.1:{port}/?q={{query}}", hits="items", title="name", link="at",
        private=True,
    )  # fmt: skip
    mcp = Headway("s")
    mcp.add_tool(SearchTool([Api("web", endpoint, SystemClock())]).search)
    return (await run_tool(mcp, "search", {"query": "x"})).result
