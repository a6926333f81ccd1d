"""What is refused: with which status and code, and a sentence that says what to do.

One server for the table: a refusal must leave no trace that the next row could find.
"""

import asyncio
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.kit.http import request_bytes
from tests.kit.peers import JSON_AND_SSE, MODERN, Modern, Session, Wire, served, text_of
from tests.kit.waits import until

from headway import Headway, Settings, report

pytestmark = pytest.mark.anyio

LIMIT = 10_000


def server() -> Headway:
    mcp = Headway("strict")

    @mcp.tool()
    async def add(a: int, b: int) -> int:
        return a + b

    return mcp


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever a client sends, nothing is logged with a traceback."""
    with caplog.at_level(logging.DEBUG):
        yield
    assert not [record for record in caplog.records if record.exc_info]


@dataclass
class Row:
    name: str
    status: int
    code: int | None
    word: str
    body: bytes | None = None
    message: Any = None
    method: str = "POST"
    headers: dict[str, str | None] = field(default_factory=dict[str, str | None])
    version: str = "2025-11-25"

    def sent(self) -> bytes:
        if self.body is not None:
            return self.body
        return b"" if self.message is None else json.dumps(self.message).encode()


def call(arguments: Any, **more: Any) -> dict[str, Any]:
    params = {"name": "add", "arguments": arguments, **more}
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}


def ping(**more: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": "ping", **more}


ROWS = [
    Row("broken JSON", 400, -32700, "JSON", b'{"jsonrpc": "2.0",'),
    Row("no JSON", 400, -32700, "JSON", b"<xml/>"),
    Row("two values", 400, -32700, "JSON", b"{} {}"),
    Row("NaN", 400, -32700, "JSON", b'{"jsonrpc":"2.0","id":NaN,"method":"ping"}'),
    Row("empty body", 400, -32700, "empty", b""),
    Row("not UTF-8", 400, -32700, "JSON", b'{"jsonrpc":"2.0","id":"\xff","method":"ping"}'),
    Row("UTF-16", 400, -32700, "UTF-8", '{"a":1}'.encode("utf-16")),
    Row("a lone surrogate", 400, -32700, "surrogate",
        rb'{"jsonrpc":"2.0","id":"\ud800","method":"x"}'),
    Row("too long a number", 400, -32700, "JSON", b'{"id":' + b"1" * 5000 + b"}"),
    Row("too big a number", 400, -32700, "JSON", b'{"id":1e999}'),
    Row("deep arrays", 413, -32600, "larger", b"[" * 100_000),
    Row("arrays as deep as fit", 400, -32700, "deep", b"[" * 9_999),
    Row("objects as deep as fit", 400, -32700, "deep", b'{"a":' * 1_900),
    Row("deep and closed", 400, -32700, "deep", b"[" * 200 + b"]" * 200),
    Row("deep arguments", 400, -32700, "deep", json.dumps(call({})).encode().replace(
        b'"arguments": {}', b'"arguments": ' + b'{"a":' * 200 + b"1" + b"}" * 200)),
    Row("a number", 400, -32600, "object", b"7"),
    Row("null", 400, -32600, "object", b"null"),
    Row("no version", 400, -32600, "jsonrpc", message={"id": 1, "method": "ping"}),
    Row("old version", 400, -32600, "jsonrpc", message=ping(jsonrpc="1.0")),
    Row("nothing", 400, -32600, "no method", message={"jsonrpc": "2.0"}),
    Row("a method of a wrong type", 400, -32600, "string", message=ping(method=7)),
    Row("result and error", 400, -32600, "answer",
        message={"jsonrpc": "2.0", "id": "x", "result": {}, "error": {}}),
    Row("params as a list", 400, -32600, "params", message=ping(params=[1])),
    Row("params as text", 400, -32600, "params", message=ping(params="x")),
    Row("id null", 400, -32600, "id", message=ping(id=None)),
    Row("id true", 400, -32600, "id", message=ping(id=True)),
    Row("id with a fraction", 400, -32600, "id", message=ping(id=1.5)),
    Row("id as an object", 400, -32600, "id", message=ping(id={})),
    Row("id too long", 400, -32600, "512", message=ping(id="x" * 513)),
    Row("id too big", 400, -32600, "id", message=ping(id=2**63)),
    Row("a batch", 400, -32600, "one message", message=[ping()]),
    Row("an empty batch", 400, -32600, "batch", message=[], version="2025-03-26"),
    Row("a batch of nonsense", 400, -32600, "object", message=[1, 2], version="2025-03-26"),
    Row("a batch with a handshake", 400, -32600, "initialize",
        message=[ping(method="initialize")], version="2025-03-26"),
    Row("an answer nobody waits for", 400, -32600, "waits",
        message={"jsonrpc": "2.0", "id": "nope", "result": {}}),
    Row("an error nobody waits for", 400, -32600, "waits",
        message={"jsonrpc": "2.0", "id": 4, "error": {"code": "x"}}),
    Row("unknown method", 200, -32601, "not found", message=ping(method="no/such")),
    Row("call without a name", 200, -32602, "Invalid",
        message=ping(method="tools/call", params={})),
    Row("arguments as a list", 200, -32602, "Invalid", message=call([1])),
    Row("a list as a URI", 200, -32602, "uri",
        message=ping(method="resources/subscribe", params={"uri": ["a"]})),
    Row("an object as a URI", 200, -32602, "uri",
        message=ping(method="resources/subscribe", params={"uri": {"a": 1}})),
    Row("a URI to forget that is a list", 200, -32602, "uri",
        message=ping(method="resources/unsubscribe", params={"uri": [1]})),
    Row("a list as a level", 200, -32602, "level",
        message=ping(method="logging/setLevel", params={"level": ["a"]})),
    Row("no session", 400, -32600, "initialize", message=ping(), headers={"Mcp-Session-Id": None}),
    Row("unknown session", 404, -32001, "initialize", message=ping(),
        headers={"Mcp-Session-Id": "nope"}),
    Row("an odd session", 404, -32001, "initialize", message=ping(),
        headers={"Mcp-Session-Id": "\xe9/../%00"}),
    Row("unknown version", 400, -32602, "2025-11-25", message=ping(),
        headers={"MCP-Protocol-Version": "2024-13-99"}),
    Row("modern without an envelope", 400, -32602, "_meta", message=ping(),
        headers={"MCP-Protocol-Version": MODERN}),
    Row("a modern batch", 400, -32600, "object", message=[ping()],
        headers={"MCP-Protocol-Version": MODERN}),
    Row("no content type", 415, -32600, "application/json", message=ping(),
        headers={"Content-Type": None}),
    Row("a form", 415, -32600, "application/json", message=ping(),
        headers={"Content-Type": "text/plain"}),
    Row("only HTML accepted", 406, -32600, "text/event-stream", message=ping(),
        headers={"Accept": "text/html"}),
    Row("GET for JSON", 406, -32600, "text/event-stream", method="GET",
        headers={"Accept": "application/json"}),
    Row("too large", 413, -32600, str(LIMIT), b" " * (LIMIT + 1)),
    Row("said to be huge", 413, -32600, str(LIMIT), b"",
        headers={"Content-Length": str(10**15)}),
    Row("a foreign host", 421, -32600, "allowed_hosts", message=ping(),
        headers={"Host": "evil.example"}),
    Row("a host that only begins well", 421, -32600, "allowed_hosts", message=ping(),
        headers={"Host": "127.0.0.1.evil.example"}),
    Row("an empty host", 421, -32600, "Host", message=ping(), headers={"Host": ""}),
    Row("a foreign origin", 403, -32600, "allowed_origins", message=ping(),
        headers={"Origin": "http://evil.example"}),
    Row("a null origin", 403, -32600, "allowed_origins", message=ping(),
        headers={"Origin": "null"}),
    Row("a broken origin", 403, -32600, "allowed_origins", message=ping(),
        headers={"Origin": "http://[::1"}),
    Row("PUT", 405, -32600, "POST", message=ping(), method="PUT"),
    Row("PATCH", 405, -32600, "POST", message=ping(), method="PATCH"),
    Row("OPTIONS", 405, -32600, "POST", method="OPTIONS"),
    Row("DELETE without a session", 400, -32600, "initialize", method="DELETE",
        headers={"Mcp-Session-Id": None}),
    Row("GET of an unknown session", 404, -32001, "initialize", method="GET",
        headers={"Mcp-Session-Id": "nope"}),
]  # fmt: skip


@pytest.mark.requirement("http.session.missing", era="2025")
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
async def test_a_bad_request_is_refused_and_the_session_goes_on(row: Row) -> None:
    async with served(server(), settings=Settings(max_body=LIMIT)) as wire:
        session = await Session.open(wire, row.version)
        answer = await wire.ask(row.method, session.headers(**row.headers), row.sent())
        assert answer.status == row.status, await answer.body()
        assert ("allow" in answer.headers) is (row.status == 405)
        error = (await answer.json())["error"]
        assert error["code"] == row.code
        assert row.word in error["message"]
        assert "\n" not in error["message"]
        still = await session.call("add", {"a": 1, "b": 2})
        assert text_of(await still.json()) == "3"


@pytest.mark.parametrize(
    ("tool", "arguments", "word"),
    [("add", {"a": "x", "b": 1}, "a"), ("add", {}, "b"), ("nope", {}, "nope")],
)
@pytest.mark.parametrize("era", ["2025", "2026"])
async def test_a_model_can_read_what_was_wrong_with_its_call(
    era: str, tool: str, arguments: dict[str, Any], word: str
) -> None:
    async with served(server()) as wire:
        client = await Session.open(wire) if era == "2025" else Modern(wire)
        outcome = await (await client.call(tool, arguments)).outcome()
        if "error" in outcome:
            assert outcome["error"]["code"] == -32602
        else:
            assert outcome["result"]["isError"]
            assert word in text_of(outcome)


@pytest.mark.parametrize(
    ("params", "word"),
    [
        ({"name": "nope"}, "Unknown prompt: 'nope'"),
        ({"name": "greet"}, "needs the arguments: name"),
        ({"name": "greet", "arguments": {"title": "Dr"}}, "needs the arguments: name"),
        ({"name": "greet", "arguments": {"name": "Ada", "age": "9"}}, "has no argument 'age'"),
    ],
)
@pytest.mark.parametrize("era", ["2025", "2026"])
async def test_a_client_can_read_what_was_wrong_with_its_prompt(
    era: str, params: dict[str, Any], word: str
) -> None:
    mcp = server()

    @mcp.prompt()
    def greet(name: str, title: str = "") -> str:
        return f"Greet {title} {name}"

    async with served(mcp) as wire:
        client = await Session.open(wire) if era == "2025" else Modern(wire)
        refused = (await (await client.request("prompts/get", params)).json())["error"]
        assert refused["code"] == -32602
        assert word in refused["message"]
        fine = {"name": "greet", "arguments": {"name": "Ada"}}
        assert "result" in await (await client.request("prompts/get", fine)).json()


# What is no HTTP


def post_head(wire: Wire, session: Session, *lines: str) -> bytes:
    head = {"Host": f"{wire.host}:{wire.port}", **session.headers()}
    extra = [tuple(line.split(": ", 1)) for line in lines]
    pairs = [*head.items(), *extra]
    return request_bytes("POST", "/mcp", [(name, value) for name, value in pairs])


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Length: -5"],
        ["Content-Length: 9e9"],
        ["Content-Length: " + "9" * 40],
        ["Content-Length: 5", "Content-Length: 6"],
    ],
)
async def test_a_body_length_that_makes_no_sense_is_a_400(lines: list[str]) -> None:
    async with served(server()) as wire:
        session = await Session.open(wire)
        answer = await wire.raw(post_head(wire, session, *lines))
        assert answer.status in (400, 413)
        assert (await session.request("ping")).status == 200


async def test_a_body_in_chunks_is_refused_when_it_grows_too_large() -> None:
    async with served(server(), settings=Settings(max_body=LIMIT)) as wire:
        session = await Session.open(wire)
        connection = await wire.connect()
        connection.write(post_head(wire, session, "Transfer-Encoding: chunked"))
        chunk = b"%x\r\n%b\r\n" % (6000, b" " * 6000)
        connection.write(chunk)
        await asyncio.sleep(0)
        connection.write(chunk)
        answer = await connection.answer()
        assert answer.status == 413
        assert str(LIMIT) in (await answer.json())["error"]["message"]


async def test_a_body_in_chunks_is_read_when_it_fits() -> None:
    async with served(server()) as wire:
        session = await Session.open(wire)
        connection = await wire.connect()
        connection.write(post_head(wire, session, "Transfer-Encoding: chunked"))
        for byte in json.dumps(ping()).encode():
            connection.write(b"1\r\n%c\r\n" % byte)
        connection.write(b"0\r\n\r\n")
        assert (await (await connection.answer()).json())["result"] == {}


@pytest.mark.parametrize(
    "data", [b"\x16\x03\x01\x02\x00\x01\x00\x01", b"GARBAGE\r\n\r\n", b"GET\r\n\r\n"]
)
async def test_garbage_is_a_400_and_hurts_nobody(data: bytes) -> None:
    async with served(server()) as wire:
        session = await Session.open(wire)
        answer = await wire.raw(data + b"\r\n\r\n")
        assert answer.status == 400
        assert (await session.request("ping")).status == 200


async def test_a_client_that_disconnects_in_the_middle_of_a_body_leaves_nothing_behind() -> None:
    async with served(server()) as wire:
        session = await Session.open(wire)
        connection = await wire.connect()
        connection.write(post_head(wire, session, "Content-Length: 50") + b'{"jsonrpc"')
        await until(lambda: not connection.writer.transport.get_write_buffer_size())
        connection.cut()
        assert (await session.request("ping")).status == 200
        assert not wire.app.engine.runs


async def test_two_requests_on_one_connection_are_answered_in_order() -> None:
    async with served(server()) as wire:
        session = await Session.open(wire)
        connection = await wire.connect()
        for id in (1, 2):
            body = json.dumps(ping(id=id)).encode()
            head = post_head(wire, session, f"Content-Length: {len(body)}")
            connection.write(head + body)
        for id in (1, 2):
            assert (await (await connection.answer()).json())["id"] == id


async def test_a_request_without_a_host_is_refused() -> None:
    async with served(server()) as wire:
        session = await Session.open(wire)
        answer = await wire.raw(request_bytes("POST", "/mcp", session.headers(), b"{}"))
        assert answer.status in (400, 421)


@pytest.mark.parametrize(
    "host", ["localhost:1", "LOCALHOST", "127.0.0.1", "[::1]:8000", "mine.example:99"]
)
async def test_hosts_that_are_ours_pass(host: str) -> None:
    async with served(server(), settings=Settings(allowed_hosts=("mine.example",))) as wire:
        session = await Session.open(wire, extra={"Host": host})
        assert (await session.request("ping")).status == 200


@pytest.mark.parametrize(
    "origin", ["http://localhost:3000", "http://[::1]", "https://ours.example"]
)
async def test_origins_that_are_ours_pass(origin: str) -> None:
    settings = Settings(allowed_origins=("https://*.example",))
    async with served(server(), settings=settings) as wire:
        session = await Session.open(wire, extra={"Origin": origin})
        assert (await session.request("ping")).status == 200


async def test_a_wildcard_address_checks_no_host_and_believes_no_origin_for_it() -> None:
    async with served(server(), host="0.0.0.0") as wire:
        session = await Session.open(wire, extra={"Host": "any.example:80"})
        for origin, status in {"http://any.example": 403, "http://localhost": 200}.items():
            headers = session.headers(Origin=origin, Accept=JSON_AND_SSE)
            answer = await wire.ask("POST", headers, json.dumps(ping()).encode())
            assert answer.status == status


@pytest.mark.requirement("progress.tracked", era="2025")
async def test_a_progress_token_in_use_is_refused_and_free_again_afterwards() -> None:
    release = asyncio.Event()
    mcp = Headway("tokens")

    @mcp.tool()
    async def wait() -> str:
        report(1, 2, "half")
        await release.wait()
        return "done"

    async with served(mcp) as wire:
        one, two = await Session.open(wire), await Session.open(wire)
        first = await one.call("wait", id="a", token="t")
        await first.message()
        refused = await (await one.call("wait", id="b", token="t")).outcome()
        assert (refused["id"], refused["error"]["code"]) == ("b", -32602)
        assert "request 'a'" in refused["error"]["message"]
        other = await two.call("wait", id="a", token="t")  # another session's tokens are its own
        await other.message()
        first.cut()  # nobody reads it any more: whoever asks again with it is heard
        await until(lambda: len(wire.app.transport.responses) == 1)
        again = await one.call("wait", id="c", token="t")
        await again.message()
        release.set()
        assert text_of(await again.outcome()) == "done"
        reused = await one.call("wait", id="d", token="t")
        assert text_of(await reused.outcome()) == "done"
