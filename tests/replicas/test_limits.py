"""What one caller may have open is counted over all replicas of a journal."""

import asyncio
import json
from typing import Any

import pytest
from tests.kit.auth import bearer, guarded_tools
from tests.kit.fleet import Fleet, fleet_of
from tests.kit.http import Answer
from tests.kit.peers import Modern, Session, Wire, each_era, text_of
from tests.kit.waits import PATIENCE, until
from tests.replicas.tools import replica_tools

from headway import Settings
from headway.errors import JournalUnavailable
from headway.events import Accepted, Alive
from headway.journal import global_count
from headway.stream_names import new_call_id, process_stream

pytestmark = pytest.mark.anyio

LIMITS = Settings(progress_rate=0, max_runs_each=2, max_sessions_each=2)
ROOMY = Settings(progress_rate=0, max_runs_each=2)

INITIALIZE = {
    "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {},
        "clientInfo": {"name": "t", "version": "1"},
    },
}  # fmt: skip


async def call(wire: Wire, era: str, who: str, tool: str) -> Answer:
    if era == "2025":
        session = await Session.open(wire, extra=bearer(f"{who}:1"))
        return await session.call(tool, token=1)
    modern = Modern(wire)
    return await modern.post(modern.call_message(tool, token=1), bearer(f"{who}:1"))


async def going_on(wire: Wire, era: str, who: str, count: int = 1) -> list[Answer]:
    """Calls that a replica has begun, and stored."""
    answers = [await call(wire, era, who, "wait") for _ in range(count)]
    for answer in answers:
        await answer.message()
    for run in list(wire.app.engine.runs.values()):
        await wire.app.journal.wait_until_stored(run.stream)
    return answers


async def refusal(answer: Answer) -> tuple[int, str, str]:
    assert answer.status == 503, await answer.body()
    error = (await answer.json())["error"]
    return answer.status, error["data"]["limit"], error["message"]


async def let_in(fleet: Fleet, era: str, who: str) -> None:
    """Return when every replica answers a call of this caller."""
    for wire in fleet.replicas:
        assert text_of(await (await call(wire, era, who, "whoami")).outcome()) == who


@each_era
async def test_a_callers_runs_are_counted_wherever_they_are(journal: str, era: str) -> None:
    servers = [guarded_tools() for _ in range(2)]
    async with fleet_of([one.mcp for one in servers], journal, ROOMY) as fleet:
        other = "2026" if era == "2025" else "2025"
        running = [
            *await going_on(fleet[0], era, "alice"),
            *await going_on(fleet[1], other, "alice"),
        ]
        for wire in fleet.replicas:
            status, limit, text = await refusal(await call(wire, era, "alice", "whoami"))
            assert (status, limit) == (503, "max_runs_each")
            assert "2 of your calls are running or waiting (max_runs_each)" in text
        await let_in(fleet, era, "mallory")
        servers[0].gate.open()
        await running[0].rest()
        await let_in(fleet, era, "alice")
        servers[1].gate.open()
        await running[1].rest()
        assert not any(wire.app.engine.admission.of_callers for wire in fleet.replicas)


async def test_a_call_with_a_key_counts_like_any_other(journal: str) -> None:
    tools = guarded_tools()
    async with fleet_of([tools.mcp, guarded_tools().mcp], journal, ROOMY) as fleet:
        running = await going_on(fleet[0], "2026", "alice", 2)
        modern = Modern(fleet[1])
        body = modern.call_message("whoami")
        body["params"]["_meta"]["headway/idempotency-key"] = "k"
        assert (await refusal(await modern.post(body, bearer("alice:1"))))[1] == "max_runs_each"
        tools.gate.open()
        for answer in running:
            await answer.rest()
        assert text_of(await (await modern.post(body, bearer("alice:1"))).outcome()) == "alice"


