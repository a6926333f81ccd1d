"""A server that is told to stop: calls may finish, and what may is left to the next process."""

import asyncio
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from mcp.server import MCPServer
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from tests.kit.http import Answer
from tests.kit.peers import (
    Modern,
    Session,
    Wire,
    connect,
    draining,
    each_era,
    handle_of,
    no_more_grace,
    served,
    text_of,
)
from tests.kit.tools import GatedTools
from tests.kit.waits import PATIENCE, until, within

from headway import Headway, Settings, asgi, attempt, part, report
from headway.cli.server.http_server import serving
from headway.clock import Clock
from headway.events import Event
from headway.transport.sessions.session_broadcasts import SessionBroadcasts

pytestmark = pytest.mark.anyio

KEY = {"headway/idempotency-key": "k"}


async def probe(wire: Wire, path: str) -> Answer:
    return await wire.ask("GET", {}, path=path)


async def test_a_request_without_an_answer_at_the_end_of_the_grace_is_told_to_come_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A resume that waits for a storage, say."""
    has_come = asyncio.Event()

    async def waits(*_: object) -> None:
        has_come.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(SessionBroadcasts, "announce_reader", waits)
    monkeypatch.setattr("headway.cli.server.http_server.LAST_ANSWERS_TIMEOUT", 1)
    app = asgi(GatedTools("wait").mcp)
    async with asyncio.timeout(PATIENCE):
        async with serving(app, grace=0) as origin:
            wire = Wire(origin, app, Clock())
            session = await Session.open(wire)
            answer = await session.call("wait", id=1, token=1)
            await answer.message()
            answer.cut()
            asking = asyncio.create_task(session.get(answer.ids[-1]))
            await has_come.wait()
        refused = await asking
        assert (refused.status, refused.headers["retry-after"]) == (503, "2")
        assert "stopping" in (await refused.json())["error"]["message"]
    wire.cut_all()


@each_era
async def test_a_call_that_goes_on_may_finish_and_a_new_one_is_refused(era: str) -> None:
    tools = GatedTools("wait")
    async with served(tools.mcp) as wire:
        client = await connect(wire, era)
        assert (await probe(wire, "/readyz")).status == 200
        answer = await client.call("wait", id=1, token=1)
        await answer.message()
        task = await draining(wire)
        unready = await probe(wire, "/readyz")
        assert (unready.status, "retry-after" in unready.headers) == (503, True)
        assert (await probe(wire, "/healthz")).status == 200
        refused = await client.call("wait", id=2)
        assert (refused.status, "retry-after" in refused.headers) == (503, True)
        assert "stopping" in (await refused.json())["error"]["message"]
        listed = await client.request("tools/list", id=3)
        assert listed.status == 200
        tools.gate.open()
        assert text_of((await answer.rest())[-1]) == "run 1"
        await within(task)
        assert tools.runs == 1


@each_era
async def test_balancers_have_notice_before_anything_is_refused(era: str) -> None:
    tools = GatedTools("wait")
    async with served(tools.mcp, settings=Settings(shutdown_delay=5)) as wire:
        client = await connect(wire, era)
        task = await draining(wire)
        assert (await probe(wire, "/readyz")).status == 503
        answer = await client.call("wait", id=1, token=1)
        await answer.message()
        await wire.clock.advance(5)
        refused = await client.call("wait", id=2)
        assert refused.status == 503
        tools.gate.open()
        assert text_of((await answer.rest())[-1]) == "run 1"
        await within(task)
        assert tools.runs == 1
        services = wire.app.engine.services  # the end of the test needs no delay
        wire.app.engine.services = replace(services, settings=Settings())


@each_era
async def test_a_call_that_outlasts_the_grace_is_told_that_the_server_stopped(era: str) -> None:
    tools = GatedTools("wait")
    async with served(tools.mcp) as wire:
        client = await connect(wire, era)
        answer = await client.call("wait", token=1)
        await answer.message()
        await no_more_grace(await draining(wire))
        last = (await answer.rest())[-1]
        assert "the server stopped" in last["error"]["message"]


async def test_a_deploy_is_not_seen_by_a_client_that_comes_back(tmp_path: Path) -> None:
    """Four processes one after the other: more than may crash of one run."""
    journal = f"sqlite:///{tmp_path / 'j.db'}"
    tools = GatedTools(wait={"restart": True})
    session, last = None, ""
    for _ in range(4):
        async with served(tools.mcp, journal=journal) as wire:
            if session is None:
                session = await Session.open(wire)
                answer = await session.call("wait", id="w", token="t")
            else:
                session.wire = wire
                answer = await session.get(last)
            while tools.runs == 0 or answer.ids == []:
                await answer.frame()
            await no_more_grace(await draining(wire))
            assert [m for m in await answer.rest() if "id" in m] == []  # no answer, and no error
            last = answer.ids[-1]
    assert session is not None
    tools.gate.open()
    async with served(tools.mcp, journal=journal) as wire:
        session.wire = wire
        end = (await (await session.get(last)).rest())[-1]
    assert (end["id"], text_of(end)) == ("w", "run 5")
    assert tools.runs == 5


async def test_a_call_that_nobody_could_come_back_to_ends(tmp_path: Path) -> None:
    """At 2026-07-28 a stream is its request's life: its client is told, whatever the tool may."""
    tools = GatedTools(wait={"restart": True})
    async with served(tools.mcp, journal=f"sqlite:///{tmp_path / 'j.db'}") as wire:
        answer = await Modern(wire).call("wait", token=1)
        await answer.message()
        await no_more_grace(await draining(wire))
        assert "the server stopped" in (await answer.rest())[-1]["error"]["message"]


