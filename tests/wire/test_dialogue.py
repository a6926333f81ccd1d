"""2025 eras: questions to the client, cancels, batches, and one id used twice."""

import asyncio
from typing import Any

import pytest
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp_types import SamplingMessage, TextContent
from tests.kit.http import Answer
from tests.kit.peers import VERSIONS, Session, progress_of, served, text_of
from tests.kit.tools import GatedTools, Name
from tests.kit.waits import until, within

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning"),
]

CAPABILITIES = {"elicitation": {}, "sampling": {}, "roots": {}}


async def ask_name(ctx: Context[Any, Any]) -> str:
    answer = await ctx.elicit("Who?", Name)
    return answer.data.name if answer.action == "accept" else answer.action


async def ask_model(ctx: Context[Any, Any]) -> str:
    message = SamplingMessage(role="user", content=TextContent(type="text", text="2+2?"))
    answer = await ctx.session.create_message([message], max_tokens=9)
    assert isinstance(answer.content, TextContent)
    return answer.content.text


async def ask_roots(ctx: Context[Any, Any]) -> str:
    return str((await ctx.session.list_roots()).roots[0].uri)


QUESTIONS = [
    pytest.param(
        ask_name, "elicitation/create", {"action": "accept", "content": {"name": "Ada"}}, "Ada"
    ),
    pytest.param(
        ask_model,
        "sampling/createMessage",
        {"role": "assistant", "model": "m", "content": {"type": "text", "text": "4"}},
        "4",
    ),
    pytest.param(ask_roots, "roots/list", {"roots": [{"uri": "file:///x"}]}, "file:///x"),
]


def asking(tool: Any) -> MCPServer:
    mcp = MCPServer("asking")
    mcp.add_tool(tool, name="ask")
    return mcp


@pytest.mark.requirement("http.post.202", era="2025")
@pytest.mark.parametrize("version", ["2025-06-18", "2025-11-25"])
@pytest.mark.parametrize(("tool", "method", "reply", "text"), QUESTIONS)
async def test_a_question_comes_on_the_calls_own_stream_and_its_answer_is_posted_back(
    tool: Any, method: str, reply: dict[str, Any], text: str, version: str
) -> None:
    async with served(asking(tool)) as wire:
        session = await Session.open(wire, version, capabilities=CAPABILITIES)
        answer = await session.call("ask", id=5)
        question = await answer.message()
        assert question["method"] == method
        assert question["id"] != 5
        taken = await session.reply(question, reply)
        assert (taken.status, await taken.body()) == (202, b"")
        (outcome,) = await answer.rest()
        assert (outcome["id"], text_of(outcome)) == (5, text)


async def test_a_question_that_the_client_cannot_answer_is_an_error_of_the_tool() -> None:
    async with served(asking(ask_roots)) as wire:
        session = await Session.open(wire, capabilities=CAPABILITIES)
        answer = await session.call("ask")
        question = await answer.message()
        error = {"code": -1, "message": "no roots here"}
        taken = await session.post({"jsonrpc": "2.0", "id": question["id"], "error": error})
        assert taken.status == 202
        outcome = (await answer.rest())[-1]
        assert "no roots here" in str(outcome)


@pytest.mark.requirement("http.post.refused", era="2025")
async def test_an_answer_counts_once_and_only_in_the_session_that_was_asked() -> None:
    async with served(asking(ask_name)) as wire:
        session = await Session.open(wire, capabilities=CAPABILITIES)
        other = await Session.open(wire, capabilities=CAPABILITIES)
        answer = await session.call("ask")
        question = await answer.message()
        foreign = await other.reply(question, {"action": "accept", "content": {"name": "Eve"}})
        assert foreign.status == 400
        assert "waits" in (await foreign.json())["error"]["message"]
        await session.reply(question, {"action": "accept", "content": {"name": "Ada"}})
        assert text_of((await answer.rest())[-1]) == "Ada"
        again = await session.reply(question, {"action": "cancel"})
        assert again.status == 400


async def test_a_question_survives_a_cut_of_its_stream() -> None:
    async with served(asking(ask_name)) as wire:
        session = await Session.open(wire, capabilities=CAPABILITIES)
        answer = await session.call("ask", token="t")
        primed = await answer.frame()
        assert primed is not None
        answer.cut()
        answer = await session.get(primed.id)
        question = await answer.message()
        await session.reply(question, {"action": "accept", "content": {"name": "Ada"}})
        assert text_of((await answer.rest())[-1]) == "Ada"


