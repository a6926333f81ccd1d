"""What breaks in the field, from end to end, where no other test has the whole of it."""

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from tests.chaos.ledger import VARIABLE
from tests.kit.keys import keyed_call
from tests.kit.peers import Modern, Session, Wire, connect, each_era, served, text_of
from tests.kit.tools import GatedTools
from tests.tools.sources import Fixed, Hanging, Raising

from headway import Headway, Settings
from headway.clock import Clock
from headway.testing import Manner, Proxy, ServerProcess
from headway.tools.search.sources import SourceFailed
from headway.tools.search.tool import SearchTool

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def two(tmp_path: Path) -> AsyncGenerator[tuple[GatedTools, Wire, GatedTools, Wire]]:
    """Two servers with the same tools on one journal file."""
    one, other = (GatedTools(give_part={"detached": True}) for _ in range(2))
    options: dict[str, Any] = {"journal": f"sqlite:///{tmp_path / 'j.db'}", "clock": Clock()}
    async with served(one.mcp, **options) as here, served(other.mcp, **options) as there:
        yield one, here, other, there


@each_era
async def test_a_call_that_is_cut_is_sent_again_to_another_process_and_done_once(
    era: str, tmp_path: Path
) -> None:
    async with two(tmp_path) as (tools, here, other, there):
        answer = await keyed_call(await connect(here, era), "give_part", "k", token="t")
        await answer.message()
        answer.cut()
        again = await keyed_call(await connect(there, era), "give_part", "k", id="again", token="u")
        said = await again.message()
        assert (said["params"]["progressToken"], said["params"]["progress"]) == ("u", 1)
        tools.gate.open()
        assert text_of((await again.rest())[-1]) == "run 1"
        assert (tools.runs, other.runs, tools.stopped) == (1, 0, 0)


@each_era
async def test_a_storm_of_repetitions_at_two_processes_is_one_call(
    era: str, tmp_path: Path
) -> None:
    async with two(tmp_path) as (tools, here, other, there):
        tools.gate.open()
        other.gate.open()
        clients = [await connect(wire, era) for wire in (here, there, here, there, here)]
        answers = await asyncio.gather(
            *(keyed_call(client, "give_part", "k", id=n) for n, client in enumerate(clients, 1))
        )
        outcomes = await asyncio.gather(*(answer.outcome() for answer in answers))
        assert {text_of(outcome) for outcome in outcomes} == {"run 1"}
        assert tools.runs + other.runs == 1
        refused = await keyed_call(clients[1], "give_part", "k", {"steps": 5}, id="other")
        assert (await refused.outcome())["error"]["code"] == -32602


@each_era
async def test_a_silent_call_outlives_a_proxy_that_closes_what_is_quiet(era: str) -> None:
    """It says nothing for longer than the proxy waits; forty comments are four seconds at least."""
    mcp, release = Headway("quiet"), asyncio.Event()

    @mcp.tool()
    async def quiet() -> str:
        await release.wait()
        return "still here"

    settings = Settings(ping=0.1, commit_after=0.05)
    async with (
        served(mcp, clock=Clock(), settings=settings) as wire,
        Proxy(f"http://{wire.host}:{wire.port}/mcp", manner=Manner(idle=3.0)) as proxy,
        _reached(proxy.origin) as through,
    ):
        answer = await (await connect(through, era)).call("quiet")
        comments = 0
        while comments < 40:
            frame = await answer.frame()
            assert frame is not None, "the proxy closed it"
            comments += frame.comment is not None
        release.set()
        assert text_of(await answer.outcome()) == "still here"


@asynccontextmanager
async def _reached(origin: str) -> AsyncGenerator[Wire]:
    wire = Wire(origin, cast("Any", None), Clock())
    try:
        yield wire
    finally:
        wire.cut_all()
        await asyncio.sleep(0)  # connections are closed with the next turn


