"""The experimental tasks of 2025-11-25, from the same runs as those of 2026-07-28."""

import asyncio
from typing import Any

import pytest
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from tests.kit.http import Answer
from tests.kit.peers import Session, served, text_of
from tests.kit.tools import GatedTools
from tests.kit.waits import PATIENCE, until

from headway import Headway

pytestmark = pytest.mark.anyio

RELATED = "io.modelcontextprotocol/related-task"


def gated_tools() -> GatedTools:
    tools = GatedTools("wait", "ask", "fail", quick={"hand_over": "never"})

    async def only() -> str:
        return "as a task"

    tools.mcp.add_tool(only, needs_task=True)
    return tools


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
    async with asyncio.timeout(PATIENCE):
        while (state := await get(session, task))["status"] != expected:
            pass
    return state


@pytest.mark.requirement("tasks-2025.created", "tasks-2025.fields", "tasks-2025.result", era="2025")
async def test_a_call_asks_for_a_task_and_its_result_is_fetched() -> None:
    tools = gated_tools()
    async with served(tools.mcp) as wire:
        session = await Session.open(wire)
        task = await begin(session, "wait", id="call", token="t")
        assert task["status"] == "working"
        assert set(task) >= {"taskId", "createdAt", "lastUpdatedAt", "ttl", "pollInterval"}
        state = await get(session, task)
        assert state["statusMessage"] == "1 of 4 \u00b7 Hashing setup.py"
        waiting = asyncio.create_task(
            session.request("tasks/result", {"taskId": task["taskId"]}, id="r", token="r")
        )
        answer = await waiting
        assert (await answer.message())["params"]["progress"] == 1
        tools.gate.open()
        last = (await answer.rest())[-1]
        assert (last["id"], text_of(last)) == ("r", "run 1")
        assert last["result"]["_meta"][RELATED] == {"taskId": task["taskId"]}
        assert (await get(session, task))["status"] == "completed"
        again = await ask(session, "tasks/result", taskId=task["taskId"])
        assert text_of(again) == "run 1"
        assert tools.runs == 1


@pytest.mark.requirement("tasks-2025.capability", "tasks-2025.undeclared", era="2025")
async def test_the_capability_and_each_tools_task_support_are_announced() -> None:
    async with served(gated_tools().mcp) as wire:
        session = await Session.open(wire)
        assert session.handshake["result"]["capabilities"]["tasks"] == {
            "cancel": {}, "requests": {"tools": {"call": {}}},
        }  # fmt: skip
        listing = (await ask(session, "tools/list"))["result"]["tools"]
        support = {tool["name"]: tool["execution"]["taskSupport"] for tool in listing}
        assert support == {
            "wait": "optional", "ask": "optional", "fail": "optional",
            "quick": "forbidden", "only": "required",
        }  # fmt: skip
        older = await Session.open(wire, "2025-06-18")
        assert "tasks" not in older.handshake["result"]["capabilities"]
        tools = (await ask(older, "tools/list"))["result"]["tools"]
        assert not any("execution" in tool for tool in tools)
        assert (await ask(older, "tasks/get", taskId="x"))["error"]["code"] == -32601
        ignored = await (await call(older, "quick")).outcome()
        assert text_of(ignored) == "at once"


@pytest.mark.requirement("tasks-2025.support", era="2025")
async def test_a_tool_that_forbids_or_requires_a_task_refuses_other_calls() -> None:
    async with served(gated_tools().mcp) as wire:
        session = await Session.open(wire)
        refused = await (await call(session, "quick")).outcome()
        assert refused["error"]["code"] == -32601
        refused = await (await session.call("only")).outcome()
        assert "call it with 'task'" in refused["error"]["message"]
        task = await begin(session, "only")
        await status(session, task, "completed")


@pytest.mark.requirement("tasks-2025.input", "tasks-2025.related", era="2025")
async def test_a_question_is_asked_where_the_result_is_waited_for() -> None:
    async with served(gated_tools().mcp) as wire:
        session = await Session.open(wire, capabilities={"elicitation": {}})
        task = await begin(session, "ask")
        await status(session, task, "input_required")
        answer = await session.request("tasks/result", {"taskId": task["taskId"]})
        question = await answer.message()
        assert question["params"]["_meta"][RELATED] == {"taskId": task["taskId"]}
        reply = {"action": "accept", "content": {"name": "Ada"}}
        assert (await session.reply(question, reply)).status == 202
        assert text_of((await answer.rest())[-1]) == "Hello Ada"


@pytest.mark.requirement("tasks-2025.result", era="2025")
async def test_a_tool_error_is_a_failed_task_with_a_result() -> None:
    tools = gated_tools()
    tools.gate.open()
    async with served(tools.mcp) as wire:
        session = await Session.open(wire)
        task = await begin(session, "fail")
        await status(session, task, "failed")
        result = (await ask(session, "tasks/result", taskId=task["taskId"]))["result"]
        assert result["isError"] is True


