"""Sessions that are opened and never used lock nobody out."""

from typing import Any

import pytest
from tests.kit.fleet import fleet_of
from tests.kit.fleet import journal as journal
from tests.kit.http import Answer
from tests.kit.known import connect_as, known_server
from tests.kit.peers import Session, Wire, served, text_of
from tests.kit.tools import GatedTools
from tests.kit.waits import until_told

from headway import Settings
from headway.events import Alive
from headway.testing.fake_clock import run_loop_turns

pytestmark = pytest.mark.anyio

FEW = Settings(max_sessions=3)


async def open_only(wire: Wire) -> Session:
    """A handshake, and not a word more."""
    session = Session(wire, "2025-11-25", "", {})
    said: dict[str, Any] = {"protocolVersion": "2025-11-25", "capabilities": {}}
    said["clientInfo"] = {"name": "flood", "version": "1"}
    answer = await session.request("initialize", said, id=0)
    assert answer.status == 200, await answer.body()
    session.id = answer.headers["mcp-session-id"]
    return session


async def is_answered(session: Session) -> bool:
    answer: Answer = await session.call("quick")
    if answer.status == 404:
        return False
    return text_of(await answer.outcome()) == "at once"


async def test_a_flood_of_handshakes_locks_nobody_out() -> None:
    async with served(GatedTools("wait", "quick").mcp, settings=FEW) as wire:
        flood = [await open_only(wire) for _ in range(20)]
        session = await Session.open(wire)
        assert await is_answered(session)
        assert len(wire.app.life.sessions) == 3
        assert wire.app.life.sessions.made_room["max_sessions"] == 18
        assert not await is_answered(flood[0])


async def test_those_that_were_never_used_make_room_before_those_that_were() -> None:
    async with served(GatedTools("wait", "quick").mcp, settings=FEW) as wire:
        used = [await Session.open(wire) for _ in range(2)]
        assert all([await is_answered(session) for session in used])
        for _ in range(20):
            await open_only(wire)
        assert all([await is_answered(session) for session in used])


async def test_of_those_that_were_used_the_one_that_was_longest_idle_makes_room() -> None:
    async with served(GatedTools("wait", "quick").mcp, settings=FEW) as wire:
        sessions = [await Session.open(wire) for _ in range(3)]
        for session in (*sessions, sessions[0]):
            assert await is_answered(session)
        await Session.open(wire)
        assert [await is_answered(session) for session in sessions] == [True, False, True]


async def test_who_has_a_run_or_a_stream_makes_no_room() -> None:
    tools = GatedTools("wait", "quick")
    async with served(tools.mcp, settings=FEW) as wire:
        reading, working = await Session.open(wire), await Session.open(wire)
        stream = await reading.get()
        cut = await working.call("wait", id=1, token=1)
        await cut.message()
        cut.cut()  # its run goes on
        for _ in range(10):
            await open_only(wire)
        assert await is_answered(reading)
        assert (await working.request("ping", id=99)).status == 200
        tools.gate.open()
        stream.cut()


async def test_authenticated_sessions_make_no_room_for_others() -> None:
    tools = GatedTools("wait", "quick", server=known_server())
    async with served(tools.mcp, settings=FEW) as wire:
        sessions = [await connect_as(wire, "2025", name) for name in ("alice", "bob", "carol")]
        with pytest.raises(AssertionError, match="max_sessions"):
            await connect_as(wire, "2025", "mallory")
        for session in sessions:
            assert isinstance(session, Session)
            assert await is_answered(session)


@pytest.mark.parametrize("says", ["nothing", "ready", "a request"])
async def test_one_whose_client_is_never_ready_is_forgotten_after_a_minute(says: str) -> None:
    async with served(GatedTools("wait", "quick").mcp) as wire:
        session = await open_only(wire)
        if says == "ready":
            await session.notify("notifications/initialized")
        if says == "a request":
            assert await is_answered(session)
        await wire.clock.advance(30, step=10)
        assert len(wire.app.life.sessions) == 1
        await wire.clock.advance(90, step=10)
        assert len(wire.app.life.sessions) == (0 if says == "nothing" else 1)
        assert await is_answered(session) == (says != "nothing")


# Replicas


async def closed(wire: Wire, session_tag: str) -> bool:
    head = await wire.app.journal.head(f"session/{session_tag}")
    return head is None or head.ended


async def test_one_that_makes_room_is_closed_for_all_replicas(journal: str) -> None:
    async with fleet_of([GatedTools("wait", "quick").mcp] * 2, journal, FEW) as fleet:
        victim = await open_only(fleet[0])
        tag = fleet[0].app.life.sessions.known[victim.id].tag
        for _ in range(3):
            await open_only(fleet[0])

        async def is_closed() -> bool:
            return await closed(fleet[0], tag)

        await until_told(is_closed)
        victim.wire = fleet[1]
        assert not await is_answered(victim)


async def test_one_that_another_replica_serves_is_only_let_go_of(journal: str) -> None:
    async with fleet_of([GatedTools("wait", "quick").mcp] * 2, journal, FEW) as fleet:
        session = await open_only(fleet[0])
        inside = fleet[0].app.life.sessions.known[session.id]
        session.wire = fleet[1]
        assert await is_answered(session)

        async def is_known() -> bool:
            kept = await fleet[0].app.journal.read_all_kept(inside.stream)
            return any(isinstance(entry.event, Alive) for entry in kept)

        await until_told(is_known)
        for _ in range(5):
            await open_only(fleet[0])
        assert session.id not in fleet[0].app.life.sessions.known
        await run_loop_turns()
        for replica in (fleet[1], fleet[0], fleet[1]):
            session.wire = replica
            assert await is_answered(session)
        assert not await closed(fleet[0], inside.tag)