@asynccontextmanager
async def process(tmp_path: Path, journal: str) -> AsyncGenerator[tuple[ServerProcess, Wire]]:
    command = ("headway", "run", "tests.chaos.work:mcp", "--port", "{port}")
    env = {VARIABLE: str(tmp_path / "ledger"), "PYTHONPATH": str(ROOT)}
    options = [sys.executable, "-m", *command, "--journal", journal]
    async with ServerProcess(options, cwd=ROOT, env=env) as server, _reached(server.origin) as wire:
        yield server, wire


STEPS = {"job": "j", "steps": 1, "pause": 0.0}


async def test_a_session_goes_on_after_a_restart_where_there_is_a_journal(tmp_path: Path) -> None:
    journal = f"sqlite:///{tmp_path / 'j.db'}"
    async with process(tmp_path, journal) as (server, wire):
        session = await Session.open(wire)
        await server.restart()
        assert "done" in text_of(await (await session.call("plain", STEPS)).outcome())


async def test_a_session_without_a_journal_is_lost_at_a_restart_and_its_client_begins_anew(
    tmp_path: Path,
) -> None:
    async with process(tmp_path, "memory:") as (server, wire):
        session = await Session.open(wire)
        await server.restart()
        lost = await session.call("plain", STEPS)
        assert lost.status == 404
        assert "send initialize" in (await lost.json())["error"]["message"]
        healed = await Session.open(wire)
        assert "done" in text_of(await (await healed.call("plain", STEPS)).outcome())


async def test_fifty_calls_that_go_on_at_a_deploy_all_have_their_results(tmp_path: Path) -> None:
    async with process(tmp_path, f"sqlite:///{tmp_path / 'j.db'}") as (server, wire):
        clients = [await connect(wire, era) for era in ("2025", "2026") * 25]
        answers = [
            await client.call("plain", {"job": f"j{n}", "steps": 20, "pause": 0.05}, id=n, token=n)
            for n, client in enumerate(clients)
        ]
        for answer in answers:
            await answer.message()  # it is at work
        stopping = asyncio.create_task(server.terminate())
        outcomes = await asyncio.gather(*(answer.outcome() for answer in answers))
        assert [text_of(outcome).split()[1] for outcome in outcomes] == [
            f"j{n}" for n in range(len(clients))
        ]
        assert await stopping == 0


@each_era
async def test_a_search_of_five_sources_answers_at_its_deadline_with_what_there_is(
    era: str,
) -> None:
    sources = [
        Fixed("a", "one", "two"), Fixed("b", "two"), Fixed("c"),
        Raising("broken", SourceFailed("it is on holiday")), Hanging("hung"),
    ]  # fmt: skip
    mcp = Headway("s")
    mcp.add_tool(SearchTool(sources, deadline=0.5).search)
    told: dict[str, Any] = {"level": "info"} if era == "2026" else {}
    async with served(mcp, clock=Clock(), settings=Settings(progress_rate=0)) as wire:
        client = await connect(wire, era)
        params = {"name": "search", "arguments": {"query": "rain"}}
        if isinstance(client, Modern):
            answer = await client.request("tools/call", params, token="t", **told)
        else:
            answer = await client.request("tools/call", params, token="t")
        *said, last = await answer.rest()
    assert not last["result"].get("isError")
    found = [(s["source"], s["status"]) for s in last["result"]["structuredContent"]["sources"]]
    assert found == [
        ("a", "complete"), ("b", "complete"), ("c", "complete"), ("broken", "failed"),
        ("hung", "missing"),
    ]  # fmt: skip
    parts = [one["params"]["data"] for one in said if one["method"] == "notifications/message"
             and one["params"].get("logger") == "headway.part"]  # fmt: skip
    assert {part["source"] for part in parts} >= {"a", "b", "c"}
    messages = [one["params"].get("message") for one in said if "progress" in one["params"]]
    assert "a: 2 hits" in messages