@pytest.mark.requirement("tasks-2025.cancel", era="2025")
async def test_a_task_is_cancelled_once() -> None:
    tools = gated_tools()
    async with served(tools.mcp) as wire:
        session = await Session.open(wire)
        task = await begin(session, "wait")
        await until(lambda: tools.runs)
        answer = await ask(session, "tasks/cancel", taskId=task["taskId"])
        assert answer["result"]["status"] == "cancelled"
        assert tools.stopped == 1
        again = await ask(session, "tasks/cancel", taskId=task["taskId"])
        assert again["error"]["code"] == -32602
        result = await ask(session, "tasks/result", taskId=task["taskId"])
        assert result["error"]["code"] == -32800


class Tokens:
    """A verifier that believes a token to be its bearer's name."""

    async def verify_token(self, token: str) -> AccessToken:
        return AccessToken(token=token, client_id=token, scopes=[], subject=token)


@pytest.mark.requirement("tasks.unguessable", "tasks-2025.list", era="2025")
async def test_tasks_are_listed_page_by_page_and_are_their_principals_own() -> None:
    auth = AuthSettings.model_validate(
        {
            "issuer_url": "http://127.0.0.1",
            "resource_server_url": "http://127.0.0.1/mcp",
            "validate_token_resource": False,
        }
    )
    server = Headway("known", auth=auth, token_verifier=Tokens())
    tools = GatedTools("wait", server=server)
    async with served(server) as wire:
        alice, again, bob = [
            await Session.open(wire, extra={"Authorization": f"Bearer {name}"})
            for name in ("alice", "alice", "bob")
        ]
        assert alice.handshake["result"]["capabilities"]["tasks"]["list"] == {}
        ids = [(await begin(alice, "wait"))["taskId"] for _ in range(52)]
        found: list[str] = []
        page = (await ask(again, "tasks/list"))["result"]
        while True:
            found += [task["taskId"] for task in page["tasks"]]
            if "nextCursor" not in page:
                break
            page = (await ask(again, "tasks/list", cursor=page["nextCursor"]))["result"]
        assert found == ids
        assert (await ask(bob, "tasks/list"))["result"] == {"tasks": []}
        assert (await ask(bob, "tasks/get", taskId=ids[0]))["error"]["code"] == -32602
        wrong = await ask(alice, "tasks/list", cursor="nonsense")
        assert wrong["error"]["code"] == -32602
        tools.gate.open()


@pytest.mark.requirement("tasks-2025.anonymous-list", era="2025")
async def test_anonymous_callers_are_shown_no_list() -> None:
    async with served(gated_tools().mcp) as wire:
        session = await Session.open(wire)
        assert (await ask(session, "tasks/list"))["error"]["code"] == -32601


@pytest.mark.requirement("progress.task", "tasks-2025.related", era="2025")
async def test_messages_about_a_task_name_it() -> None:
    tools = gated_tools()
    async with served(tools.mcp) as wire:
        session = await Session.open(wire)
        own = await session.get()
        task = await begin(session, "wait", token="t")
        told = await own.message()
        assert told["params"]["progressToken"] == "t"
        assert told["params"]["_meta"][RELATED] == {"taskId": task["taskId"]}
        assert (told["params"]["progress"], told["params"]["message"]) == (1, "Hashing setup.py")
        answer = await session.request("tasks/result", {"taskId": task["taskId"]}, token="r")
        tools.gate.open()
        messages = await answer.rest()
        assert text_of(messages[-1]) == "run 1"
        last = await own.message()
        assert last["params"]["progress"] == last["params"]["total"] == 4


async def test_a_task_outlives_its_session() -> None:
    tools = gated_tools()
    async with served(tools.mcp) as wire:
        session = await Session.open(wire)
        task = await begin(session, "wait")
        await (await session.delete()).body()
        tools.gate.open()
        other = await Session.open(wire)
        assert text_of(await ask(other, "tasks/result", taskId=task["taskId"])) == "run 1"


@pytest.mark.requirement("tasks-2025.unknown", era="2025")
@pytest.mark.parametrize("method", ["tasks/get", "tasks/result", "tasks/cancel"])
async def test_an_unknown_task_is_one_answer(method: str) -> None:
    async with served(gated_tools().mcp) as wire:
        session = await Session.open(wire)
        for name in ("x", "../x", "a/b", ""):
            error = (await ask(session, method, taskId=name))["error"]
            assert (error["code"], error["message"]) == (
                -32602, "No such task: it has expired, or its id is not yours",
            )  # fmt: skip
