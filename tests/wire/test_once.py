"""Idempotency keys: a call that is sent again is not executed again."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
from mcp.server.mcpserver import Context
from mcp_types import ElicitRequest, ElicitRequestFormParams, InputRequiredResult
from tests.kit.http import Answer
from tests.kit.keys import keyed_call, keyed_request
from tests.kit.peers import (
    Client,
    Modern,
    Session,
    connect,
    each_era,
    progress_of,
    served,
    text_of,
)
from tests.kit.tools import GatedTools
from tests.kit.waits import until, within

from headway import Settings
from headway.engine import Engine, Request, RunContext, submit
from headway.events import Entry
from headway.journal import open_journal
from headway.protocol.idempotency_key import CallKey
from headway.settings import Retention
from headway.testing import FakeClock
from headway.testing.fake_clock import run_loop_turns

pytestmark = pytest.mark.anyio

NAME = ElicitRequest(
    params=ElicitRequestFormParams(
        message="Who?", requested_schema={"type": "object", "properties": {}}
    )
)


def gated_tools() -> GatedTools:
    """Tools that wait, one that ends with its connection, and one that asks in rounds."""
    tools = GatedTools("fail", "ask", give_part={"detached": True, "concurrency": 1})

    async def rounds(ctx: Context[Any, Any]) -> str | InputRequiredResult:
        tools.runs += 1
        if ctx.input_responses:
            return f"answered in run {tools.runs}"
        return InputRequiredResult(input_requests={"name": NAME}, request_state="1")

    tools.mcp.add_tool(tools.give_part, name="fragile")
    tools.mcp.add_tool(rounds)
    return tools


@each_era
async def test_a_call_sent_again_follows_the_first_one(era: str) -> None:
    tools = gated_tools()
    async with served(tools.mcp) as wire:
        one, two = await connect(wire, era), await connect(wire, era)
        answer = await keyed_call(one, "give_part", "k", id="a", token="t1")
        await answer.message()
        again = await keyed_call(two, "give_part", "k", id="b", token="t2", **_logs(era))
        told = [await again.message(), await again.message()]
        tools.gate.open()
        rest = await again.rest()
        assert told[0]["params"]["message"] == "Hashing setup.py"
        assert told[0]["params"]["progressToken"] == "t2"
        if era == "2026":  # a 2025 session has no level here, and hears everything
            assert told[1]["params"]["data"] == {"file": "setup.py"}
        assert (rest[-1]["id"], text_of(rest[-1])) == ("b", "run 1")
        values = progress_of([*told, *rest])
        assert values == sorted(set(values))
        assert values[-1] == 4
        first = await answer.rest()
        assert (first[-1]["id"], text_of(first[-1])) == ("a", "run 1")
        assert tools.runs == 1


def _logs(era: str) -> dict[str, Any]:
    return {"level": "info"} if era == "2026" else {}


@each_era
async def test_a_result_is_given_again_while_it_is_kept(era: str) -> None:
    clock = FakeClock()
    tools = gated_tools()
    tools.gate.open()
    async with served(tools.mcp, clock=clock) as wire:
        client = await connect(wire, era)
        outcomes = [
            await (await keyed_call(client, "give_part", "k", id=number)).outcome()
            for number in range(1, 4)
        ]
        assert [text_of(outcome) for outcome in outcomes] == ["run 1"] * 3
        assert await wire.app.journal.streams("key/")
        while await wire.app.journal.streams("key/"):
            await clock.advance(Retention().ttl, step=60)
        later = await connect(wire, era)
        assert text_of(await (await keyed_call(later, "give_part", "k", id=9)).outcome()) == "run 2"


@each_era
async def test_an_error_is_given_again_too(era: str) -> None:
    tools = gated_tools()
    tools.gate.open()
    async with served(tools.mcp) as wire:
        client = await connect(wire, era)
        for number in range(1, 3):
            outcome = await (await keyed_call(client, "fail", "k", id=number)).outcome()
            assert outcome["result"]["isError"] is True
        assert tools.runs == 1


@each_era
@pytest.mark.parametrize(
    ("tool", "arguments"), [("give_part", {"steps": 5}), ("fragile", None), ("fail", None)]
)
async def test_a_key_of_another_call_is_refused(era: str, tool: str, arguments: Any) -> None:
    tools = gated_tools()
    tools.gate.open()
    async with served(tools.mcp) as wire:
        client = await connect(wire, era)
        await (await keyed_call(client, "give_part", "k", {"steps": 4})).outcome()
        outcome = await (await keyed_call(client, tool, "k", arguments, id=2)).outcome()
        assert outcome["error"]["code"] == -32602
        assert "give each new call a key of its own" in outcome["error"]["message"]
        assert tools.runs == 1
        same = await (await keyed_call(client, "give_part", "k", {"steps": 4.0}, id=3)).outcome()
        assert text_of(same) == "run 1"


@each_era
async def test_the_header_is_a_key_as_well(era: str) -> None:
    tools = gated_tools()
    tools.gate.open()
    async with served(tools.mcp) as wire:
        client = await connect(wire, era)
        for number, key in enumerate(['"k"', "k"], 1):
            message = keyed_request(client, "give_part", None, id=number)
            assert text_of(await (await _post(client, message, key)).outcome()) == "run 1"
        other = await keyed_call(client, "give_part", "k2", id=3)
        assert text_of(await other.outcome()) == "run 2"
        both = await _post(client, keyed_request(client, "give_part", "k3", id=4), "k4")
        assert "two keys" in (await both.outcome())["error"]["message"]


async def _post(client: Client, message: dict[str, Any], key: str) -> Answer:
    extra = {"Idempotency-Key": key}
    if isinstance(client, Modern):
        return await client.post(message, extra)
    client._extra = extra
    try:
        return await client.post(message)
    finally:
        client._extra = {}


@each_era
@pytest.mark.parametrize("key", ["", "x" * 256, 7, ["k"], {}])
async def test_what_is_no_key_is_refused(era: str, key: Any) -> None:
    tools = gated_tools()
    async with served(tools.mcp) as wire:
        client = await connect(wire, era)
        outcome = await (await keyed_call(client, "give_part", key)).outcome()
        assert "1 to 255 characters" in outcome["error"]["message"]
        assert tools.runs == 0


@each_era
async def test_a_retry_storm_executes_once(era: str) -> None:
    tools = gated_tools()
    tools.gate.open()
    async with served(tools.mcp) as wire:
        clients = [await connect(wire, era) for _ in range(20)]
        answers = await asyncio.gather(
            *(
                keyed_call(client, "give_part", "k", id=number)
                for number, client in enumerate(clients, 1)
            )
        )
        outcomes = await asyncio.gather(*(answer.outcome() for answer in answers))
        assert {text_of(outcome) for outcome in outcomes} == {"run 1"}
        assert [outcome["id"] for outcome in outcomes] == list(range(1, 21))
        assert tools.runs == 1


async def test_a_detached_tool_survives_a_lost_stream_and_is_found_by_its_key() -> None:
    tools = gated_tools()
    async with served(tools.mcp) as wire:
        client = Modern(wire)
        answer = await keyed_call(client, "give_part", "k", token=1)
        await answer.message()
        answer.cut()
        again = await keyed_call(client, "give_part", "k", id=2, token=2)
        await again.message()
        again.cut()  # nor does a lost repetition touch it
        await run_loop_turns()
        tools.gate.open()
        last = await keyed_call(client, "give_part", "k", id=3)
        assert text_of(await last.outcome()) == "run 1"
        assert (tools.runs, tools.stopped) == (1, 0)


async def test_a_cut_still_cancels_what_is_not_detached_and_the_key_says_so() -> None:
    tools = gated_tools()
    async with served(tools.mcp) as wire:
        client = Modern(wire)
        answer = await keyed_call(client, "fragile", "k", token=1)
        await answer.message()
        answer.cut()
        await until(lambda: not wire.app.engine.runs)
        outcome = await (await keyed_call(client, "fragile", "k", id=2)).outcome()
        assert outcome["error"]["code"] == -32800
        assert "closed the stream" in outcome["error"]["message"]
        assert (tools.runs, tools.stopped) == (1, 1)


async def test_a_cancel_of_a_repeated_call_cancels_the_run() -> None:
    tools = gated_tools()
    async with served(tools.mcp) as wire:
        one, two = await Session.open(wire), await Session.open(wire)
        answer = await keyed_call(one, "give_part", "k", id=1, token=1)
        await answer.message()
        again = await keyed_call(two, "give_part", "k", id=2, token=2)
        await again.message()
        await two.notify("notifications/cancelled", {"requestId": 2, "reason": "enough"})
        first = await answer.outcome()
        assert "enough" in first["error"]["message"]
        assert tools.stopped == 1


async def test_the_session_may_go_and_the_keyed_call_goes_on() -> None:
    tools = gated_tools()
    async with served(tools.mcp) as wire:
        one, two = await Session.open(wire), await Session.open(wire)
        answer = await keyed_call(one, "give_part", "k", id=1, token=1)
        await answer.message()
        await (await one.delete()).body()
        tools.gate.open()
        assert text_of(await (await keyed_call(two, "give_part", "k", id=2)).outcome()) == "run 1"


async def test_a_repetition_can_be_resumed_like_any_call() -> None:
    tools = gated_tools()
    async with served(tools.mcp) as wire:
        one, two = await Session.open(wire), await Session.open(wire)
        await keyed_call(one, "give_part", "k", id=1, token=1)
        again = await keyed_call(two, "give_part", "k", id=2, token=2)
        await again.message()
        again.cut()
        tools.gate.open()
        rest = await (await two.get(again.ids[-1])).rest()
        assert (rest[-1]["id"], text_of(rest[-1])) == (2, "run 1")


async def test_a_question_reaches_the_one_who_repeats_the_call() -> None:
    tools = gated_tools()
    async with served(tools.mcp) as wire:
        knows: dict[str, Any] = {"elicitation": {}}
        one = await Session.open(wire, capabilities=knows)
        two = await Session.open(wire, capabilities=knows)
        answer = await keyed_call(one, "ask", "k", id=1)
        await answer.message()
        answer.cut()
        again = await keyed_call(two, "ask", "k", id=2)
        question = await again.message()
        assert question["method"] == "elicitation/create"
        reply = {"action": "accept", "content": {"name": "Ada"}}
        assert (await two.reply(question, reply)).status == 202
        assert text_of((await again.rest())[-1]) == "Hello Ada"
        assert tools.runs == 1


async def test_the_rounds_of_a_call_are_steps_of_one_key() -> None:
    """At 2026-07-28 a client asks again with the answers; that is no repetition."""
    tools = gated_tools()
    async with served(tools.mcp) as wire:
        client = Modern(wire, {"elicitation": {}})
        asked = (await (await keyed_call(client, "rounds", "k")).outcome())["result"]
        assert asked["resultType"] == "input_required"
        again = (await (await keyed_call(client, "rounds", "k", id=2)).outcome())["result"]
        assert again == asked
        for number in (3, 4):
            message = keyed_request(client, "rounds", "k", id=number)
            reply = {"action": "accept", "content": {"name": "Ada"}}
            message["params"]["inputResponses"] = {"name": reply}
            message["params"]["requestState"] = asked["requestState"]
            outcome = await (await client.post(message)).outcome()
            assert text_of(outcome) == "answered in run 2"
        assert tools.runs == 2  # one for each round


@each_era
async def test_a_call_without_a_key_pays_nothing(era: str) -> None:
    tools = gated_tools()
    tools.gate.open()
    async with served(tools.mcp) as wire:
        client = await connect(wire, era)
        await (await keyed_call(client, "give_part", None)).outcome()
        assert await wire.app.journal.streams("key/") == []
        assert await wire.app.journal.streams("inbox/") == []


async def test_a_busy_server_refuses_and_the_key_is_free() -> None:
    tools = gated_tools()
    async with served(tools.mcp, settings=Settings(max_queue=0)) as wire:
        client = await Session.open(wire)
        await (await keyed_call(client, "give_part", "one", token=1)).message()
        refused = await keyed_call(client, "give_part", "two", {"steps": 1})
        assert refused.status == 503
        assert len(await wire.app.journal.streams("key/")) == 1


async def test_a_batch_has_its_keys_in_the_messages() -> None:
    tools = gated_tools()
    tools.gate.open()
    async with served(tools.mcp) as wire:
        session = await Session.open(wire, "2025-03-26")
        calls = [keyed_request(session, "give_part", key, id=key) for key in ("k1", "k2")]
        for _ in range(2):
            answer = await session.post(calls)
            body = await answer.rest() if answer.is_stream else await answer.json()
            assert len([m for m in cast("list[Any]", body) if "result" in m]) == 2
        assert tools.runs == 2
        refused = await _post(session, cast("Any", calls), "k3")
        assert "batch" in (await refused.json())["error"]["message"]


@each_era
async def test_a_key_holds_across_a_restart(era: str, tmp_path: Path) -> None:
    journal = f"sqlite:///{tmp_path / 'j.db'}"
    tools = gated_tools()
    tools.gate.open()
    for number in range(1, 3):
        async with served(tools.mcp, journal=journal) as wire:
            client = await connect(wire, era)
            outcome = await (await keyed_call(client, "give_part", "k", id=number)).outcome()
            assert text_of(outcome) == "run 1"
    assert tools.runs == 1


async def whole(entries: AsyncIterator[Entry]) -> list[Entry]:
    return [entry async for entry in entries]


async def test_a_key_is_its_principals_own() -> None:
    ran: list[str] = []

    async def execute(context: RunContext) -> dict[str, Any]:
        ran.append("x")
        return {"content": []}

    def asked(principal: str) -> Request:
        context = RunContext(1, cast("Any", None), cast("Any", None), None, {})
        return Request("tools/call", "give_part", principal, context, execute, "", principal)

    async with open_journal("memory:") as journal:
        engine = Engine(journal, Settings())
        await engine.start()
        for principal in ("alice", "bob", "alice"):
            run = await submit(engine, asked(principal), CallKey("k", "f"))
            await within(whole(journal.follow(run.stream)))
        await engine.stop()
    assert len(ran) == 2