# Cancel


@pytest.mark.requirement("cancel.stops", "cancel.logged", era="2025")
@pytest.mark.parametrize("version", VERSIONS)
async def test_a_cancelled_call_stops_and_ends_with_an_error(version: str) -> None:
    stopped = asyncio.Event()
    mcp = MCPServer("s")

    @mcp.tool()
    async def hang(ctx: Context[Any, Any]) -> None:
        await ctx.report_progress(1)
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    async with served(mcp) as wire:
        session = await Session.open(wire, version)
        answer = await session.call("hang", id="c", token=1)
        await answer.message()
        await session.notify("notifications/cancelled", {"requestId": "c", "reason": "enough"})
        await within(stopped.wait())
        (end,) = await answer.rest()
        assert end["id"] == "c"
        assert end["error"] == {"code": -32800, "message": "Request cancelled: enough"}


@pytest.mark.requirement("cancel.races", "cancel.invalid", era="2025")
async def test_a_cancel_of_nothing_or_of_another_sessions_call_does_nothing() -> None:
    go = asyncio.Event()
    mcp = MCPServer("s")

    @mcp.tool()
    async def wait(ctx: Context[Any, Any]) -> str:
        await ctx.info("waiting")
        await go.wait()
        return "done"

    async with served(mcp) as wire:
        session, other = await Session.open(wire), await Session.open(wire)
        answer = await session.call("wait", id=1)
        await answer.message()
        await other.notify("notifications/cancelled", {"requestId": 1})
        for params in ({"requestId": 99}, {"requestId": None}, {"requestId": "1"}, None):
            await session.notify("notifications/cancelled", params)
        go.set()
        assert text_of((await answer.rest())[-1]) == "done"


# Batches


def batch_server() -> tuple[MCPServer, asyncio.Event]:
    go = asyncio.Event()
    mcp = MCPServer("batch")

    @mcp.tool()
    async def slow(ctx: Context[Any, Any]) -> str:
        await ctx.report_progress(1, 2)
        await go.wait()
        return "slow"

    @mcp.tool()
    async def release() -> str:
        go.set()
        return "quick"

    return mcp, go


async def test_a_batch_runs_together_and_is_answered_on_one_stream() -> None:
    """`slow` ends only when `release` runs beside it."""
    mcp, _ = batch_server()
    async with served(mcp) as wire:
        session = await Session.open(wire, "2025-03-26")
        answer = await session.post(
            [
                session.call_message("slow", id="s", token="t"),
                {"jsonrpc": "2.0", "method": "notifications/roots/list_changed"},
                session.call_message("release", id="r"),
                session.message("no/such", id="n"),
            ]
        )
        assert answer.is_stream
        messages = await answer.rest()
        assert progress_of(messages) == [1, 2]
        outcomes = {message["id"]: message for message in messages if "id" in message}
        assert (text_of(outcomes["s"]), text_of(outcomes["r"])) == ("slow", "quick")
        assert outcomes["n"]["error"]["code"] == -32601
        assert len(messages) == 5


@pytest.mark.requirement("http.post.202", era="2025")
async def test_a_batch_without_requests_is_only_taken() -> None:
    mcp, _ = batch_server()
    async with served(mcp) as wire:
        session = await Session.open(wire, "2025-03-26")
        answer = await session.post([{"jsonrpc": "2.0", "method": "notifications/initialized"}])
        assert (answer.status, await answer.body()) == (202, b"")


async def test_a_member_of_a_cut_batch_is_resumed_by_itself() -> None:
    mcp, go = batch_server()
    async with served(mcp) as wire:
        session = await Session.open(wire, "2025-03-26")
        answer = await session.post([session.call_message("slow", id="s", token="t")])
        frame = await answer.frame()
        assert frame is not None
        while frame.id is None:
            frame = await answer.frame()
            assert frame is not None
        answer.cut()
        go.set()
        messages = await (await session.get(frame.id)).rest()
        assert progress_of(messages) == [2]
        assert text_of(messages[-1]) == "slow"


async def test_a_batch_with_one_bad_member_runs_nothing_of_it() -> None:
    mcp, go = batch_server()
    async with served(mcp) as wire:
        session = await Session.open(wire, "2025-03-26")
        waiting = await session.call("slow", id="busy", token="t")
        for bad in (7, {"jsonrpc": "2.0"}, session.call_message("release", id="busy")):
            answer = await session.post([session.call_message("release", id="r"), bad])
            assert answer.status == 400
            assert not go.is_set()
        go.set()
        await waiting.rest()


