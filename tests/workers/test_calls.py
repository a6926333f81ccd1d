"""Calls that a worker executes look to their clients like any other."""

import asyncio
import os
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from tests.kit.floor import Floor, floor
from tests.kit.http import Answer
from tests.kit.peers import Modern, Session, Wire, connect, each_era, progress_of, text_of
from tests.kit.waits import PATIENCE, until
from tests.workers.target import once, whoami

from headway import Headway

pytestmark = pytest.mark.anyio

TASKS = {"extensions": {"io.modelcontextprotocol/tasks": {}}}


@pytest.fixture
async def site(new_redis_url: Callable[[], str]) -> AsyncGenerator[Floor]:
    async with floor(new_redis_url()) as site:
        yield site


@pytest.fixture
async def wire(site: Floor) -> Wire:
    """A replica, with a worker."""
    await site.worker()
    return await site.replica()


def said(messages: list[dict[str, Any]], logger: str | None) -> list[object]:
    return [
        message["params"]["data"]
        for message in messages
        if message.get("method") == "notifications/message"
        and message["params"].get("logger") == logger
    ]


@each_era
async def test_all_that_a_tool_says_is_heard_as_from_here(wire: Wire, era: str) -> None:
    client = await connect(wire, era)
    options = {"token": "t"} if era == "2025" else {"token": "t", "level": "debug"}
    messages = await (await client.call("count", {"upto": 5}, **options)).rest()
    assert messages[-1]["result"]["structuredContent"]["upto"] == 5
    values = progress_of(messages)
    assert values == sorted(set(values))
    assert values[-5:] == [1, 2, 3, 4, 5]
    assert said(messages, "headway.part") == [0, 1, 2, 3, 4]
    assert said(messages, None) == [f"at {n}" for n in range(5)]
    assert "Waiting for a worker" in [m["params"].get("message") for m in messages[:-1]]


@each_era
async def test_a_tools_own_error_is_its_result(wire: Wire, era: str) -> None:
    client = await connect(wire, era)
    outcome = await (await client.call("fail", {"why": "no luck"})).outcome()
    assert outcome["result"]["isError"]
    assert "no luck" in text_of(outcome)


async def test_a_2025_client_is_asked_on_its_stream(wire: Wire) -> None:
    session = await Session.open(wire, capabilities={"elicitation": {}})
    answer = await session.call("ask", token="t")
    while (message := await answer.message())["method"] != "elicitation/create":
        pass
    reply = await session.reply(message, {"action": "accept", "content": {"name": "Ada"}})
    assert reply.status == 202
    assert text_of((await answer.rest())[-1]) == "accept Ada"


async def test_a_refusal_of_a_question_reaches_the_tool(wire: Wire) -> None:
    session = await Session.open(wire, capabilities={"elicitation": {}})
    answer = await session.call("ask", token="t")
    while (message := await answer.message())["method"] != "elicitation/create":
        pass
    error = {"code": -32000, "message": "nobody is here"}
    await session.post({"jsonrpc": "2.0", "id": message["id"], "error": error})
    outcome = (await answer.rest())[-1]
    assert "nobody is here" in str(outcome)


async def test_a_2026_task_is_asked_and_answered(wire: Wire) -> None:
    client = Modern(wire, {**TASKS, "elicitation": {}})
    task = (await (await client.call("ask")).outcome())["result"]["taskId"]
    named = {"Mcp-Name": task}

    async def state() -> dict[str, Any]:
        body = client.body("tasks/get", {"taskId": task})
        return (await (await client.post(body, named)).json())["result"]

    async with asyncio.timeout(PATIENCE):
        while not (questions := (await state()).get("inputRequests")):
            pass
        (key,) = questions
        answer = {"action": "accept", "content": {"name": "Bob"}}
        update = client.body("tasks/update", {"taskId": task, "inputResponses": {key: answer}})
        assert "error" not in await (await client.post(update, named)).json()
        while (ended := await state())["status"] in ("working", "input_required"):
            pass
    assert ended["result"]["content"][0]["text"] == "accept Bob"


