"""What others ask of a process: a flood pushes nothing out for good, and strangers ask nothing."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from mcp.server.mcpserver import Context
from tests.kit.fleet import Fleet, fleet_of
from tests.kit.fleet import journal as journal
from tests.kit.known import KnownModern, known_server
from tests.kit.peers import Session, served, text_of
from tests.kit.tools import GatedTools
from tests.kit.waits import until, until_seen, until_told

from headway import Headway, Settings
from headway.engine import send_control
from headway.events import (
    CancelRequested,
    ControlMessage,
    InboxClosed,
    InputAnswered,
    InputReceived,
    InputRequested,
    encode_json,
)
from headway.journal import open_journal
from headway.settings import Retention
from headway.stream_names import inbox_stream
from headway.testing import FakeClock
from headway.transport import messages_2025

pytestmark = pytest.mark.anyio

SETTINGS = Settings(progress_rate=0)
SMALL = Settings(progress_rate=0, retention=Retention(stream_entries=40))
ELICITS = {"elicitation": {}}


def asking_tools(server: Headway | None = None) -> GatedTools:
    """Tools that wait and ask, and a prompt that asks."""
    tools = GatedTools("wait", "ask", server=server)
    tools.mcp.add_tool(tools.wait, name="task", hand_over="at once")

    @tools.mcp.prompt()
    async def greeting(ctx: Context[Any, Any]) -> str:
        return await tools.ask(ctx)

    return tools


async def test_a_process_that_was_flooded_with_orders_hears_the_next_one(tmp_path: Path) -> None:
    """So many came before it looked that the oldest were dropped."""
    clock, url = FakeClock(), f"sqlite:///{tmp_path / 'j.db'}"
    async with served(asking_tools().mcp, journal=url, clock=clock, settings=SMALL) as wire:
        session = await Session.open(wire)
        answer = await session.call("wait", id=1, token=1)
        await answer.message()
        (run,) = wire.app.engine.runs.values()
        orders = f"orders/{wire.app.engine.lease.tag}"
        # Until the clock is turned the process does not look at what others write.
        async with open_journal(url, retention=SMALL.retention) as stranger:
            for number in range(200):
                what = CancelRequested("operator", str(number))
                await stranger.append_shared(orders, ControlMessage("run/x/nobody", what))
            head = await stranger.head(orders)
            assert head is not None
            assert head.first > 100
            await send_control(stranger, run.stream, CancelRequested("operator", "enough"))
        reading = asyncio.create_task(answer.rest())
        while not reading.done():
            await clock.advance(1)
        assert "enough" in (await reading)[-1]["error"]["message"]


async def test_a_process_whose_orders_were_lost_hears_the_next_one(tmp_path: Path) -> None:
    """A Redis that was emptied, for example."""
    url = f"sqlite:///{tmp_path / 'j.db'}"
    async with fleet_of([asking_tools().mcp], url) as fleet:
        session = await Session.open(fleet[0])
        answer = await session.call("wait", id=1, token=1)
        await answer.message()
        (run,) = fleet[0].app.engine.runs.values()
        async with open_journal(url) as operator:
            await operator.drop(f"orders/{fleet[0].app.engine.lease.tag}")

            async def is_there() -> bool:
                return await operator.head(f"orders/{fleet[0].app.engine.lease.tag}") is not None

            await until_told(is_there)
            await send_control(operator, run.stream, CancelRequested("operator", "enough"))
        assert "enough" in (await answer.rest())[-1]["error"]["message"]


async def test_a_task_that_is_cancelled_again_and_again_is_asked_once(journal: str) -> None:
    tools = asking_tools(known_server())
    tasks = {"extensions": {"io.modelcontextprotocol/tasks": {}}}
    async with fleet_of([tools.mcp] * 2, journal, SETTINGS) as fleet:
        alice = KnownModern(fleet[0], "alice", tasks)
        task = (await (await alice.call("task")).outcome())["result"]["taskId"]
        run = fleet[0].app.engine.runs[task]
        run.stop_event = CancelRequested("x")  # it does not stop, whatever it is asked
        for replica in [*fleet.replicas] * 10:
            alice.wire = replica
            done = await (await alice.request("tasks/cancel", {"taskId": task})).outcome()
            assert "result" in done
        inbox = await fleet[0].app.journal.read_all_kept(inbox_stream(run.stream))
        assert len([entry for entry in inbox if isinstance(entry.event, CancelRequested)]) == 1
        run.stop_event = None
        tools.gate.open()


# Answers


async def asked(session: Session, method: str) -> tuple[Any, dict[str, Any]]:
    """An answer that waits for its client, and the question."""
    name = {"tools/call": "ask", "prompts/get": "greeting"}[method]
    params = {"name": name, **({"arguments": {}} if method == "tools/call" else {})}
    answer = await session.request(method, params, id="asking", token="t")
    question = await answer.message()
    assert question["method"] == "elicitation/create"
    return answer, question


each_asker = pytest.mark.parametrize("method", ["tools/call", "prompts/get"])


@each_asker
async def test_an_answer_is_taken_at_another_replica_once(
    journal: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with fleet_of([asking_tools().mcp] * 2, journal, SETTINGS) as fleet:
        session = await Session.open(fleet[0], capabilities=ELICITS)
        answer, question = await asked(session, method)
        session.wire = fleet[1]
        result = {"action": "accept", "content": {"name": "Ada"}}
        assert (await session.reply(question, result)).status == 202
        monkeypatch.setattr(messages_2025, "CATCH_UP_TIMEOUT", 0.1)
        for _ in range(2):
            assert (await session.reply(question, result)).status == 400
        assert "Hello Ada" in json.dumps((await answer.rest())[-1])
        assert (await session.reply(question, result)).status == 400


async def stored(fleet: Fleet) -> dict[str, int]:
    """What other processes can write into, and how much there is in it."""
    journal = fleet[0].app.journal
    names = [name for kind in ("orders/", "inbox/", "questions/") for name in await
             journal.streams(kind)]  # fmt: skip
    heads = await journal.head_of_each(names)
    return {name: head.last for name, head in heads.items()}


@each_asker
async def test_an_answer_that_nobody_waits_for_is_stored_nowhere(
    journal: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its id begins with the tag of a process: no stranger is to learn whether that lives."""
    async with fleet_of([asking_tools().mcp] * 2, journal, SETTINGS) as fleet:
        session = await Session.open(fleet[0], capabilities=ELICITS)
        answer, question = await asked(session, method)
        stranger = await Session.open(fleet[1], capabilities=ELICITS)
        tag, other = fleet[0].app.engine.lease.tag, "deadbeef"
        # It is told before it is stored.
        before = await until_seen(lambda: stored(fleet), lambda seen: "questions/" in str(seen))
        large = {"action": "accept", "content": {"name": "x" * 1_000_000}}
        session.wire = fleet[1]
        with monkeypatch.context() as soon:
            soon.setattr(messages_2025, "CATCH_UP_TIMEOUT", 0.1)
            for identity in (f"{tag}{'A' * 32}.1", f"{other}{'A' * 32}.1", question["id"]):
                assert (await stranger.reply({"id": identity}, large)).status == 400, identity
            for identity in (f"{question['id']}0", question["id"].rpartition(".")[0]):
                assert (await session.reply({"id": identity}, large)).status == 400, identity
        assert await stored(fleet) == before
        assert (await session.reply(question, {"action": "decline"})).status == 202
        assert "decline" in json.dumps((await answer.rest())[-1])


