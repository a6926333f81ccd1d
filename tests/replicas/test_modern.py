"""2026-07-28 clients, tasks of both generations and keys: any replica answers for any of them."""

import asyncio
from typing import Any

import pytest
from mcp.server.subscriptions import ResourceUpdated, ToolsListChanged
from tests.kit.fleet import fleet_of
from tests.kit.http import Answer
from tests.kit.peers import Modern, Session, progress_of, text_of
from tests.kit.waits import PATIENCE
from tests.replicas.tools import replica_tools

from headway.settings import Settings

pytestmark = pytest.mark.anyio

KNOWS_TASKS = {"extensions": {"io.modelcontextprotocol/tasks": {}}}
KEY = "headway/idempotency-key"


async def task_request(client: Modern, method: str, task: str) -> dict[str, Any]:
    """What a replica answers about a task."""
    body = client.body(method, {"taskId": task})
    return await (await client.post(body, {"Mcp-Name": task})).outcome()


async def ended(client: Modern, task: str) -> dict[str, Any]:
    """The task when it has ended, each time asked on the next replica."""
    async with asyncio.timeout(PATIENCE):
        while True:
            state = (await task_request(client, "tasks/get", task))["result"]
            if state["status"] not in ("working", "input_required"):
                return state


async def test_a_listener_hears_what_another_replica_publishes(journal: str) -> None:
    some = replica_tools(2)
    async with fleet_of([tools.mcp for tools in some], journal) as fleet:
        listeners: list[Answer] = []
        wanted = {"toolsListChanged": True, "resourceSubscriptions": ["x://1"]}
        for replica in fleet.replicas:
            client = Modern(replica)
            answer = await client.request("subscriptions/listen", {"notifications": wanted})
            await answer.message()
            listeners.append(answer)
        await some[0].bus.publish(ToolsListChanged())
        await some[0].bus.publish(ResourceUpdated("x://other"))
        await some[1].bus.publish(ResourceUpdated("x://1"))
        for answer in listeners:
            heard = [(await answer.message())["method"] for _ in range(2)]
            assert sorted(heard) == [
                "notifications/resources/updated", "notifications/tools/list_changed",
            ]  # fmt: skip
        await some[0].bus.publish(ToolsListChanged())
        for answer in listeners:  # and each of them once
            assert (await answer.message())["method"] == "notifications/tools/list_changed"


async def test_a_task_is_read_and_cancelled_on_any_replica(journal: str) -> None:
    """Scenario 22: what a client polls is never unknown to the next replica."""
    some = replica_tools(3, hand_over="at once")
    async with fleet_of([tools.mcp for tools in some], journal) as fleet:
        client = Modern(fleet.wire, KNOWS_TASKS)
        made = [
            (await (await client.call("step", {"steps": 2})).outcome())["result"]["taskId"]
            for _ in range(2)
        ]
        for task in made:
            for _ in fleet.replicas:
                state = (await task_request(client, "tasks/get", task))["result"]
                assert state["status"] == "working"
        await task_request(client, "tasks/cancel", made[0])
        assert (await ended(client, made[0]))["status"] == "cancelled"
        some[0].gate.let_pass(2)
        done = await ended(client, made[1])
        assert done["status"] == "completed"
        assert done["result"]["content"][0]["text"] == "run 1"
        plain = await Modern(fleet.wire).call("quick")
        assert text_of(await plain.outcome()) == "at once"


async def test_a_task_of_2025_11_25_is_waited_for_on_another_replica(journal: str) -> None:
    some = replica_tools(2)
    async with fleet_of([tools.mcp for tools in some], journal) as fleet:
        session = await Session.open(fleet.wire)
        message = session.call_message("step", {"steps": 1})
        message["params"]["task"] = {}
        task = (await (await session.post(message)).json())["result"]["task"]["taskId"]
        for _ in fleet.replicas:
            state = await (await session.request("tasks/get", {"taskId": task})).outcome()
            assert state["result"]["status"] == "working"
        waiting = [
            await session.request("tasks/result", {"taskId": task}, token=n) for n in range(2)
        ]
        some[0].gate.let_pass()
        for answer in waiting:
            assert "run 1" in str((await answer.rest())[-1]["result"])