@each_era
async def test_a_tool_knows_its_client_and_the_trace(wire: Wire, era: str) -> None:
    client = await connect(wire, era)
    message = client.call_message("whoami")
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    message["params"].setdefault("_meta", {})["traceparent"] = trace
    outcome = await (await client.post(message)).outcome()
    seen = outcome["result"]["structuredContent"]
    assert seen["client"] == "wire"
    assert seen["version"] == ("2025-11-25" if era == "2025" else "2026-07-28")
    assert seen["meta"]["traceparent"] == trace
    assert seen["access"] is None


class _Verifier:
    async def verify_token(self, token: str) -> AccessToken | None:
        if token != SECRET:
            return None
        return AccessToken(
            token=token, client_id="agent", scopes=["run"], subject="ada", claims={"team": "blue"}
        )


SECRET = "the-token-that-goes-nowhere"


def guarded() -> Headway:
    settings = AuthSettings.model_validate(
        {
            "issuer_url": "https://issuer.example",
            "resource_server_url": "https://server.example/mcp",
            "required_scopes": ["run"],
            "validate_token_resource": False,
        }
    )
    server = Headway("guarded", auth=settings, token_verifier=_Verifier())
    server.add_tool(whoami, name="whoami", where="worker")
    server.add_tool(once, name="once", where="worker")
    return server


@each_era
async def test_a_tool_knows_its_caller_and_the_token_goes_nowhere(site: Floor, era: str) -> None:
    await site.worker(server=guarded())
    wire = await site.replica(guarded())
    bearer = {"Authorization": f"Bearer {SECRET}"}
    if era == "2025":
        session = await Session.open(wire, extra=bearer)
        answer = await session.call("whoami")
    else:
        modern = Modern(wire)
        answer = await modern.post(modern.call_message("whoami"), bearer)
    access = (await answer.outcome())["result"]["structuredContent"]["access"]
    assert access["token"] == ""
    assert (access["client_id"], access["subject"], access["scopes"]) == ("agent", "ada", ["run"])
    assert access["claims"] == {"team": "blue"}
    async with redis.asyncio.Redis.from_url(site.url.partition("?")[0]) as storage:
        for key in await storage.keys("*"):
            assert SECRET.encode() not in (await storage.dump(key) or b"")


@each_era
@pytest.mark.parametrize("hand_over", [None, 0.5])
async def test_a_callers_runs_in_workers_are_counted_once_wherever_they_were_accepted(
    site: Floor, tmp_path: Path, era: str, hand_over: float | None
) -> None:
    """Also when its request has been answered with a handle."""
    await site.worker(server=guarded())
    chosen: dict[str, Any] = {"max_runs_each": 2, "hand_over": hand_over}
    wires = [await site.replica(guarded(), **chosen) for _ in range(2)]
    bearer = {"Authorization": f"Bearer {SECRET}"}

    async def call(wire: Wire, tool: str, **arguments: str) -> Answer:
        if era == "2025":
            session = await Session.open(wire, extra=bearer)
            return await session.call(tool, arguments)
        modern = Modern(wire)
        return await modern.post(modern.call_message(tool, arguments), bearer)

    places = [tmp_path / name for name in ("a", "b")]
    for place in places:
        place.mkdir()
    calls = [asyncio.create_task(call(wires[0], "once", place=str(place))) for place in places]
    for place in places:
        await until((place / "attempts").exists)
    if hand_over:
        for answer in calls:
            assert "run_id" in (await (await answer).outcome())["result"]["structuredContent"]
    for wire in wires:
        refused = (await (await call(wire, "whoami")).outcome())["error"]
        assert refused["data"] == {"limit": "max_runs_each"}
    (places[0] / "go").touch()
    if hand_over is None:
        assert text_of(await (await calls[0]).outcome()) == "done once"
    await until((places[0] / "finished").exists)
    async with asyncio.timeout(100):
        while "error" in (outcome := await (await call(wires[1], "whoami")).outcome()):
            assert outcome["error"]["data"] == {"limit": "max_runs_each"}
    assert "result" in outcome
    (places[1] / "go").touch()
    await until((places[1] / "finished").exists)
    await asyncio.gather(*calls)