async def test_the_questions_of_a_run_are_closed_with_it(journal: str) -> None:
    async with fleet_of([asking_tools().mcp] * 2, journal, SETTINGS) as fleet:
        session = await Session.open(fleet[0], capabilities=ELICITS)
        answer, question = await asked(session, "tools/call")
        assert (await session.reply(question, {"action": "decline"})).status == 202
        await answer.rest()
        shared = fleet[0].app.journal

        async def are_closed() -> bool:
            return not await shared.streams("questions/", unfinished=True)

        await until_told(are_closed)
        (questions,) = await shared.streams("questions/")
        kinds = [type(entry.event) for entry in await shared.read_all_kept(questions)]
        # That it was answered may be stored, where the run took longer to end than that took.
        assert [kind for kind in kinds if kind is not InputReceived] == [
            InputRequested,
            InboxClosed,
        ]


async def test_the_questions_of_a_process_that_died_are_closed(journal: str) -> None:
    """Of a prompt there is no run in the journal that could tell."""
    owner, name = f"{'o' * 16}.{'s' * 16}", f"deadbeef{'x' * 32}"
    async with open_journal(journal) as dead:
        await dead.append_shared(f"questions/{owner}/{name}", InputRequested(f"{name}.1", "x"))
        await dead.append_shared("process/deadbeef", InputRequested("x", "x"))
    settings = Settings(lease=1.0)
    async with fleet_of([asking_tools().mcp], journal, settings), open_journal(journal) as reader:

        async def are_closed() -> bool:
            return not await reader.streams("questions/", unfinished=True)

        await until_told(are_closed)


async def test_a_flood_of_answers_to_a_task_takes_nothing_from_it(journal: str) -> None:
    """Who may answer can send as much as a body holds, and the beginning of an inbox may go."""
    tools = asking_tools(known_server())
    settings = Settings(progress_rate=0, retention=Retention(stream_bytes=20_000))
    tasks = {"extensions": {"io.modelcontextprotocol/tasks": {}}}
    async with fleet_of([tools.mcp] * 2, journal, settings) as fleet:
        alice = KnownModern(fleet[0], "alice", tasks)
        task = (await (await alice.call("task")).outcome())["result"]["taskId"]
        run = fleet[0].app.engine.runs[task]
        for number in range(10):
            large = InputAnswered(f"{task}.{number}", encode_json("x" * 5000))
            await fleet[1].app.journal.append_shared(inbox_stream(run.stream), large)
        for replica in fleet.replicas:
            alice.wire = replica
            found = await (await alice.request("tasks/get", {"taskId": task})).outcome()
            assert found["result"]["status"] == "working"
        await alice.request("tasks/cancel", {"taskId": task})
        await until(lambda: run.ended)


async def test_in_one_process_an_answer_to_nobody_is_refused() -> None:
    async with served(asking_tools().mcp, settings=SETTINGS) as wire:
        session = await Session.open(wire, capabilities=ELICITS)
        tag = wire.app.engine.lease.tag
        for identity in (f"{tag}{'A' * 32}.1", "x"):
            refused = await session.reply({"id": identity}, {"action": "accept"})
            assert refused.status == 400
        answer, question = await asked(session, "tools/call")
        assert (await session.reply(question, {"action": "decline"})).status == 202
        assert text_of((await answer.rest())[-1]) == "decline"