async def test_a_request_that_is_sent_twice_at_once_is_still_one(journal: str) -> None:
    tools = guarded_tools()
    async with fleet_of([tools.mcp], journal) as fleet:
        session = await Session.open(fleet[0], extra=bearer("alice:1"))
        message = session.call_message("wait", id=7, token=1)
        sent = [await session.send(message) for _ in range(2)]
        runs = fleet[0].app.engine.runs
        await until(lambda: any(run.request.target == "wait" for run in runs.values()))
        assert (await session.request("ping")).status == 200  # behind both
        assert [run.request.target for run in runs.values()] == ["wait"]
        tools.gate.open()
        answers = [await connection.answer() for connection in sent]
        said = [message for answer in answers for message in await answer.rest()]
        assert [text_of(one) for one in said if "result" in one] == ["run 1"]


async def test_callers_whom_nobody_knows_are_not_counted(journal: str) -> None:
    some = replica_tools(2)
    settings = Settings(progress_rate=0, max_runs_each=1, max_sessions_each=1)
    async with fleet_of([tools.mcp for tools in some], journal, settings) as fleet:
        session = [await Session.open(wire) for wire in fleet.replicas]
        running = [await one.call("step", {"steps": 1}, token=1) for one in session]
        assert text_of(await (await session[1].call("quick")).outcome()) == "at once"
        some[0].gate.let_pass(2)
        for answer in running:
            await answer.rest()


@each_era
async def test_the_runs_of_a_dead_process_count_until_its_lease_is_over(
    journal: str, era: str
) -> None:
    tools = guarded_tools()
    settings = Settings(progress_rate=0, max_runs_each=1, lease=5)
    async with fleet_of([tools.mcp, guarded_tools().mcp], journal, settings) as fleet:
        running = await going_on(fleet[0], era, "alice")
        stored = fleet[0].app.journal
        (name,) = await stored.streams("run/", unfinished=True)
        # What a process leaves that was killed: a sign of life, and a run.
        await stored.append(process_stream("deadbeef"), [Alive()], after=0)
        left = f"{name.rpartition('/')[0]}/deadbeef{new_call_id()}"
        await stored.append(left, [Accepted("tools/call", "wait")], after=0)
        tools.gate.open()
        await running[0].rest()
        assert (await refusal(await call(fleet[1], era, "alice", "whoami")))[0] == 503
        async with asyncio.timeout(PATIENCE):
            async for _ in fleet[1].app.journal.follow(left):
                pass
        await let_in(fleet, era, "alice")