async def test_a_retry_storm_over_replicas_executes_once(journal: str) -> None:
    """Scenario 15."""
    some = replica_tools(2)
    async with fleet_of([tools.mcp for tools in some], journal) as fleet:
        client = Modern(fleet.wire)

        async def call(number: int, steps: int = 1) -> dict[str, Any]:
            body = client.call_message("step", {"steps": steps}, id=number)
            body["params"]["_meta"][KEY] = "storm"
            return await (await client.post(body)).outcome()

        calls = [asyncio.create_task(call(number)) for number in range(5)]
        some[0].gate.let_pass()
        texts = {text_of(outcome) for outcome in await asyncio.gather(*calls)}
        assert (texts, sum(tools.runs for tools in some)) == ({"run 1"}, 1)
        assert "error" in await call(6, steps=2)
        assert sum(tools.runs for tools in some) == 1


async def test_a_detached_call_that_lost_its_stream_goes_on_at_another_replica(
    journal: str,
) -> None:
    """Scenario 6."""
    some = replica_tools(2, detached=True)
    async with fleet_of([tools.mcp for tools in some], journal) as fleet:

        def message(client: Modern, number: int) -> dict[str, Any]:
            body = client.call_message("step", {"steps": 10}, id=number, token=f"t{number}")
            body["params"]["_meta"][KEY] = "migration"
            return body

        first, second = Modern(fleet[0]), Modern(fleet[1])
        answer = await first.post(message(first, 1))
        some[0].gate.let_pass(3)
        assert progress_of([await answer.message() for _ in range(3)]) == [1, 2, 3]
        answer.cut()
        again = await second.post(message(second, 2))
        first_word = await again.message()
        some[0].gate.let_pass(7)
        messages = [first_word, *await again.rest()]
        values = progress_of(messages)
        assert (values, values[-1]) == (sorted(set(values)), 10)
        assert (messages[-1]["id"], text_of(messages[-1])) == (2, "run 1")
        assert [tools.runs for tools in some] == [1, 0]


async def test_a_run_is_a_resource_of_all_replicas(journal: str) -> None:
    some = replica_tools(2)
    async with fleet_of([tools.mcp for tools in some], journal) as fleet:
        session = await Session.open(fleet[0])
        running = await session.call("step", {"steps": 2}, token="t")
        some[0].gate.let_pass()
        await running.message()
        (stream,) = await fleet[0].app.journal.streams("run/", unfinished=True)
        await fleet[0].app.journal.wait_until_stored(stream)
        uri = f"headway://runs/{stream.rpartition('/')[2]}"
        session.wire = fleet[1]
        own = await session.get()
        read = await (await session.request("resources/read", {"uri": uri})).outcome()
        assert '"state":"working"' in str(read["result"])
        subscribed = await session.request("resources/subscribe", {"uri": uri})
        assert (await subscribed.json())["result"] == {}
        some[0].gate.let_pass()
        await running.rest()
        assert (await own.message())["params"] == {"uri": uri}


async def test_stateless_replicas_share_nothing_and_answer_anything() -> None:
    some = replica_tools(2)
    settings = Settings(stateless=True, progress_rate=0)
    async with fleet_of([tools.mcp for tools in some], "memory:", settings) as fleet:
        session = Session(fleet.wire, "2025-11-25", "", {"MCP-Protocol-Version": "2025-11-25"})
        params = {
            "protocolVersion": "2025-11-25", "capabilities": {},
            "clientInfo": {"name": "wire", "version": "1"},
        }  # fmt: skip
        answer = await session.request("initialize", params, id=0)
        assert "mcp-session-id" not in answer.headers
        offered = (await answer.json())["result"]["capabilities"]
        assert "subscribe" not in offered["resources"]
        await session.notify("notifications/initialized")
        some[0].gate.let_pass(4)
        for _ in range(2):
            answer = await session.call("step", {"steps": 2}, id="w", token="t")
            messages = await answer.rest()
            assert (progress_of(messages), answer.ids) == ([1, 2], [])
            assert text_of(messages[-1]) == "run 1"
        for refused in (await session.get(), await session.delete()):
            assert (refused.status, refused.headers["allow"]) == (405, "POST")
        refused = await session.request("resources/subscribe", {"uri": "x://1"})
        assert "stateless" in (await refused.json())["error"]["message"]
        assert "error" in await (await session.call("ask")).outcome()