async def test_a_limit_of_the_tool_holds_in_the_worker(wire: Wire) -> None:
    session = await Session.open(wire)
    outcome = await (await session.call("too_long", token="t")).outcome()
    assert outcome["error"]["code"] == -32001


@each_era
async def test_who_asks_for_a_stop_stops_the_worker(wire: Wire, era: str, tmp_path: Path) -> None:
    client = await connect(wire, era)
    call = client.call_message("sleep", {"place": str(tmp_path)}, id=7)
    connection = await client.send(call)
    await until((tmp_path / "begun").exists)
    if isinstance(client, Session):
        await client.notify("notifications/cancelled", {"requestId": 7, "reason": "enough"})
    else:
        connection.cut()
    await until((tmp_path / "stopped").exists)


async def test_a_closed_session_stops_its_calls(wire: Wire, tmp_path: Path) -> None:
    session = await Session.open(wire)
    await session.send(session.call_message("sleep", {"place": str(tmp_path)}))
    await until((tmp_path / "begun").exists)
    await session.delete()
    await until((tmp_path / "stopped").exists)


async def test_a_cancelled_task_stops_the_worker(wire: Wire, tmp_path: Path) -> None:
    session = await Session.open(wire)
    message = session.call_message("sleep", {"place": str(tmp_path)})
    message["params"]["task"] = {}
    task = (await (await session.post(message)).outcome())["result"]["task"]["taskId"]
    await until((tmp_path / "begun").exists)
    outcome = await (await session.request("tasks/cancel", {"taskId": task})).outcome()
    assert outcome["result"]["status"] == "cancelled"
    await until((tmp_path / "stopped").exists)


async def test_a_task_outlives_the_session_that_asked_for_it(wire: Wire, tmp_path: Path) -> None:
    session = await Session.open(wire)
    message = session.call_message("once", {"place": str(tmp_path)})
    message["params"]["task"] = {}
    task = (await (await session.post(message)).outcome())["result"]["task"]["taskId"]
    await until((tmp_path / "attempts").exists)
    await session.delete()
    (tmp_path / "go").touch()
    later = await Session.open(wire)
    outcome = await (await later.request("tasks/result", {"taskId": task})).outcome()
    assert text_of(outcome) == "done once"


async def test_a_handle_is_good_for_a_run_in_a_worker(site: Floor, tmp_path: Path) -> None:
    await site.worker()
    session = await Session.open(await site.replica(hand_over=0.5))
    first = await (await session.call("once", {"place": str(tmp_path)})).outcome()
    run_id = first["result"]["structuredContent"]["run_id"]
    (tmp_path / "go").touch()
    texts: list[str] = []
    while "done once" not in texts:
        outcome = await (await session.call("continue_run", {"run_id": run_id})).outcome()
        texts = [block.get("text", "") for block in outcome["result"]["content"]]
        run_id = (outcome["result"].get("structuredContent") or {}).get("run_id", run_id)
    assert (tmp_path / "attempts").read_text().count("\n") == 1


async def test_a_call_with_a_key_is_executed_once(site: Floor, tmp_path: Path) -> None:
    await site.worker()
    wires = [await site.replica(), await site.replica()]
    sessions = [await Session.open(wire) for wire in wires for _ in range(3)]
    messages = [session.call_message("once", {"place": str(tmp_path)}) for session in sessions]
    for message in messages:
        message["params"]["_meta"] = {"headway/idempotency-key": "k"}
    async with asyncio.TaskGroup() as calls:
        asked = [
            calls.create_task(session.post(message))
            for session, message in zip(sessions, messages, strict=True)
        ]
    await until((tmp_path / "attempts").exists)
    (tmp_path / "go").touch()
    texts = {text_of((await call.result().rest())[-1]) for call in asked}
    assert texts == {"done once"}
    assert (tmp_path / "attempts").read_text().count("\n") == 1


async def test_what_is_not_for_workers_is_executed_here(wire: Wire) -> None:
    session = await Session.open(wire)
    outcome = await (await session.call("here")).outcome()
    assert text_of(outcome) == str(os.getpid())
