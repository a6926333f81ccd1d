"""Every run is a resource: incremental results for any client, inside the specification."""

import asyncio
import json
from collections.abc import Awaitable
from typing import Any

import pytest
from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from tests.kit.http import Answer
from tests.kit.peers import Client, Modern, Session, begin, connect, each_era, served
from tests.kit.waits import until, within

from headway import Headway, part, report

pytestmark = pytest.mark.anyio

RUNS = "headway://runs/"


class Halfway:
    """A tool that says half of what it has to say, and the rest when it is told to go on."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.mcp = Headway("halfway")
        self.mcp.add_tool(self.work, name="work")
        self.mcp.add_tool(self.much, name="much")
        self.mcp.add_tool(self.break_down, name="break")

    async def work(self) -> str:
        report(1, 2, "half")
        part({"file": "a"})
        await self.go.wait()
        part("b")
        return "all of it"

    async def break_down(self) -> str:
        part("before")
        raise ToolError("disk full\nsince noon")

    async def much(self) -> str:
        for number in range(40):
            part({"number": number, "padding": "x" * 50_000})
        return "done"


async def uri_of(answer: Answer) -> str:
    """The resource of the run, as its first part names it."""
    while True:
        message = await answer.message()
        if message.get("method") == "notifications/message":
            return message["params"]["_meta"]["headway/run"]


async def call(client: Client, tool: str) -> Answer:
    if isinstance(client, Session):
        return await client.call(tool)
    return await client.call(tool, level="info")


async def read(client: Client, uri: str) -> dict[str, Any]:
    answer = await client.request("resources/read", {"uri": uri})
    (content,) = (await answer.json())["result"]["contents"]
    assert (content["uri"], content["mimeType"]) == (uri, "application/json")
    return json.loads(content["text"])


async def refused(asking: Awaitable[Answer]) -> int:
    return (await (await asking).json())["error"]["code"]


@each_era
async def test_a_run_can_be_read_while_it_works_and_when_it_is_done(era: str) -> None:
    halfway = Halfway()
    async with served(halfway.mcp) as wire:
        client = await connect(wire, era)
        answer = await call(client, "work")
        uri = await uri_of(answer)
        going = await read(client, uri)
        assert going.pop("accepted") <= going.pop("started")
        assert going == {
            "uri": uri, "state": "working", "method": "tools/call", "tool": "work",
            "progress": {"progress": 1, "total": 2, "message": "half"}, "parts": [{"file": "a"}],
        }  # fmt: skip
        halfway.go.set()
        await answer.rest()
        after = await read(client, uri)
        assert (after["state"], after["parts"]) == ("completed", [{"file": "a"}, "b"])
        assert after["started"] <= after["ended"]


@each_era
async def test_a_run_whose_tool_fails_is_failed_and_says_why(era: str) -> None:
    halfway = Halfway()
    async with served(halfway.mcp) as wire:
        client = await connect(wire, era)
        answer = await call(client, "break")
        uri = await uri_of(answer)
        assert (await answer.rest())[-1]["result"]["isError"] is True
        told = await read(client, uri)
        assert (told["state"], told["error"]) == ("failed", "Error executing tool break: disk full")


@each_era
async def test_a_subscriber_hears_that_there_is_more_until_the_end(era: str) -> None:
    halfway = Halfway()
    async with served(halfway.mcp) as wire:
        client = await connect(wire, era)
        answer = await call(client, "work")
        uri = await uri_of(answer)
        ear = await listen(client, uri)
        halfway.go.set()
        await answer.rest()
        while True:
            news = await ear.message()
            if news["method"] == "notifications/resources/updated":
                break
        assert news["params"]["uri"] == uri
        assert (await read(client, uri))["state"] == "completed"


async def listen(client: Client, uri: str) -> Answer:
    if isinstance(client, Session):
        assert (await client.request("resources/subscribe", {"uri": uri})).status == 200
        return await client.get()
    wanted = {"resourceSubscriptions": [uri]}
    ear = await client.request("subscriptions/listen", {"notifications": wanted}, id="ear")
    honored = (await ear.message())["params"]["notifications"]
    assert honored["resourceSubscriptions"] == [uri]
    return ear


async def test_a_run_is_its_owner_s_alone() -> None:
    halfway = Halfway()
    async with served(halfway.mcp) as wire:
        owner = await Session.open(wire)
        uri = await uri_of(await call(owner, "work"))
        strangers: list[Client] = [await Session.open(wire), Modern(wire)]
        for stranger in strangers:
            assert await refused(stranger.request("resources/read", {"uri": uri})) == -32602
        subscribing = strangers[0].request("resources/subscribe", {"uri": uri})
        assert await refused(subscribing) == -32602
        wanted = {"notifications": {"resourceSubscriptions": [uri, "note://1"]}}
        ear = await Modern(wire).request("subscriptions/listen", wanted)
        honored = (await ear.message())["params"]["notifications"]
        assert honored["resourceSubscriptions"] == ["note://1"]
        assert (await read(owner, uri))["state"] == "working"


@each_era
@pytest.mark.parametrize("name", ["", "unknown", "../x", "%00", "a/b", "*", "x" * 4000])
async def test_what_names_no_run_is_an_unknown_resource(era: str, name: str) -> None:
    async with served(Halfway().mcp) as wire:
        client = await connect(wire, era)
        assert await refused(client.request("resources/read", {"uri": RUNS + name})) == -32602


async def test_of_very_many_parts_the_newest_are_shown() -> None:
    async with served(Halfway().mcp) as wire:
        session = await Session.open(wire)
        answer = await call(session, "much")
        uri = await uri_of(answer)
        await answer.rest()
        view = await read(session, uri)
        numbers = [value["number"] for value in view["parts"]]
        assert numbers == list(range(numbers[0], 40))
        assert 10 < len(numbers) < 40
        assert view["earlier_parts_left_out"] is True


async def test_a_run_that_did_not_complete_says_why() -> None:
    halfway = Halfway()
    async with served(halfway.mcp) as wire:
        session = await Session.open(wire)
        connection = await begin(session, "work", id="w")
        answer = await connection.answer()
        uri = await uri_of(answer)
        await session.notify("notifications/cancelled", {"requestId": "w", "reason": "enough"})
        await answer.rest()
        view = await read(session, uri)
        assert (view["state"], view["error"]) == ("cancelled", "enough")


@each_era
async def test_only_a_headway_lists_the_template(era: str) -> None:
    plain = MCPServer("plain")

    @plain.resource("note://{name}")
    def note(name: str) -> str:
        return f"this is {name}"

    for server, expected in ((plain, {"note://{name}"}), (Halfway().mcp, {RUNS + "{id}"})):
        async with served(server) as wire:
            client = await connect(wire, era)
            answer = await (await client.request("resources/templates/list")).json()
            listed = {item["uriTemplate"] for item in answer["result"]["resourceTemplates"]}
            assert listed == expected
    async with served(plain) as wire:
        client = await connect(wire, era)
        answer = await (await client.request("resources/read", {"uri": "note://x"})).json()
        assert answer["result"]["contents"][0]["text"] == "this is x"


async def test_a_detached_tool_outlives_its_connection_and_keeps_its_result() -> None:
    go, done = asyncio.Event(), asyncio.Event()
    mcp = Headway("s")

    @mcp.tool(detached=True)
    async def migrate() -> str:
        part("begun")
        await go.wait()
        done.set()
        return "migrated"

    async with served(mcp) as wire:
        client = Modern(wire)
        answer = await client.call("migrate", level="info", token="t")
        uri = (await answer.message())["params"]["_meta"]["headway/run"]
        answer.cut()
        await until(lambda: not len(wire.app.transport.responses))
        await wire.clock.advance(5, step=1)
        go.set()
        await within(done.wait())
        await until(lambda: not wire.app.engine.runs)
        read = await (await client.request("resources/read", {"uri": uri})).json()
        view = json.loads(read["result"]["contents"][0]["text"])
        assert (view["state"], view["parts"]) == ("completed", ["begun"])
