"""The tasks extension of 2026-07-28 (SEP-2663): a task is a run that was handed over."""

import asyncio
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any

import pytest
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.shared.exceptions import MCPError
from tests.kit.peers import META, Modern, Session, Wire, progress_of, served, text_of
from tests.kit.tools import GatedTools, Name
from tests.kit.waits import until

from headway import Settings
from headway.settings import Retention
from headway.testing import FakeClock

pytestmark = pytest.mark.anyio

TASKS = "io.modelcontextprotocol/tasks"
KNOWS = {"extensions": {TASKS: {}}, "elicitation": {}}


def gated_tools() -> GatedTools:
    """An unmodified MCPServer with tools that wait, ask and fail."""
    tools = GatedTools("quick", "wait", "ask", "fail", server=MCPServer("work"))

    async def ask_twice(ctx: Context[Any, Any]) -> str:
        answers = await asyncio.gather(ctx.elicit("One?", Name), ctx.elicit("Two?", Name))
        return " and ".join(a.data.name for a in answers if a.action == "accept")

    async def refuse() -> str:
        await tools.gate.wait()
        raise MCPError(-32099, "The moon is not full")

    tools.mcp.add_tool(ask_twice)
    tools.mcp.add_tool(refuse)
    return tools


class Client(Modern):
    """A 2026 client that knows tasks."""

    def __init__(self, wire: Wire, capabilities: dict[str, Any] | None = None) -> None:
        super().__init__(wire, KNOWS if capabilities is None else capabilities)

    def headers(self, body: dict[str, Any], extra: Any = None) -> dict[str, str]:
        name = body["params"].get("taskId")
        return super().headers(body, {"Mcp-Name": name, **(extra or {})} if name else extra)

    async def ask(self, method: str, **params: Any) -> dict[str, Any]:
        return await (await self.request(method, params)).json()

    async def get(self, task: str) -> dict[str, Any]:
        return (await self.ask("tasks/get", taskId=task))["result"]

    async def until(self, task: str, status: str) -> dict[str, Any]:
        return await self.poll(task, lambda state: state["status"] == status)

    async def poll(self, task: str, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        for _ in range(1000):
            state = await self.get(task)
            if wanted(state):
                return state
        raise AssertionError(f"the task stays as it is: {await self.get(task)}")

    async def questions(self, task: str, count: int) -> dict[str, Any]:
        state = await self.poll(task, lambda state: len(state.get("inputRequests", {})) == count)
        return state["inputRequests"]

    async def task(self, tool: str, **options: Any) -> dict[str, Any]:
        """Call a tool whose window is over at once, and return the task."""
        return (await (await self.call(tool, **options)).outcome())["result"]


AT_ONCE = Settings(hand_over=0.0)


@pytest.mark.requirement("tasks.result-type", era="2026")
async def test_a_call_inside_its_window_pays_nothing() -> None:
    async with served(gated_tools().mcp) as wire:
        answer = await Client(wire).call("quick")
        assert answer.headers["content-type"] == "application/json"
        outcome = await answer.json()
        assert (text_of(outcome), outcome["result"]["resultType"]) == ("at once", "complete")
        assert await wire.app.journal.streams("inbox/") == []


@pytest.mark.requirement("tasks.result-type", era="2026")
async def test_progress_comes_first_and_then_the_handle_on_the_same_response() -> None:
    tools = gated_tools()
    async with served(tools.mcp, settings=Settings(hand_over=45)) as wire:
        client = Client(wire)
        answer = await client.call("wait", token="t", id="x")
        assert progress_of([await answer.message()]) == [1]
        await wire.clock.advance(46, step=1)
        messages = await answer.rest()
        assert messages[-1]["id"] == "x"
        task = messages[-1]["result"]
        assert {m.get("method") for m in messages[:-1]} == {"notifications/progress"}
        assert task["resultType"] == "task"
        assert task["status"] == "working"
        assert task["statusMessage"] == "1 of 4 · Hashing setup.py"
        assert not {"result", "error", "inputRequests", "task"} & set(task)
        assert task["_meta"][f"{META}serverInfo"]["name"] == "work"
        state = await client.get(task["taskId"])
        assert state["resultType"] == "complete"
        assert {k: state[k] for k in ("taskId", "status", "createdAt", "ttlMs")} == {
            k: task[k] for k in ("taskId", "status", "createdAt", "ttlMs")
        }
        tools.gate.open()
        state = await client.until(task["taskId"], "completed")
        assert state["result"]["content"][0]["text"] == "run 1"
        assert state["result"]["resultType"] == "complete"
        assert tools.runs == 1


async def test_the_poll_interval_grows_with_the_age_of_the_task() -> None:
    tools = gated_tools()
    async with served(tools.mcp, settings=AT_ONCE) as wire:
        client = Client(wire)
        task = await client.task("wait")
        intervals: list[int] = []
        for _ in range(4):
            intervals.append((await client.get(task["taskId"]))["pollIntervalMs"])
            await wire.clock.advance(100)
        assert intervals == [500, 5000, 10_000, 10_000]


@pytest.mark.requirement("tasks.get", era="2026")
async def test_a_handed_over_run_outlives_its_connection_and_its_result_stays() -> None:
    tools = gated_tools()
    async with served(tools.mcp, settings=AT_ONCE) as wire:
        client = Client(wire)
        task = await client.task("wait")
        wire.cut_all()
        tools.gate.open()
        for _ in range(2):
            state = await client.until(task["taskId"], "completed")
            assert state["result"]["content"][0]["text"] == "run 1"


@pytest.mark.requirement("tasks.declared-clients-only", era="2026")
async def test_without_the_extension_nothing_is_handed_over_and_nothing_answered() -> None:
    tools = gated_tools()
    async with served(tools.mcp, settings=AT_ONCE) as wire:
        plain = Client(wire, {"elicitation": {}})
        answer = await plain.call("wait", token="t")
        await answer.message()
        tools.gate.open()
        assert text_of((await answer.rest())[-1]) == "run 1"
        for method in ("tasks/get", "tasks/update", "tasks/cancel"):
            error = (await plain.ask(method, taskId="x", inputResponses={}))["error"]
            assert error["code"] == -32021
            assert TASKS in error["data"]["requiredCapabilities"]["extensions"]


async def test_the_extension_is_announced() -> None:
    async with served(gated_tools().mcp) as wire:
        found = (await Client(wire).ask("server/discover"))["result"]["capabilities"]
        assert found["extensions"] == {TASKS: {}}
        session = await Session.open(wire)
        for method in ("tasks/update", "tasks/nothing"):
            answer = await (await session.request(method, {"taskId": "x"})).json()
            assert answer["error"]["code"] == -32601


@pytest.mark.requirement("tasks.update", era="2026")
async def test_a_question_makes_a_task_and_is_answered_in_it() -> None:
    async with served(gated_tools().mcp) as wire:
        client = Client(wire)
        task = await client.task("ask")
        state = await client.until(task["taskId"], "input_required")
        ((key, question),) = state["inputRequests"].items()
        assert question["method"] == "elicitation/create"
        assert question["params"]["message"] == "Who are you?"
        answers = {key: {"action": "accept", "content": {"name": "Alice"}}, "unknown": {}}
        done = await client.ask("tasks/update", taskId=task["taskId"], inputResponses=answers)
        assert set(done["result"]) == {"resultType", "_meta"}
        state = await client.until(task["taskId"], "completed")
        assert state["result"]["content"][0]["text"] == "Hello Alice"


@pytest.mark.requirement("tasks.questions", "tasks.keys", era="2026")
async def test_answers_may_come_one_by_one() -> None:
    async with served(gated_tools().mcp) as wire:
        client = Client(wire)
        task = (await client.task("ask_twice"))["taskId"]
        first, second = await client.questions(task, 2)
        for key, name, left in ((first, "A", {second}), (second, "B", set())):
            answer = {key: {"action": "accept", "content": {"name": name}}}
            await client.ask("tasks/update", taskId=task, inputResponses=answer)
            assert set((await client.get(task)).get("inputRequests", {})) == left
        state = await client.until(task, "completed")
        assert state["result"]["content"][0]["text"] == "A and B"


@pytest.mark.requirement("tasks.update.unknown", era="2026")
@pytest.mark.parametrize("bad", ["yes", None, 7, [], {"action": "perhaps"}, {}])
async def test_an_answer_that_is_none_changes_nothing_and_says_so(bad: Any) -> None:
    async with served(gated_tools().mcp) as wire:
        client = Client(wire)
        task = (await client.task("ask_twice"))["taskId"]
        first, second = await client.questions(task, 2)
        answers = {first: {"action": "decline"}, second: bad}
        refused = await client.ask("tasks/update", taskId=task, inputResponses=answers)
        assert refused["error"]["code"] == -32602
        assert second in refused["error"]["message"]
        assert set((await client.get(task))["inputRequests"]) == {first, second}


async def test_a_client_that_cannot_answer_is_not_asked() -> None:
    async with served(gated_tools().mcp) as wire:
        client = Client(wire, {"extensions": {TASKS: {}}})
        outcome = await (await client.call("ask")).outcome()
        assert outcome["error"]["code"] == -32021
        assert outcome["error"]["data"] == {"requiredCapabilities": {"elicitation": {}}}


@pytest.mark.requirement("tasks.cancel", era="2026")
async def test_cancelling_a_task_stops_its_work() -> None:
    tools = gated_tools()
    async with served(tools.mcp, settings=AT_ONCE) as wire:
        client = Client(wire)
        task = (await client.task("wait"))["taskId"]
        await until(lambda: tools.runs == 1)
        for _ in range(2):  # the second one is late, and as welcome
            done = await client.ask("tasks/cancel", taskId=task)
            assert set(done["result"]) == {"resultType", "_meta"}
            state = await client.until(task, "cancelled")
            assert state["statusMessage"] == "the task was cancelled"
        assert tools.stopped


@pytest.mark.requirement("tasks.failed", era="2026")
async def test_failed_is_for_protocol_errors_and_a_tool_s_error_is_a_result() -> None:
    tools = gated_tools()
    async with served(tools.mcp, settings=AT_ONCE) as wire:
        client = Client(wire)
        refused, failed = [(await client.task(tool))["taskId"] for tool in ("refuse", "fail")]
        tools.gate.open()
        state = await client.until(refused, "failed")
        assert state["error"] == {"code": -32099, "message": "The moon is not full"}
        assert "result" not in state
        state = await client.until(failed, "completed")
        assert state["result"]["isError"] is True


@pytest.mark.requirement("tasks.unknown", "tasks.unguessable", era="2026")
@pytest.mark.parametrize("method", ["tasks/get", "tasks/update", "tasks/cancel"])
async def test_unknown_foreign_and_not_handed_over_are_one_answer(method: str) -> None:
    tools = gated_tools()
    async with served(tools.mcp, settings=AT_ONCE) as wire:
        client = Client(wire)
        task = (await client.task("wait"))["taskId"]
        await (await Modern(wire).call("wait", token="t")).message()
        theirs = [run.id for run in wire.app.engine.runs.values() if run.id != task]
        session = await Session.open(wire)
        await (await session.call("wait", token="t")).frame()
        messages = {
            (await client.ask(method, taskId=name, inputResponses={}))["error"]["message"]
            for name in ("unknown", task[:-1], f"../{task}", *theirs)
        }
        assert len(messages) == 1


@pytest.mark.requirement("tasks.routing-header", era="2026")
async def test_a_wrong_routing_header_is_refused() -> None:
    tools = gated_tools()
    async with served(tools.mcp, settings=AT_ONCE) as wire:
        client = Client(wire)
        task = (await client.task("wait"))["taskId"]
        body = client.body("tasks/get", {"taskId": task})
        answer = await client.post(body, {"Mcp-Name": "other"})
        assert (answer.status, (await answer.json())["error"]["code"]) == (400, -32020)


@pytest.mark.requirement("tasks.durable", era="2026")
async def test_a_task_is_kept_for_its_time_and_readable_by_another_process(tmp_path: Path) -> None:
    tools, idle = gated_tools(), gated_tools()
    options: dict[str, Any] = {"journal": f"sqlite:///{tmp_path / 'j.db'}", "settings": AT_ONCE}
    options["clock"] = FakeClock()
    async with served(tools.mcp, **options) as wire, served(idle.mcp, **options) as replica:
        task = (await Client(wire).task("wait"))["taskId"]
        elsewhere = Client(replica)
        assert (await elsewhere.get(task))["status"] == "working"
        await elsewhere.ask("tasks/cancel", taskId=task)
        state = await elsewhere.get(task)
        for _ in range(100):
            if state["status"] != "working":
                break
            await options["clock"].advance(0.1, step=0.05)
            state = await elsewhere.get(task)
        assert state["status"] == "cancelled"
        assert tools.stopped
        assert state["ttlMs"] >= Retention().ttl * 1000


@pytest.mark.requirement("tasks.no-progress-on-listen", era="2026")
async def test_a_listener_hears_of_its_tasks_until_they_end() -> None:
    tools = gated_tools()
    async with served(tools.mcp, settings=AT_ONCE) as wire:
        client = Client(wire)
        task = (await client.task("wait", token="t"))["taskId"]
        await until(lambda: tools.runs == 1)
        wanted = {
            "notifications": {
                "taskIds": [task, "unknown", 7, [], {}, task],
                "toolsListChanged": True,
            }
        }
        ear = await client.request("subscriptions/listen", wanted, id="ear")
        honored = (await ear.message())["params"]["notifications"]
        assert honored == {"taskIds": [task], "toolsListChanged": True}
        first = await ear.message()
        assert first["method"] == "notifications/tasks"
        assert first["params"]["_meta"] == {f"{META}subscriptionId": "ear"}
        assert (first["params"]["taskId"], first["params"]["status"]) == (task, "working")
        tools.gate.open()
        await wire.clock.advance(2, step=0.25)
        while (news := await ear.message())["params"]["status"] == "working":
            pass
        assert news["params"]["result"]["content"][0]["text"] == "run 1"


@pytest.mark.requirement("tasks.notifications", era="2026")
async def test_a_listener_without_the_extension_hears_of_no_tasks() -> None:
    async with served(gated_tools().mcp) as wire:
        wanted = {"notifications": {"taskIds": ["x"]}}
        answer = await Modern(wire).request("subscriptions/listen", wanted)
        assert (await answer.json())["error"]["code"] == -32021


@pytest.mark.requirement("tasks.required", era="2026")
async def test_a_tool_may_never_or_always_be_handed_over() -> None:
    tools = GatedTools()
    tools.mcp.add_tool(tools.wait, name="never", hand_over="never")
    tools.mcp.add_tool(tools.wait, name="at_once", hand_over="at once")
    tools.mcp.add_tool(tools.wait, name="soon", hand_over="500ms")
    async with served(tools.mcp, settings=Settings(hand_over=inf)) as wire:
        client = Client(wire)
        never = await client.call("never", token=1)
        await never.message()
        assert (await client.task("at_once"))["resultType"] == "task"
        soon = await client.call("soon", token=2)
        await soon.message()
        await wire.clock.advance(1, step=0.25)
        assert (await soon.rest())[-1]["result"]["resultType"] == "task"
        tools.gate.open()
        assert text_of((await never.rest())[-1]) == "run 1"


async def test_a_client_that_leaves_the_routing_header_out_is_served() -> None:
    tools = gated_tools()
    async with served(tools.mcp, settings=AT_ONCE) as wire:
        client = Client(wire)
        task = await client.task("wait")
        body = client.body("tasks/get", {"taskId": task["taskId"]})
        answer = await (await client.post(body, {"Mcp-Name": None})).json()
        assert answer["result"]["taskId"] == task["taskId"]
        tools.gate.open()


async def test_a_task_whose_client_vanished_ends_by_its_time_and_leaves_nothing() -> None:
    tools = gated_tools()
    settings = Settings(timeout=600.0, retention=Retention(failed=0))
    async with served(tools.mcp, settings=settings) as wire:
        client = Client(wire)
        task = await client.task("ask")
        await client.questions(task["taskId"], 1)
        wire.cut_all()  # and nobody ever answers
        await wire.clock.advance(601, step=60)
        await until(lambda: not wire.app.engine.runs)
        state = await client.get(task["taskId"])
        assert (state["status"], state["error"]["code"]) == ("failed", -32001)
        journal = wire.app.journal
        assert await journal.streams("inbox/", unfinished=True) == []
        while await journal.streams("run/"):
            await wire.clock.advance(Retention().ttl, step=600)
        gone = await client.ask("tasks/get", taskId=task["taskId"])
        assert gone["error"]["code"] == -32602
