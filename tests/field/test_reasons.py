"""Small things that serialisers do: taken where they mean something, else refused by name."""

import asyncio
import gzip
import json
import logging
from typing import Any

import pytest
from tests.kit.peers import Client, Modern, Session, Wire, connect, each_era, progress_of, served
from tests.kit.stdio import piped

from headway import Headway, Settings, report

pytestmark = pytest.mark.anyio


def make() -> Headway:
    mcp = Headway("reasons")

    @mcp.tool()
    async def echo(text: str = "") -> str:
        report(1, 2)
        return text

    @mcp.tool()
    async def wait() -> str:
        await asyncio.Event().wait()
        return ""

    return mcp


async def error_of(client: Client, method: str, params: dict[str, Any]) -> dict[str, Any]:
    if isinstance(client, Modern):
        body = client.body(method, {})
        meta = {**body["params"]["_meta"], **params.get("_meta", {})}
        body["params"] = {**params, "_meta": meta}
        answer = await client.post(body)
    else:
        answer = await client.request(method, params)
    said = await answer.outcome()
    assert said["error"]["code"] == -32602, said
    assert said["id"] is not None
    return said["error"]


WRONG: list[tuple[str, dict[str, Any], list[str]]] = [
    ("tools/call", {}, ["params.name"]),
    ("tools/call", {"name": None}, ["params.name"]),
    ("tools/call", {"name": "echo", "arguments": [1]}, ["params.arguments"]),
    ("tools/call", {"arguments": "x"}, ["params.name", "params.arguments"]),
    ("tools/call", {"name": "echo", "_meta": {"progressToken": None}}, ["progressToken"]),
    ("tools/call", {"name": "echo", "_meta": {"progressToken": True}}, ["progressToken"]),
    ("tools/call", {"name": "echo", "_meta": {"progressToken": 1.5}}, ["progressToken"]),
    ("tools/call", {"name": "echo", "_meta": {"progressToken": "x" * 513}}, ["progressToken"]),
    ("completion/complete", {"ref": {"type": "ref/no"}}, ["params.ref.type", "params.argument"]),
    ("tasks/get", {}, ["params.taskId"]),
    ("prompts/get", {"arguments": {"a": 1}}, ["params.name", "params.arguments.a"]),
]


@each_era
@pytest.mark.parametrize(("method", "params", "fields"), WRONG, ids=lambda value: str(value)[:40])
async def test_the_field_that_is_wrong_is_named(
    era: str, method: str, params: dict[str, Any], fields: list[str]
) -> None:
    async with served(make()) as wire:
        error = await error_of(await connect(wire, era), method, params)
        assert all(field in error["message"] for field in fields)
        assert "pydantic" not in json.dumps(error)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"capabilities": None}, "params.capabilities must be an object"),
        ({"clientInfo": {"name": "x"}}, "params.clientInfo.version is missing"),
        ({"clientInfo": None}, "params.clientInfo must be an object"),
        ({"protocolVersion": 2025}, "params.protocolVersion must be a string"),
    ],
)
async def test_a_handshake_that_lacks_something_is_told_what(
    change: dict[str, Any], field: str
) -> None:
    info = {"name": "x", "version": "1"}
    params = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": info, **change}
    async with served(make()) as wire:
        session = Session(wire, "2025-06-18", "", {})
        error = (await (await session.request("initialize", params)).json())["error"]
        assert error["code"] == -32602
        assert field in error["message"]
        assert field.startswith(error["data"]["fields"][0]["field"])
    async with piped(make(), Settings()) as client:
        assert field in (await client.ask("initialize", params))["error"]["message"]


@each_era
async def test_of_many_wrong_values_a_few_are_named_and_the_rest_is_counted(era: str) -> None:
    async with served(make()) as wire:
        client = await connect(wire, era)
        arguments = {f"k{number}": number for number in range(2000)}
        error = await error_of(client, "prompts/get", {"name": "x", "arguments": arguments})
        assert "params.arguments.k0 must be a string" in error["message"]
        assert len(error["message"]) < 1000
        assert len(error["data"]["fields"]) == 5


