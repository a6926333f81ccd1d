"""Bodies that hold more than a server should take apart, and are refused before it is begun."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.kit.http import Answer
from tests.kit.peers import Client, Modern, Session, Wire, connect, each_era, served, text_of
from tests.kit.stdio import piped, program

from headway import Headway, Settings
from headway.transport.http import endpoint as http_endpoint
from headway.transport.stdio import endpoint as stdio_endpoint

pytestmark = pytest.mark.anyio

NEST = "[" * 100 + "]" * 100

HOSTILE = {
    "wide and deep": "[" + ",".join([NEST] * 15_000) + "]",
    "a million empty objects": "[" + ",".join(["{}"] * 1_000_000) + "]",
    "seven hundred thousand nulls": "[" + ",".join(["null"] * 700_000) + "]",
    "quoted and unquoted brackets in turn": "[" + ",".join(['"[",[]'] * 500_000) + "]",
    "a million names": "{" + ",".join(['"a":1'] * 600_000) + "}",
}

HARMLESS = {
    "a text with more brackets than there may be lists": json.dumps('[{,}] \\" ' * 60_000),
    "two hundred thousand numbers": "[" + ",".join(["1.5"] * 200_000) + "]",
    "forty thousand rows": "[" + ",".join(["[1,2,3]"] * 40_000) + "]",
}


def make() -> Headway:
    mcp = Headway("bodies")

    @mcp.tool()
    async def count(values: Any) -> int:
        return len(values)

    @mcp.tool()
    async def add(values: list[int]) -> int:
        return sum(values)

    return mcp


def text_of_call(client: Client, tool: str, values: str) -> bytes:
    """A call whose argument is JSON text as it stands."""
    message = client.call_message(tool, {"values": "VALUES"}, id=1)
    return json.dumps(message).replace('"VALUES"', values).encode()


async def post(wire: Wire, client: Client, data: bytes, tool: str = "count") -> Answer:
    body = client.call_message(tool, {})
    headers = client.headers(body) if isinstance(client, Modern) else client.headers()
    return await wire.ask("POST", headers, data)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How large the bodies were that were taken apart."""
    sizes: list[int] = []
    for module in (http_endpoint, stdio_endpoint):
        read = module.read_message
        noted = lambda value, read=read: sizes.append(len(str(value))) or read(value)  # noqa: E731
        monkeypatch.setattr(module, "read_message", noted)
    return sizes


@each_era
@pytest.mark.parametrize("tool", ["count", "add"])
@pytest.mark.parametrize("what", HOSTILE)
async def test_a_body_that_holds_too_much_is_refused_before_it_is_taken_apart(
    era: str, tool: str, what: str, decoded: list[int]
) -> None:
    async with served(make()) as wire:
        client = await connect(wire, era)
        decoded.clear()
        answer = await post(wire, client, text_of_call(client, tool, HOSTILE[what]), tool)
        error = (await answer.json())["error"]
        assert (answer.status, error["code"]) == (413, -32600)
        assert error["data"] == {"limit": "max_values"}
        assert "max_values" in error["message"]
        assert not decoded
        assert (await client.call("count", {"values": [1]})).status == 200


@each_era
@pytest.mark.parametrize("what", HARMLESS)
async def test_a_body_with_much_text_or_many_rows_is_taken(era: str, what: str) -> None:
    async with served(make()) as wire:
        client = await connect(wire, era)
        answer = await post(wire, client, text_of_call(client, "count", HARMLESS[what]))
        assert text_of(await answer.outcome()) == str(len(json.loads(HARMLESS[what])))


@each_era
async def test_how_much_a_body_may_hold_is_a_setting_and_counts_to_the_last_one(era: str) -> None:
    async with served(make(), settings=Settings(max_values=20)) as wire:
        client = await connect(wire, era)
        least = json.dumps(client.call_message("count", {"values": 1})).count("{")
        most = 20 - least - 1
        for number, status in ((most, 200), (most + 1, 413)):
            values = "[" + ",".join(["[]"] * number) + "]"
            answer = await post(wire, client, text_of_call(client, "count", values))
            assert answer.status == status, await answer.body()


@pytest.mark.parametrize("what", HOSTILE)
async def test_a_line_that_holds_too_much_is_refused_and_the_next_one_is_answered(
    what: str, decoded: list[int]
) -> None:
    async with piped(make(), Settings()) as client:
        decoded.clear()
        await client.raw(b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":')
        await client.raw(HOSTILE[what].encode() + b"}}\n")
        await client.say({"jsonrpc": "2.0", "id": "after", "method": "ping"})
        await client.answer("after")
        [refusal] = [m for m in client.heard if "error" in m]
        assert refusal["error"]["data"] == {"limit": "max_values"}
        assert len(decoded) == 1


COUNTING = """
import gc
from headway import Headway
mcp = Headway("counting")

@mcp.tool()
async def kept() -> list[int]:
    return [gc.get_freeze_count(), *gc.get_threshold()]
"""


async def test_what_a_server_began_with_is_not_looked_through_for_every_large_body(
    tmp_path: Path,
) -> None:
    (tmp_path / "counting.py").write_text(COUNTING)
    async with program("run", "counting.py", "--stdio", cwd=tmp_path) as client:
        await client.shake_hands()
        answer = await client.call("kept")
        frozen, *thresholds = answer["result"]["structuredContent"]["result"]
        assert frozen > 10_000
        assert thresholds == [5000, 20, 100]  # all that goes on is looked through as seldom


async def test_a_batch_of_too_many_messages_is_refused_and_none_is_executed() -> None:
    ping = {"jsonrpc": "2.0", "method": "ping"}
    for settings, number in ((Settings(), 1001), (Settings(max_batch=3), 4)):
        async with served(make(), settings=settings) as wire:
            session = await Session.open(wire, "2025-03-26")
            answer = await session.post([{**ping, "id": i} for i in range(number)])
            error = (await answer.json())["error"]
            assert (answer.status, error["code"]) == (413, -32600)
            assert error["data"] == {"limit": "max_batch"}
            fits = await session.post([{**ping, "id": i} for i in range(number - 1)][:3])
            assert len(await fits.rest()) == 3


async def test_a_batch_of_notifications_is_bounded_like_any_other() -> None:
    async with served(make()) as wire:
        session = await Session.open(wire, "2025-03-26")
        said = [{"jsonrpc": "2.0", "method": "notifications/none"}] * 1001
        answer = await session.post(said)
        assert answer.status == 413
        assert (await session.post(said[:-1])).status == 202


async def test_a_batch_over_stdio_is_bounded_as_well() -> None:
    async with piped(make(), Settings(max_batch=3)) as client:
        await client.shake_hands("2025-03-26")
        await client.say([{"jsonrpc": "2.0", "id": i, "method": "ping"} for i in range(4)])
        await client.say({"jsonrpc": "2.0", "id": "after", "method": "ping"})
        await client.answer("after")
        [refusal] = [m for m in client.heard if "error" in m]
        assert refusal["error"]["data"] == {"limit": "max_batch"}
