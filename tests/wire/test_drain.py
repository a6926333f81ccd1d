"""A server that is told to stop: calls may finish, and what may is left to the next process."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from mcp.server import MCPServer
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from tests.wire.client import Answer, within
from tests.wire.peers import Modern, Session, Wire, connect, each_era, served, text_of

from headway import Headway, report
from headway.testing.clock import turns

pytestmark = pytest.mark.anyio


class Work:
    """A tool that waits until it is told to go on."""

    def __init__(self, **options: Any) -> None:
        self.go = asyncio.Event()
        self.runs = 0
        self.mcp = Headway("work")
        self.mcp.add_tool(self.slow, **options)

    async def slow(self) -> str:
        self.runs += 1
        report(1, 2, "half")
        await self.go.wait()
        return "done"


async def probe(wire: Wire, path: str) -> Answer:
    return await wire.ask("GET", {}, path=path)


async def draining(wire: Wire) -> "asyncio.Task[None]":
    """The app, told to stop."""
    task = asyncio.create_task(wire.app.drain())
    await turns()
    return task


async def no_more_grace(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@each_era
async def test_a_call_that_goes_on_may_finish_and_a_new_one_is_refused(era: str) -> None:
    work = Work()
    async with served(work.mcp) as wire:
        client = await connect(wire, era)
        assert (await probe(wire, "/readyz")).status == 200
        answer = await client.call("slow", id=1, token=1)
        await answer.message()
        task = await draining(wire)
        unready = await probe(wire, "/readyz")
        assert (unready.status, "retry-after" in unready.headers) == (503, True)
        assert (await probe(wire, "/healthz")).status == 200
        refused = await client.call("slow", id=2)
        assert (refused.status, "retry-after" in refused.headers) == (503, True)
        assert "stopping" in (await refused.json())["error"]["message"]
        listed = await client.request("tools/list", id=3)
        assert listed.status == 200
        work.go.set()
        assert text_of((await answer.rest())[-1]) == "done"
        await within(task)
        assert work.runs == 1


@each_era
async def test_whoever_takes_too_long_is_told_that_the_server_stopped(era: str) -> None:
    work = Work()
    async with served(work.mcp) as wire:
        client = await connect(wire, era)
        answer = await client.call("slow", token=1)
        await answer.message()
        await no_more_grace(await draining(wire))
        last = (await answer.rest())[-1]
        assert "the server stopped" in last["error"]["message"]


async def test_a_deploy_is_not_seen_by_a_client_that_comes_back(tmp_path: Path) -> None:
    """Four processes one after the other: more than may crash of one run."""
    journal = f"sqlite:///{tmp_path / 'j.db'}"
    work = Work(restart=True)
    session, last = None, ""
    for _ in range(4):
        async with served(work.mcp, journal=journal) as wire:
            if session is None:
                session = await Session.open(wire)
                answer = await session.call("slow", id="w", token="t")
            else:
                session.wire = wire
                answer = await session.get(last)
            while work.runs == 0 or answer.ids == []:
                await answer.frame()
            await no_more_grace(await draining(wire))
            assert [m for m in await answer.rest() if "id" in m] == []  # no answer, and no error
            last = answer.ids[-1]
    assert session is not None
    work.go.set()
    async with served(work.mcp, journal=journal) as wire:
        session.wire = wire
        end = (await (await session.get(last)).rest())[-1]
    assert (end["id"], text_of(end)) == ("w", "done")
    assert work.runs == 5


async def test_a_call_that_nobody_could_come_back_to_ends(tmp_path: Path) -> None:
    """At 2026-07-28 a stream is its request's life: its client is told, whatever the tool may."""
    work = Work(restart=True)
    async with served(work.mcp, journal=f"sqlite:///{tmp_path / 'j.db'}") as wire:
        answer = await Modern(wire).call("slow", token=1)
        await answer.message()
        await no_more_grace(await draining(wire))
        assert "the server stopped" in (await answer.rest())[-1]["error"]["message"]


async def test_a_key_and_a_task_hold_across_a_deploy(tmp_path: Path) -> None:
    journal = f"sqlite:///{tmp_path / 'j.db'}"
    work = Work(restart=True)
    async with served(work.mcp, journal=journal) as wire:
        session = await Session.open(wire)
        params = {"name": "slow", "arguments": {}, "_meta": {"headway/idempotency-key": "k"}}
        created = await session.request("tools/call", {**params, "task": {}})
        task = (await created.outcome())["result"]["task"]["taskId"]
        await no_more_grace(await draining(wire))
    work.go.set()
    async with served(work.mcp, journal=journal) as wire:
        session = await Session.open(wire)
        result = await (await session.request("tasks/result", {"taskId": task})).outcome()
        again = await (await session.request("tools/call", params)).outcome()
    assert (text_of(result), text_of(again)) == ("done", "done")


async def test_a_probe_of_the_servers_own_stays_its_own() -> None:
    mcp = MCPServer("own")

    @mcp.custom_route("/healthz", methods=["GET"])
    async def mine(_request: Request) -> PlainTextResponse:
        return PlainTextResponse("mine")

    async with served(mcp) as wire:
        assert await (await probe(wire, "/healthz")).body() == b"mine"
        assert await (await probe(wire, "/readyz")).body() == b"ready"
