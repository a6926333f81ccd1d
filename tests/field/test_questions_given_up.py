"""A question that its server does not wait for any more is cancelled: nobody need answer it."""

import asyncio
from typing import Any

import anyio
import mcp_types as types
import pytest
from mcp.client.client import Client
from mcp.server.lowlevel import Server
from mcp.server.mcpserver import Context
from tests.kit.peers import Modern, Session, served, text_of
from tests.kit.tools import Name
from tests.kit.waits import within

from headway import Headway, Settings, asgi
from headway.cli.server.http_server import serving

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning"),
]

CAN_ANSWER: dict[str, Any] = {"elicitation": {}}
ADA = {"action": "accept", "content": {"name": "Ada"}}


def impatient() -> Headway:
    """Tools that ask and do not wait, each for a reason of its own."""
    mcp = Headway("impatient")

    @mcp.tool()
    async def change_its_mind(ctx: Context[Any, Any]) -> str:
        asking = asyncio.create_task(ctx.elicit("Who?", Name))
        await asyncio.sleep(0)
        await ctx.report_progress(1, 2)
        asking.cancel()
        return "never mind"

    @mcp.tool(timeout=5)
    async def run_out_of_time(ctx: Context[Any, Any]) -> str:
        await ctx.elicit("Who?", Name)
        return "never"

    @mcp.tool()
    async def leave_it_open(ctx: Context[Any, Any]) -> str:
        mcp.asking = asyncio.create_task(ctx.elicit("Who?", Name))  # type: ignore[attr-defined]
        await asyncio.sleep(0)
        return "done"

    @mcp.tool()
    async def wait(ctx: Context[Any, Any]) -> str:
        answer = await ctx.elicit("Who?", Name)
        return answer.data.name if answer.action == "accept" else answer.action

    return mcp


@pytest.mark.parametrize("tool", ["change_its_mind", "leave_it_open", "run_out_of_time"])
async def test_a_question_that_is_given_up_is_cancelled_before_the_call_ends(tool: str) -> None:
    async with served(impatient()) as wire:
        session = await Session.open(wire, capabilities=CAN_ANSWER)
        answer = await session.call(tool)
        question = await answer.message()
        assert question["method"] == "elicitation/create"
        await wire.clock.advance(5)
        *said, end = await answer.rest()
        (cancelled,) = [m for m in said if m["method"] == "notifications/cancelled"]
        assert cancelled["params"]["requestId"] == question["id"]
        assert "id" in end
        late = await session.reply(question, ADA)
        assert late.status == 400


async def test_a_question_that_is_answered_or_refused_is_not_cancelled() -> None:
    async with served(impatient()) as wire:
        session = await Session.open(wire, capabilities=CAN_ANSWER)
        for reply in (ADA, {"action": "decline"}):
            answer = await session.call("wait")
            await session.reply(await answer.message(), reply)
            (end,) = await answer.rest()
            assert text_of(end) == ("Ada" if reply is ADA else "decline")
        answer = await session.call("wait")
        question = await answer.message()
        refusal = {"code": -1, "message": "ask somebody else"}
        await session.post({"jsonrpc": "2.0", "id": question["id"], "error": refusal})
        assert len(await answer.rest()) == 1


async def test_a_question_outside_of_any_request_is_cancelled_where_it_was_asked() -> None:
    async def ask_in_vain(context: Any, _params: Any) -> None:
        asking = asyncio.create_task(context.session.list_roots())
        await asyncio.sleep(0)
        asking.cancel()

    server: Server[Any] = Server("impatient")
    method = "notifications/roots/list_changed"
    server.add_notification_handler(method, types.NotificationParams, ask_in_vain)
    async with served(server) as wire:
        session = await Session.open(wire, capabilities={"roots": {}})
        listening = await session.get()
        await session.notify(method)
        question, cancelled = await listening.message(), await listening.message()
        assert (question["method"], cancelled["method"]) == (
            "roots/list",
            "notifications/cancelled",
        )
        assert cancelled["params"]["requestId"] == question["id"]


async def test_a_stream_that_is_read_again_tells_of_both_or_of_neither() -> None:
    async with served(impatient()) as wire:
        session = await Session.open(wire, capabilities=CAN_ANSWER)
        answer = await session.call("change_its_mind", token="t")
        said = await answer.rest()
        again = await (await session.get(answer.ids[0])).rest()
        assert [m.get("method") for m in again] == [m.get("method") for m in said]


async def test_a_question_in_a_task_of_2026_is_not_cancelled_by_a_message() -> None:
    settings = Settings(hand_over=0)
    capabilities = {"elicitation": {}, "extensions": {"io.modelcontextprotocol/tasks": {}}}
    async with served(impatient(), settings=settings) as wire:
        modern = Modern(wire, capabilities)
        created = (await (await modern.call("run_out_of_time")).json())["result"]
        get = {"taskId": created["taskId"]}
        asked = (await (await modern.request("tasks/get", get)).json())["result"]
        assert len(asked["inputRequests"]) == 1
        listening = await modern.request(
            "subscriptions/listen", {"notifications": {"taskIds": [created["taskId"]]}}
        )
        await wire.clock.advance(5)
        heard = await listening.message()
        while heard.get("params", {}).get("status") != "failed":
            heard = await listening.message()
            assert heard["method"] == "notifications/tasks"
        assert "inputRequests" not in heard["params"]


async def test_the_official_clients_callback_is_interrupted() -> None:
    asked, interrupted = anyio.Event(), anyio.Event()

    async def ask(context: Any, params: Any) -> types.ElicitResult:
        asked.set()
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            interrupted.set()
            raise
        raise AssertionError

    mcp = Headway("impatient")

    @mcp.tool()
    async def change_its_mind(ctx: Context[Any, Any]) -> str:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(ctx.elicit, "Who?", Name)
                await asked.wait()
                scope.cancel()
        await interrupted.wait()
        return "never mind"

    async with (
        serving(asgi(mcp), grace=1) as origin,
        Client(f"{origin}/mcp", mode="legacy", elicitation_callback=ask) as client,
    ):
        result = await within(client.call_tool("change_its_mind", {}))
    assert not result.is_error