@each_era
async def test_when_the_journal_does_not_say_each_process_counts_its_own(
    journal: str, era: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers = [guarded_tools() for _ in range(2)]
    async with fleet_of([one.mcp for one in servers], journal, ROOMY) as fleet:
        running = await going_on(fleet[0], era, "alice", 2)
        with monkeypatch.context() as slow:
            slow.setattr(global_count, "COUNT_TIMEOUT", 0)
            running += await going_on(fleet[1], era, "alice", 2)
            assert (await refusal(await call(fleet[1], era, "alice", "whoami")))[0] == 503
        for one in servers:
            one.gate.open()
        for answer in running:
            await answer.rest()
        await let_in(fleet, era, "alice")


# Sessions


async def initialize(wire: Wire, who: str) -> Answer:
    session = Session(wire, "2025-11-25", "", bearer(f"{who}:1"))
    headers = session.headers()
    return await wire.ask("POST", headers, json.dumps(INITIALIZE).encode())


async def test_a_callers_sessions_are_counted_wherever_they_were_opened(journal: str) -> None:
    servers: list[Any] = [guarded_tools().mcp for _ in range(2)]
    async with fleet_of(servers, journal, LIMITS) as fleet:
        first, second = [
            await Session.open(wire, extra=bearer("alice:1")) for wire in fleet.replicas
        ]
        for wire in fleet.replicas:
            status, limit, text = await refusal(await initialize(wire, "alice"))
            assert (status, limit) == (503, "max_sessions_each")
            assert "2 of your sessions are open" in text
            await Session.open(wire, extra=bearer("mallory:1"))
        # The replica that serves the next one knows the closed one too, and not yet that it is.
        first.wire, second.wire = fleet[1], fleet[0]
        for session in (first, second):
            assert (await session.request("ping")).status == 200
        assert (await first.delete()).status == 200
        again = await Session.open(fleet[0], extra=bearer("alice:2"))
        assert (await refusal(await initialize(fleet[1], "alice")))[0] == 503
        assert (await again.request("ping")).status == 200
        assert (await first.request("ping")).status == 404


async def test_what_comes_at_once_is_counted_before_it_is_stored(journal: str) -> None:
    tools = guarded_tools()
    async with fleet_of([tools.mcp], journal, LIMITS) as fleet:
        (wire,) = fleet.replicas
        opened = await asyncio.gather(*(initialize(wire, "alice") for _ in range(5)))
        assert sorted(answer.status for answer in opened) == [200, 200, 503, 503, 503]
        calls = await asyncio.gather(*(call(wire, "2026", "alice", "wait") for _ in range(5)))
        assert sorted(answer.status for answer in calls) == [200, 200, 503, 503, 503]
        tools.gate.open()
        for answer in calls:
            await answer.body()


async def test_an_id_of_somebody_elses_session_is_unknown_to_every_replica(journal: str) -> None:
    servers: list[Any] = [guarded_tools().mcp for _ in range(2)]
    async with fleet_of(servers, journal) as fleet:
        session = await Session.open(fleet[0], extra=bearer("alice:1"))
        thief = Session(fleet[0], session.version, session.id, bearer("mallory:1"))
        unknown = Session(fleet[0], session.version, "x" * 32, bearer("mallory:1"))
        for wire in fleet.replicas:
            thief.wire = unknown.wire = wire
            refused = [await one.request("ping", id=1) for one in (thief, unknown)]
            assert [answer.status for answer in refused] == [404, 404]
            assert await refused[0].body() == await refused[1].body()
        session.wire = fleet[1]
        assert (await session.request("ping")).status == 200


@each_era
async def test_a_callers_calls_are_counted_wherever_they_come(journal: str, era: str) -> None:
    settings = Settings(calls_each="3/h", calls_of_tools=(("whoami", "2/h"),))
    async with fleet_of([guarded_tools().mcp for _ in range(2)], journal, settings) as fleet:

        async def status(replica: int, who: str, tool: str = "whoami") -> int:
            answer = await call(fleet[replica], era, who, tool)
            if answer.status == 429:
                assert (await answer.json())["error"]["data"] == {"limit": "calls_each"}
                assert 0 < int(answer.headers["retry-after"]) <= 3600
            return answer.status

        assert [await status(replica, "alice") for replica in (0, 1, 0, 1)] == [200, 200, 429, 429]
        assert [await status(replica, "mallory") for replica in (1, 0, 1)] == [200, 200, 429]
        (waiting,) = await going_on(fleet[1], era, "alice")
        assert await status(0, "alice", "wait") == 429
        del waiting


async def test_rates_hold_for_each_process_where_the_journal_does_not_answer(
    journal: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(calls_each="2/h")
    async with fleet_of([guarded_tools().mcp for _ in range(2)], journal, settings) as fleet:
        asked: list[int] = []

        async def never(*_: object) -> float:
            asked.append(1)
            await until(lambda: len(asked) % 5 == 0)  # all ask before the first one is told
            raise JournalUnavailable("it is away")

        for wire in fleet.replicas:
            monkeypatch.setattr(wire.app.journal.rates, "_take_one", never)
        for wire in fleet.replicas:
            calls = (call(wire, "2026", "alice", "whoami") for _ in range(5))
            found = [answer.status for answer in await asyncio.gather(*calls)]
            assert sorted(found) == [200, 200, 429, 429, 429]
    assert "what other processes let in is not counted: it is away" in caplog.text