async def test_a_key_and_a_task_hold_across_a_deploy(tmp_path: Path) -> None:
    journal = f"sqlite:///{tmp_path / 'j.db'}"
    tools = GatedTools(wait={"restart": True})
    async with served(tools.mcp, journal=journal) as wire:
        session = await Session.open(wire)
        params = {"name": "wait", "arguments": {}, "_meta": KEY}
        created = await session.request("tools/call", {**params, "task": {}})
        task = (await created.outcome())["result"]["task"]["taskId"]
        await no_more_grace(await draining(wire))
    tools.gate.open()
    async with served(tools.mcp, journal=journal) as wire:
        session = await Session.open(wire)
        result = await (await session.request("tasks/result", {"taskId": task})).outcome()
        again = await (await session.request("tools/call", params)).outcome()
    assert (text_of(result), text_of(again)) == ("run 2", "run 2")


@each_era
async def test_a_continue_run_at_a_stop_gets_its_handle_back_and_the_result_later(
    era: str, tmp_path: Path
) -> None:
    """The server stops while `continue_run` waits for a run that goes on in the next process."""
    journal = f"sqlite:///{tmp_path / 'j.db'}"
    tools = GatedTools(wait={"restart": True, "detached": True})
    window = Settings(hand_over=20)
    async with served(tools.mcp, journal=journal, settings=window) as wire:
        client = await connect(wire, era)
        call = asyncio.create_task(client.call("wait"))
        await until(lambda: tools.runs == 1)
        await wire.clock.advance(21)
        handle = handle_of(await (await within(call)).outcome())
        again = asyncio.create_task(client.call("continue_run", {"run_id": handle}, id=2))
        await until(lambda: len(wire.app.engine.runs) == 2)
        await no_more_grace(await draining(wire))
        handle = handle_of(await (await within(again)).outcome())
    tools.gate.open()
    async with served(tools.mcp, journal=journal, settings=window) as wire:
        client.wire = wire
        last = await (await client.call("continue_run", {"run_id": handle}, id=3)).outcome()
    assert text_of(last) == "run 2"


@each_era
async def test_a_repeated_call_gets_the_same_end_when_the_server_stops(era: str) -> None:
    """The call ends with a result in the moment in which the server gives up waiting for it."""
    mcp = Headway("late")

    async def late() -> str:
        report(1, 2)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "done"
        return "never"

    mcp.add_tool(late)
    async with served(mcp) as wire:
        answers: list[Answer] = []
        for _ in range(2):
            client = await connect(wire, era)
            body = client.call_message("late", token="t")
            body["params"]["_meta"].update(KEY)
            answers.append(await client.post(body))
            await answers[-1].message()
        await no_more_grace(await draining(wire))
        ends = [(await answer.rest())[-1] for answer in answers]
        assert [text_of(end) for end in ends] == ["done", "done"]