async def test_an_id_used_twice_in_a_batch_is_refused() -> None:
    """Two answers with one id could not be told apart."""
    mcp, go = batch_server()
    async with served(mcp) as wire:
        session = await Session.open(wire, "2025-03-26")
        answer = await session.post([session.call_message("release", id="r")] * 2)
        assert answer.status == 400
        assert not go.is_set()


@pytest.mark.parametrize("version", ["2025-06-18", "2025-11-25"])
async def test_later_versions_refuse_batches(version: str) -> None:
    mcp, go = batch_server()
    async with served(mcp) as wire:
        session = await Session.open(wire, version)
        answer = await session.post([session.call_message("release")])
        assert answer.status == 400
        assert "one message" in (await answer.json())["error"]["message"]
        assert not go.is_set()


# The same id twice


async def test_a_request_sent_again_while_it_runs_attaches_to_the_run() -> None:
    tools = GatedTools("wait")
    async with served(tools.mcp) as wire:
        session = await Session.open(wire)
        message = session.call_message("wait", {"steps": 11}, id=1, token="t")
        first = await session.post(message)
        assert progress_of([await first.message()]) == [1]
        second = await session.post(message)
        assert progress_of([await second.message()]) == [1]
        tools.gate.open()
        assert text_of((await second.rest())[-1]) == "run 1"
        assert await first.rest() == []  # the answer is given once
        assert tools.runs == 1


async def test_a_silent_request_sent_again_is_answered_to_the_newer_connection() -> None:
    tools = GatedTools("wait")
    async with served(tools.mcp) as wire:
        session = await Session.open(wire)
        message = session.call_message("wait", {"steps": 11}, id=1)
        first = await session.send(message)
        await until(lambda: tools.runs)
        second = await session.send(message)
        await until(lambda: len(wire.app.transport.responses) == 2)
        tools.gate.open()
        answer = await second.answer()
        assert text_of(await answer.json()) == "run 1"
        refused = await first.answer()
        assert refused.status == 409
        assert (await refused.json())["id"] is None


async def test_a_client_that_loses_the_newer_of_two_connections_is_answered_on_the_older() -> None:
    tools = GatedTools("wait")
    async with served(tools.mcp) as wire:
        session = await Session.open(wire)
        message = session.call_message("wait", {"steps": 11}, id=1)
        first = await session.send(message)
        await until(lambda: tools.runs)
        second = await session.send(message)
        await until(lambda: len(wire.app.transport.responses) == 2)
        second.cut()
        await until(lambda: len(wire.app.transport.responses) == 1)
        tools.gate.open()
        assert text_of(await (await first.answer()).outcome()) == "run 1"
        assert tools.runs == 1


async def test_an_id_in_use_for_another_request_is_refused() -> None:
    tools = GatedTools("wait")
    async with served(tools.mcp) as wire:
        session = await Session.open(wire)
        first = await session.call("wait", {"steps": 11}, id=1, token="t")
        await first.message()
        refused = await session.call("wait", {"steps": 12}, id=1, token="t")
        assert refused.status == 400
        assert "in use" in (await refused.json())["error"]["message"]
        tools.gate.open()
        assert text_of((await first.rest())[-1]) == "run 1"
        assert tools.runs == 1


async def test_an_id_is_free_again_when_its_request_is_answered() -> None:
    tools = GatedTools("wait")
    tools.gate.open()
    async with served(tools.mcp) as wire:
        session = await Session.open(wire)
        answers: list[Answer] = [await session.call("wait", {"steps": 11}, id=1) for _ in range(2)]
        assert [text_of(await answer.json()) for answer in answers] == ["run 1", "run 2"]


async def test_the_ids_1_and_1_as_text_are_two_requests() -> None:
    tools = GatedTools("wait")
    async with served(tools.mcp) as wire:
        session = await Session.open(wire)
        answers = [await session.call("wait", {"steps": 11}, id=id, token=id) for id in (1, "1")]
        for answer in answers:
            await answer.message()
        assert tools.runs == 2
        tools.gate.open()
        ids = [(await answer.rest())[-1]["id"] for answer in answers]
        assert ids == [1, "1"]
