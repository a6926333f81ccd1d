"""The experimental tasks of 2025-11-25, from the same runs as those of 2026-07-28."""

import asyncio
from typing import Any

import pytest
from mcp.server.mcpserver import Context
from pydantic import BaseModel
from tests.wire.client import Answer, until
from tests.wire.peers import Session, served, text_of

from headway import Headway, report

pytestmark = pytest.mark.anyio

RELATED = "io.modelcontextprotocol/related-task"


class Name(BaseModel):
    name: str


class Work:
    """Tools that wait until they are told to go on."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.runs = 0
        self.stopped = 0
        self.mcp = Headway("work")
        self.mcp.add_tool(self.slow)
        self.mcp.add_tool(self.asks)
        self.mcp.add_tool(self.fails)
        self.mcp.add_tool(self.inline, hand_over="never")
        self.mcp.add_tool(self.only, needs_task=True)

    async def slow(self) -> str:
        self.runs += 1
        report(37, 120, "Hashing setup.py")
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.stopped += 1
            raise
        return "done"

    async def asks(self, ctx: Context[Any, Any]) -> str:
        answer = await ctx.elicit("Who are you?", Name)
        return f"Hello {answer.data.name}" if answer.action == "accept" else answer.action

    async def fails(self) -> str:
        raise ValueError("no such table")

    async def inline(self) -> str:
        return "inline"

    async def only(self) -> str:
        return "as a task"


async def call(session: Session, tool: str, **options: Any) -> Answer:
    params = {"name": tool, "arguments": {}, "task": {"ttl": 60_000}}
    return await session.request("tools/call", params, **options)


async def begin(session: Session, tool: str, **options: Any) -> dict[str, Any]:
    """The task of a call that asks for one."""
    outcome = await (await call(session, tool, **options)).outcome()
    return outcome["result"]["task"]


async def ask(session: Session, method: str, **params: Any) -> dict[str, Any]:
    return await (await session.request(method, params)).outcome()


async def get(session: Session, task: dict[str, Any]) -> dict[str, Any]:
    return (await ask(session, "tasks/get", taskId=task["taskId"]))["result"]


async def status(session: Session, task: dict[str, Any], expected: str) -> dict[str, Any]:
    async with asyncio.timeout(5):
        while (state := await get(session, task))["status"] != expected:
            pass
    return state


async def test_a_call_asks_for_a_task_and_its_result_is_fetched() -> None:
    work = Work()
    async with served(work.mcp) as wire:
        session = await Session.open(wire)
        task = await begin(session, "slow", id="call", token="t")
        assert task["status"] == "working"
        assert set(task) >= {"taskId", "createdAt", "lastUpdatedAt", "ttl", "pollInterval"}
        state = await get(session, task)
        assert state["statusMessage"] == "37 of 120 \u00b7 Hashing setup.py"
        waiting = asyncio.create_task(
            session.request("tasks/result", {"taskId": task["taskId"]}, id="r", token="r")
        )
        answer = await waiting
        assert (await answer.message())["params"]["progress"] == 37
        work.go.set()
        last = (await answer.rest())[-1]
        assert (last["id"], text_of(last)) == ("r", "done")
        assert last["result"]["_meta"][RELATED] == {"taskId": task["taskId"]}
        assert (await get(session, task))["status"] == "completed"
        again = await ask(session, "tasks/result", taskId=task["taskId"])
        assert text_of(again) == "done"
        assert work.runs == 1


async def test_what_is_announced() -> None:
    async with served(Work().mcp) as wire:
        session = await Session.open(wire)
        assert session.handshake["result"]["capabilities"]["tasks"] == {
            "list": {}, "cancel": {}, "requests": {"tools": {"call": {}}},
        }  # fmt: skip
        listing = (await ask(session, "tools/list"))["result"]["tools"]
        support = {tool["name"]: tool["execution"]["taskSupport"] for tool in listing}
        assert support == {
            "slow": "optional", "asks": "optional", "fails": "optional",
            "inline": "forbidden", "only": "required",
        }  # fmt: skip
        older = await Session.open(wire, "2025-06-18")
        assert "tasks" not in older.handshake["result"]["capabilities"]
        tools = (await ask(older, "tools/list"))["result"]["tools"]
        assert not any("execution" in tool for tool in tools)
        assert (await ask(older, "tasks/get", taskId="x"))["error"]["code"] == -32601
        ignored = await (await call(older, "inline")).outcome()
        assert text_of(ignored) == "inline"


async def test_a_tool_that_is_none_or_has_to_be_one_says_so() -> None:
    async with served(Work().mcp) as wire:
        session = await Session.open(wire)
        refused = await (await call(session, "inline")).outcome()
        assert refused["error"]["code"] == -32601
        refused = await (await session.call("only")).outcome()
        assert "call it with 'task'" in refused["error"]["message"]
        task = await begin(session, "only")
        await status(session, task, "completed")


async def test_a_question_is_asked_where_the_result_is_waited_for() -> None:
    async with served(Work().mcp) as wire:
        session = await Session.open(wire, capabilities={"elicitation": {}})
        task = await begin(session, "asks")
        await status(session, task, "input_required")
        answer = await session.request("tasks/result", {"taskId": task["taskId"]})
        question = await answer.message()
        assert question["params"]["_meta"][RELATED] == {"taskId": task["taskId"]}
        reply = {"action": "accept", "content": {"name": "Ada"}}
        assert (await session.reply(question, reply)).status == 202
        assert text_of((await answer.rest())[-1]) == "Hello Ada"


async def test_a_tool_error_is_a_failed_task_with_a_result() -> None:
    async with served(Work().mcp) as wire:
        session = await Session.open(wire)
        task = await begin(session, "fails")
        await status(session, task, "failed")
        result = (await ask(session, "tasks/result", taskId=task["taskId"]))["result"]
        assert result["isError"] is True


async def test_a_task_is_cancelled_once() -> None:
    work = Work()
    async with served(work.mcp) as wire:
        session = await Session.open(wire)
        task = await begin(session, "slow")
        await until(lambda: work.runs)
        answer = await ask(session, "tasks/cancel", taskId=task["taskId"])
        assert answer["result"]["status"] == "cancelled"
        assert work.stopped == 1
        again = await ask(session, "tasks/cancel", taskId=task["taskId"])
        assert again["error"]["code"] == -32602
        result = await ask(session, "tasks/result", taskId=task["taskId"])
        assert result["error"]["code"] == -32800


async def test_tasks_are_listed_page_by_page_and_are_their_sessions_own() -> None:
    work = Work()
    async with served(work.mcp) as wire:
        one, two = await Session.open(wire), await Session.open(wire)
        ids = [(await begin(one, "slow"))["taskId"] for _ in range(52)]
        found: list[str] = []
        page = (await ask(one, "tasks/list"))["result"]
        while True:
            found += [task["taskId"] for task in page["tasks"]]
            if "nextCursor" not in page:
                break
            page = (await ask(one, "tasks/list", cursor=page["nextCursor"]))["result"]
        assert found == ids
        assert (await ask(two, "tasks/list"))["result"] == {"tasks": []}
        wrong = await ask(one, "tasks/list", cursor="nonsense")
        assert wrong["error"]["code"] == -32602
        work.go.set()


async def test_a_task_outlives_its_session() -> None:
    work = Work()
    async with served(work.mcp) as wire:
        session = await Session.open(wire)
        task = await begin(session, "slow")
        await (await session.delete()).body()
        work.go.set()
        other = await Session.open(wire)
        assert text_of(await ask(other, "tasks/result", taskId=task["taskId"])) == "done"


@pytest.mark.parametrize("method", ["tasks/get", "tasks/result", "tasks/cancel"])
async def test_an_unknown_task_is_one_answer(method: str) -> None:
    async with served(Work().mcp) as wire:
        session = await Session.open(wire)
        for name in ("x", "../x", "a/b", ""):
            error = (await ask(session, method, taskId=name))["error"]
            assert (error["code"], error["message"]) == (
                -32602, "No such task: it has expired, or its id is not yours",
            )  # fmt: skip