@pytest.mark.parametrize("journal", ["memory", "sqlite"])
async def test_what_is_no_call_can_be_asked_again_elsewhere(journal: str, tmp_path: Path) -> None:
    mcp, asked = Headway("slow"), asyncio.Event()

    @mcp.resource("slow://one")
    async def one() -> str:
        asked.set()
        await asyncio.Event().wait()
        return "never"

    url = "memory:" if journal == "memory" else f"sqlite:///{tmp_path / 'j.db'}"
    async with served(mcp, journal=url) as wire:
        asking = Modern(wire).request("resources/read", {"uri": "slow://one"})
        reading = asyncio.create_task(asking)
        await within(asked.wait())
        await no_more_grace(await draining(wire))
        answer = await within(reading)
        assert (answer.status, "retry-after" in answer.headers) == (503, True)
        assert "send the request again" in (await answer.json())["error"]["message"]


async def test_a_call_that_is_being_cancelled_is_left_to_nobody(tmp_path: Path) -> None:
    mcp, begun, go = Headway("slow"), list[int](), asyncio.Event()

    async def slow() -> str:
        begun.append(attempt())
        report(1, 2)
        try:
            await asyncio.Event().wait()
        finally:
            with anyio.CancelScope(shield=True):
                await go.wait()
        return "never"

    mcp.add_tool(slow, restart=True)
    journal = f"sqlite:///{tmp_path / 'j.db'}"
    async with served(mcp, journal=journal) as wire:
        session = await Session.open(wire)
        answer = await session.call("slow", id="w", token="t")
        await answer.message()
        await session.notify("notifications/cancelled", {"requestId": "w"})
        (run,) = wire.app.engine.runs.values()
        await until(lambda: run.stop_event is not None)
        await no_more_grace(await draining(wire))
        go.set()
    async with served(mcp, journal=journal) as wire:
        assert (wire.app.engine.runs, begun) == ({}, [1])


class Held:
    """Keeps what is posted to a journal until it is let go."""

    def __init__(self, wire: Wire) -> None:
        self.go = asyncio.Event()
        self.waiting = 0
        self._post = wire.app.journal.append_shared
        wire.app.journal.append_shared = self.post

    async def post(self, stream: str, event: Event) -> int:
        self.waiting += 1
        await self.go.wait()
        return await self._post(stream, event)


@each_era
@pytest.mark.parametrize("restart", [False, True])
async def test_a_call_that_is_being_accepted_as_the_time_is_over_is_not_begun(
    era: str, restart: bool, tmp_path: Path
) -> None:
    """Its key is free: in the next process it is executed, once."""
    journal = f"sqlite:///{tmp_path / 'j.db'}"
    tools = GatedTools(wait={"restart": restart})
    tools.gate.open()
    async with served(tools.mcp, journal=journal) as wire:
        client = await connect(wire, era)
        body = client.call_message("wait", token="t")
        body["params"]["_meta"].update(KEY)
        held = Held(wire)
        call = asyncio.create_task(client.post(body))
        await until(lambda: held.waiting == 1)
        await no_more_grace(await draining(wire))
        held.go.set()
        answer = await within(call)
        assert (answer.status, "retry-after" in answer.headers) == (503, True)
        assert "stopping" in (await answer.json())["error"]["message"]
        assert (wire.app.engine.runs, tools.runs) == ({}, 0)
    async with served(tools.mcp, journal=journal) as wire:
        client.wire = wire
        assert text_of(await (await client.post(body)).outcome()) == "run 1"
    assert tools.runs == 1


@each_era
async def test_nothing_is_begun_any_more_when_the_time_is_over(era: str) -> None:
    tools = GatedTools("wait")
    async with served(tools.mcp) as wire:
        client = await connect(wire, era)
        await no_more_grace(await draining(wire))
        refused = await client.request("tools/list", id=3)
        assert (refused.status, "retry-after" in refused.headers) == (503, True)
        assert wire.app.engine.runs == {}