async def test_what_a_servers_own_model_refuses_is_not_called_the_clients_fault(
    caplog: pytest.LogCaptureFixture,
) -> None:
    from mcp.server.lowlevel import Server
    from pydantic import BaseModel

    class Row(BaseModel):
        secret_column: int

    async def call(_context: Any, _params: Any) -> Any:
        return Row.model_validate({"secret_column": "no"})

    low: Server[Any] = Server("low", on_call_tool=call)
    async with served(low) as wire:
        outcome = await (await Modern(wire).call("any")).outcome()
        assert "secret_column" not in json.dumps(outcome)


@each_era
async def test_a_whole_number_may_be_written_with_a_point(era: str) -> None:
    async with served(make()) as wire:
        client = await connect(wire, era)
        outcome = await (await client.call("echo", {"text": "x"}, id=3.0, token=7.0)).rest()
        assert outcome[-1]["id"] == 3
        assert progress_of(outcome)
        assert {m["params"]["progressToken"] for m in outcome[:-1]} == {7}


async def test_a_cancel_finds_its_request_by_a_number_with_a_point() -> None:
    async with served(make()) as wire:
        session = await Session.open(wire)
        answer = await session.call("wait", id=3.0, token="t")
        await session.notify("notifications/cancelled", {"requestId": 3.0})
        assert (await answer.rest())[-1]["error"]["code"] == -32800


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (rb"\ud83d", rb"\ud83d is half of a surrogate pair"),
        (rb"\ude00", rb"\ude00 is half of a surrogate pair"),
        (rb"x\ude00\ud83dx", rb"\ude00 is half of a surrogate pair"),
        (rb"\ud83d\ude00\ud83d and more", rb"\ud83d is half of a surrogate pair"),
    ],
)
async def test_half_a_character_is_called_that(text: bytes, says: bytes) -> None:
    call = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":'
    data = call + b'{"name":"echo","arguments":{"text":"'
    async with served(make()) as wire:
        session = await Session.open(wire)
        answer = await wire.ask("POST", session.headers(), data + text + b'"}}}')
        error = (await answer.json())["error"]
        assert (answer.status, error["code"]) == (400, -32700)
        assert says.decode() in error["message"]
        whole = await wire.ask("POST", session.headers(), data + rb'\\ud83d \ud83d\ude00"}}}')
        assert json.loads(await whole.body())["result"]["isError"] is False


BOM = b"\xef\xbb\xbf"


@each_era
async def test_a_byte_order_mark_is_ignored(era: str) -> None:
    async with served(make()) as wire:
        client = await connect(wire, era)
        body = client.call_message("echo", {"text": "x"})
        headers = client.headers(body) if isinstance(client, Modern) else client.headers()
        answer = await wire.ask("POST", headers, BOM + json.dumps(body).encode())
        assert answer.status == 200


@each_era
@pytest.mark.parametrize("coding", ["gzip", "br", "GZIP", "identity, gzip"])
async def test_a_compressed_body_is_a_415_that_says_so(era: str, coding: str) -> None:
    async with served(make()) as wire:
        client = await connect(wire, era)
        body = client.call_message("echo", {"text": "x"})
        headers = client.headers(body) if isinstance(client, Modern) else client.headers()
        data = gzip.compress(json.dumps(body).encode())
        answer = await wire.ask("POST", {**headers, "Content-Encoding": coding}, data)
        assert answer.status == 415
        assert "Content-Encoding" in (await answer.json())["error"]["message"]
        untold = await wire.ask("POST", headers, data)
        assert "compressed" in (await untold.json())["error"]["message"]
        plain = {**headers, "Content-Encoding": "identity"}
        assert (await wire.ask("POST", plain, json.dumps(body).encode())).status == 200


async def test_a_get_that_is_refused_because_the_server_stops_is_logged_as_that(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def refused(wire: Wire, session: Session) -> str:
        caplog.clear()
        assert (await session.get()).status == 503
        [line] = [r.getMessage() for r in caplog.records if "GET" in r.getMessage()]
        return line

    async with served(make()) as wire:
        session = await Session.open(wire)
        await wire.app.drain()
        line = await refused(wire, session)
        assert "stopping" in line
        assert "event id" not in line


async def test_a_get_with_a_wrong_event_id_is_logged_as_that(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        async with served(make()) as wire:
            session = await Session.open(wire)
            assert (await session.get("a.b.c")).status == 400
    assert any("event" in record.getMessage() for record in caplog.records)