async def test_a_stream_that_waits_for_news_is_not_opened_by_a_server_that_stops() -> None:
    tools = GatedTools("wait")
    async with served(tools.mcp) as wire:
        session, client = await Session.open(wire), await connect(wire, "2025")
        answer = await client.call("wait", id=1, token=1)
        await answer.message()
        task = await draining(wire)
        refused = await session.get()
        assert (refused.status, "retry-after" in refused.headers) == (503, True)
        listening = await Modern(wire).request("subscriptions/listen", {"notifications": {}})
        assert (listening.status, "retry-after" in listening.headers) == (503, True)
        tools.gate.open()
        assert text_of((await answer.rest())[-1]) == "run 1"
        await within(task)


async def test_a_wait_for_a_task_is_not_told_of_an_end_at_the_end_of_the_grace(
    tmp_path: Path,
) -> None:
    tools = GatedTools(wait={"restart": True})
    async with served(tools.mcp, journal=f"sqlite:///{tmp_path / 'j.db'}") as wire:
        session = await Session.open(wire)
        params = {"name": "wait", "arguments": {}, "task": {}}
        created = await (await session.request("tools/call", params)).outcome()
        wanted = {"taskId": created["result"]["task"]["taskId"]}
        waiting = asyncio.create_task(session.request("tasks/result", wanted, id="w"))
        await until(lambda: len(wire.app.engine.runs) == 2)
        await no_more_grace(await draining(wire))
        ended = await within(waiting)
        # It may be resumed in the next process, and is not told that its task has ended.
        assert ([m for m in await ended.rest() if "id" in m], len(ended.ids)) == ([], 1)


async def test_a_server_that_leaves_its_tasks_to_the_next_one_does_not_wait_for_their_progress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = "headway.transport.sessions.registry.SESSIONS_STOP_TIMEOUT"
    monkeypatch.setattr(limit, 10 * PATIENCE)
    tools = GatedTools(wait={"restart": True})
    params = {"name": "wait", "arguments": {}, "task": {}, "_meta": {"progressToken": "t"}}
    async with asyncio.timeout(PATIENCE):
        async with served(tools.mcp, journal=f"sqlite:///{tmp_path / 'j.db'}") as wire:
            session = await Session.open(wire)
            created = await (await session.request("tools/call", params)).outcome()
            assert created["result"]["task"]["status"] == "working"
            await no_more_grace(await draining(wire))


def telling(*said: str) -> Headway:
    """A tool that says this and waits; one that is asked again says no more of it."""
    mcp = Headway("telling")

    async def tell() -> str:
        for number, word in enumerate(said if attempt() == 1 else ()):
            report(number, 2)
            part(word)
        if attempt() == 1:
            await asyncio.Event().wait()
        part("more")
        return "done"

    mcp.add_tool(tell, restart=True)
    return mcp


async def test_a_repeated_call_goes_on_across_a_deploy(tmp_path: Path) -> None:
    """A repetition is told the rest, and nothing twice."""
    journal = f"sqlite:///{tmp_path / 'j.db'}"
    mcp = telling("one", "two")
    params = {"name": "tell", "arguments": {}, "_meta": KEY}
    async with served(mcp, journal=journal) as wire:
        sessions = [await Session.open(wire) for _ in range(2)]
        answers: list[Answer] = []
        for session in sessions:
            answers.append(await session.request("tools/call", params, id="w"))
            heard = [await answers[-1].message() for _ in range(2)]
            assert [m["params"]["data"] for m in heard] == ["one", "two"]
        await no_more_grace(await draining(wire))
        for answer in answers:
            assert [m for m in await answer.rest() if "id" in m] == []
    async with served(mcp, journal=journal) as wire:
        for session, answer in zip(sessions, answers, strict=True):
            session.wire = wire
            rest = await (await session.get(answer.ids[-1])).rest()
            parts = [m["params"]["data"] for m in rest if "headway.part" in str(m)]
            assert (parts, text_of(rest[-1])) == (["more"], "done")


async def test_a_probe_of_the_servers_own_stays_its_own() -> None:
    mcp = MCPServer("own")

    @mcp.custom_route("/healthz", methods=["GET"])
    async def mine(_request: Request) -> PlainTextResponse:
        return PlainTextResponse("mine")

    async with served(mcp) as wire:
        assert await (await probe(wire, "/healthz")).body() == b"mine"
        assert await (await probe(wire, "/readyz")).body() == b"ready"
