"""2025 eras: a cut is not a cancel, and who comes back gets exactly the rest."""

import asyncio
import base64
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.subscriptions import ResourceUpdated, ToolsListChanged
from tests.kit.http import Answer
from tests.kit.peers import VERSIONS, Session, progress_of, served, text_of
from tests.kit.tools import GatedTools
from tests.kit.waits import until

from headway import Settings, log
from headway.clock import Clock
from headway.journal import open_journal
from headway.settings import Retention
from headway.stream_names import session_tag
from headway.testing import FakeClock

pytestmark = pytest.mark.anyio

EVERY_REPORT = Settings(progress_rate=0)


async def read(answer: Answer, count: int) -> list[dict[str, Any]]:
    return [await answer.message() for _ in range(count)]


@pytest.mark.requirement("http.cut.goes-on", era="2025")
@pytest.mark.parametrize("version", VERSIONS)
async def test_a_cut_call_is_resumed_with_exactly_the_rest_and_its_result(version: str) -> None:
    tools = GatedTools("step")
    async with served(tools.mcp, settings=EVERY_REPORT) as wire:
        session = await Session.open(wire, version)
        tools.gate.let_pass(4)
        answer = await session.call("step", {"steps": 9}, id="w", token="t")
        assert progress_of(await read(answer, 4)) == [1, 2, 3, 4]
        answer.cut()
        tools.gate.let_pass(2)  # while nobody listens
        resumed = await session.get(answer.ids[-1])
        assert resumed.status == 200
        assert progress_of(await read(resumed, 2)) == [5, 6]
        tools.gate.let_pass(3)
        messages = await resumed.rest()
        assert progress_of(messages) == [7, 8, 9]
        assert (messages[-1]["id"], text_of(messages[-1])) == ("w", "run 1")
        assert tools.runs == 1


async def test_a_second_cut_with_nothing_in_between_loses_and_repeats_nothing() -> None:
    tools = GatedTools("step")
    async with served(tools.mcp, settings=EVERY_REPORT) as wire:
        session = await Session.open(wire)
        tools.gate.let_pass(2)
        answer = await session.call("step", {"steps": 3}, token="t")
        await read(answer, 2)
        cursor = answer.ids[-1]
        for _ in range(3):
            answer.cut()
            answer = await session.get(cursor)
            primed = await answer.frame()
            assert primed is not None
            assert (primed.id, primed.data, primed.retry) == (cursor, "", 6000)
        tools.gate.let_pass()
        messages = await answer.rest()
        assert progress_of(messages) == [3]
        assert text_of(messages[-1]) == "run 1"


async def test_a_call_cut_before_its_first_message_is_resumed_from_the_priming_event() -> None:
    tools = GatedTools("step")
    async with served(tools.mcp) as wire:
        session = await Session.open(wire)
        answer = await session.call("step", {"steps": 1}, token="t")
        primed = await answer.frame()
        assert primed is not None
        answer.cut()
        tools.gate.let_pass()
        await until(lambda: tools.ended)
        messages = await (await session.get(primed.id)).rest()
        assert progress_of(messages) == [1]
        assert text_of(messages[-1]) == "run 1"


@pytest.mark.requirement("http.get.no-response", era="2025")
async def test_a_result_can_be_replayed_as_often_as_wanted_until_it_expires() -> None:
    tools = GatedTools("step")
    clock = FakeClock()
    journal = open_journal("memory:", retention=Retention(ttl=100), clock=clock)
    async with served(tools.mcp, clock=clock, journal=journal, settings=EVERY_REPORT) as wire:
        session = await Session.open(wire)
        tools.gate.let_pass(3)
        answer = await session.call("step", {"steps": 3}, token="t")
        whole = await answer.rest()
        frames = list(answer.ids)
        for _ in range(3):
            again = await session.get(frames[0])
            assert await again.rest() == whole
            assert again.ids == frames
        last = await session.get(frames[-1])
        assert await last.rest() == []
        await clock.advance(200)
        expired = await session.get(frames[0])
        assert expired.status == 400
        assert "expired" in (await expired.json())["error"]["message"]


async def test_a_cut_after_the_result_was_written_but_before_it_was_read() -> None:
    tools = GatedTools("step")
    async with served(tools.mcp, settings=EVERY_REPORT) as wire:
        session = await Session.open(wire)
        tools.gate.let_pass()
        answer = await session.call("step", {"steps": 2}, token="t")
        await read(answer, 1)
        tools.gate.let_pass()
        await until(lambda: tools.ended)
        await answer.peek()
        answer.cut()
        messages = await (await session.get(answer.ids[-1])).rest()
        assert progress_of(messages) == [2]
        assert text_of(messages[-1]) == "run 1"


@pytest.mark.requirement("http.post.related", "http.event-id.unique", "http.replay.own", era="2025")
async def test_two_sessions_with_the_same_request_id_never_see_each_others_events() -> None:
    go = asyncio.Event()
    mcp = MCPServer("s")

    @mcp.tool()
    async def work(owner: str, ctx: Context[Any, Any]) -> str:
        await ctx.report_progress(1, 2, owner)
        await go.wait()
        return owner

    async with served(mcp) as wire:
        sessions = {name: await Session.open(wire) for name in ("alice", "mallory")}
        cursors: dict[str, str] = {}
        for name, session in sessions.items():
            answer = await session.call("work", {"owner": name}, id=1, token="t")
            assert (await answer.message())["params"]["message"] == name
            cursors[name] = answer.ids[-1]
            answer.cut()
        go.set()
        for name, foreign in (("alice", "mallory"), ("mallory", "alice")):
            refused = await sessions[name].get(cursors[foreign])
            assert refused.status == 400
            body = await refused.body()
            assert b"names no event of this session" in body
            assert foreign.encode() not in body
            messages = await (await sessions[name].get(cursors[name])).rest()
            assert progress_of(messages) == [2]
            assert text_of(messages[-1]) == name


@pytest.mark.requirement("http.replay.own", era="2025")
async def test_event_ids_that_are_not_this_sessions_are_refused(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tools = GatedTools("step")
    async with served(tools.mcp) as wire:
        session, other = await Session.open(wire), await Session.open(wire)
        answer = await session.call("step", {"steps": 1}, token="t")
        await answer.frame()
        own = await other.get()
        await own.frame()
        run, address, _ = answer.ids[0].split(".")
        get, tag, _ = own.ids[0].split(".")
        deep = base64.urlsafe_b64encode(b"[" * 3000).decode()
        ids = [
            "x", "1", "..", "a.b.c", "get.x.1", f"get.{tag}.0", f"{get}.{tag}.1",
            f"{run}.{address}.-1", f"{run}.{address}.x", f"{run}.{address}.99", f"{run}.!!.0",
            f"{run}.{address}.{'9' * 30}", f"{run}.{deep}.0", f"{run}.bnVsbA.0",
            f"nosuchrun.{address}.0", f"../{run}.{address}.0", "x" * 9000, "caf\xe9",
            f"{run}.{address}", f"{run}.WzEsW11d.0", f"{run}.{address}.\xb2",
        ]  # fmt: skip
        with caplog.at_level(logging.INFO):
            for event_id in ids:
                refused = await session.get(event_id)
                assert refused.status == 400, event_id
                assert "Last-Event-ID" in (await refused.json())["error"]["message"]
        assert not [record for record in caplog.records if record.exc_info]
        tools.gate.let_pass()
        assert text_of((await answer.rest())[-1]) == "run 1"


@pytest.mark.requirement("http.one-stream", era="2025")
async def test_a_resumed_stream_takes_over_from_the_reader_that_is_still_open() -> None:
    tools = GatedTools("step")
    async with served(tools.mcp, settings=EVERY_REPORT) as wire:
        session = await Session.open(wire)
        tools.gate.let_pass()
        first = await session.call("step", {"steps": 2}, token="t")
        await read(first, 1)
        second = await session.get(first.ids[-1])
        assert await first.rest() == []
        tools.gate.let_pass()
        assert progress_of(await second.rest()) == [2]


TOKENS: list[str | int] = [
    0, -1, 2**63 - 1, -(2**53), "", " ", "1", "a.b.c", "\n\r\0", "\u2028\u2029\u0085", '"}\\',
    "é😀", "x" * 512, "😀" * 512, "\x01" * 512,
]  # fmt: skip


@pytest.mark.parametrize("token", TOKENS, ids=lambda token: ascii(token)[:20])
async def test_resumed_progress_keeps_its_token_and_the_answer_its_id(token: str | int) -> None:
    tools = GatedTools("step")
    async with served(tools.mcp, settings=EVERY_REPORT) as wire:
        session = await Session.open(wire)
        tools.gate.let_pass()
        answer = await session.call("step", {"steps": 2}, id=token, token=token)
        (before,) = await read(answer, 1)
        answer.cut()
        tools.gate.let_pass()
        after, outcome = await (await session.get(answer.ids[-1])).rest()
        for message in (before, after):
            found = message["params"]["progressToken"]
            assert (found, type(found)) == (token, type(token))
        assert (outcome["id"], type(outcome["id"])) == (token, type(token))


@pytest.mark.requirement("http.event-id.stream", era="2025")
async def test_a_call_is_resumed_on_another_replica_with_the_same_journal(tmp_path: Path) -> None:
    tools, idle = GatedTools("step"), GatedTools("step")
    options: dict[str, Any] = {
        "journal": f"sqlite:///{tmp_path / 'j.db'}", "clock": Clock(), "settings": EVERY_REPORT,
    }  # fmt: skip
    async with served(tools.mcp, **options) as wire, served(idle.mcp, **options) as replica:
        session = await Session.open(wire)
        tools.gate.let_pass(2)
        answer = await session.call("step", {"steps": 3}, id="w", token="t")
        assert progress_of(await read(answer, 2)) == [1, 2]
        answer.cut()
        session.wire = replica
        stranger = await Session.open(replica)
        assert (await stranger.get(answer.ids[-1])).status == 400
        resumed = await session.get(answer.ids[-2])
        assert progress_of(await read(resumed, 1)) == [2]
        tools.gate.let_pass()
        messages = await resumed.rest()
        assert progress_of(messages) == [3]
        assert (messages[-1]["id"], text_of(messages[-1])) == ("w", "run 1")
        assert (tools.runs, idle.runs) == (1, 0)


# The session's own stream


async def test_the_get_stream_goes_on_after_the_event_that_was_seen_last() -> None:
    tools = GatedTools("step")
    async with served(tools.mcp) as wire:
        session = await Session.open(wire)
        for uri in ("x://1", "x://2", "x://3", "x://4"):
            await session.request("resources/subscribe", {"uri": uri})
        own = await session.get()
        await tools.bus.publish(ResourceUpdated("x://1"))
        await tools.bus.publish(ResourceUpdated("x://2"))
        await read(own, 2)
        own.cut()
        await tools.bus.publish(ResourceUpdated("x://3"))
        seen_only_the_first = await session.get(own.ids[-2])
        heard = [message["params"]["uri"] for message in await read(seen_only_the_first, 2)]
        assert heard == ["x://2", "x://3"]


async def test_a_get_stream_without_an_id_gets_what_nobody_was_sent() -> None:
    tools = GatedTools("step")
    async with served(tools.mcp) as wire:
        session = await Session.open(wire)
        await tools.bus.publish(ToolsListChanged())
        first = await session.get()
        assert (await first.message())["method"] == "notifications/tools/list_changed"
        first.cut()
        await session.request("resources/subscribe", {"uri": "x://1"})
        await until(lambda: not len(wire.app.transport.responses))
        await tools.bus.publish(ResourceUpdated("x://1"))
        second = await session.get()
        assert (await second.message())["params"] == {"uri": "x://1"}


@pytest.mark.requirement("http.post.retry", era="2025")
@pytest.mark.parametrize("token", ["t", None], ids=["streaming", "not streaming yet"])
@pytest.mark.parametrize("waits", [False, True], ids=["at once", "after a moment"])
async def test_closing_a_stream_early_has_the_client_come_back_for_the_rest(
    token: str | None, waits: bool
) -> None:
    """SEP-1699: the SDK's own call for it, `ctx.close_sse_stream()`."""
    mcp = MCPServer("s")
    go = asyncio.Event()

    @mcp.tool()
    async def poll(ctx: Context[Any, Any]) -> str:
        if waits:
            await asyncio.sleep(0)
        await ctx.close_sse_stream()
        await go.wait()
        return "later"

    async with served(mcp) as wire:
        session = await Session.open(wire)
        answer = await session.call("poll", id=1, token=token)
        assert await answer.rest() == []
        resumed = await session.get(answer.ids[-1])
        go.set()
        assert text_of((await resumed.rest())[-1]) == "later"


async def test_a_stream_closed_behind_its_first_words_has_them_and_an_id_to_come_back_with() -> (
    None
):
    mcp = MCPServer("s")
    go = asyncio.Event()

    @mcp.tool()
    async def poll(ctx: Context[Any, Any]) -> str:
        log("before")
        await ctx.close_sse_stream()
        await go.wait()
        return "later"

    async with served(mcp) as wire:
        session = await Session.open(wire)
        answer = await session.call("poll", id=1)
        said = await answer.rest()
        go.set()
        said += await (await session.get(answer.ids[-1])).rest()
        assert [message.get("method") for message in said] == ["notifications/message", None]
        assert text_of(said[-1]) == "later"


async def test_a_request_that_is_sent_again_after_its_stream_was_closed_has_its_answer() -> None:
    mcp = MCPServer("s")
    go = asyncio.Event()

    @mcp.tool()
    async def poll(ctx: Context[Any, Any], waits: bool) -> str:
        if waits:
            await asyncio.sleep(0)
        await ctx.close_sse_stream()
        await go.wait()
        return "later"

    async with served(mcp) as wire:
        session = await Session.open(wire)
        for number, waits in enumerate((True, False), start=1):
            go.clear()
            options = {"id": number, "token": number}
            closed = await session.call("poll", {"waits": waits}, **options)
            assert await closed.rest() == []
            again = await session.call("poll", {"waits": waits}, **options)
            go.set()
            assert text_of(await again.outcome()) == "later"


@pytest.mark.requirement("http.session.gone", era="2025")
async def test_a_session_is_forgotten_when_it_was_idle_too_long_and_not_before() -> None:
    tools = GatedTools("step")
    async with served(tools.mcp, settings=Settings(session_ttl=100)) as wire:
        idle, listening, busy = [await Session.open(wire) for _ in range(3)]
        own = await listening.get()
        call = await busy.call("step", {"steps": 1}, token="t")
        await call.frame()
        await own.frame()
        await wire.clock.advance(150)
        assert (await idle.request("ping")).status == 404
        for session in (listening, busy):
            assert (await session.request("ping")).status == 200


async def test_sessions_in_a_journal_file_end_when_no_process_saw_any_use_of_them(
    tmp_path: Path,
) -> None:
    tools = GatedTools("step")
    clock = FakeClock()
    options: dict[str, Any] = {
        "journal": f"sqlite:///{tmp_path / 'j.db'}", "clock": clock,
        "settings": Settings(session_ttl=100),
    }  # fmt: skip
    async with served(tools.mcp, **options) as wire:
        left = await Session.open(wire)
    async with (
        served(tools.mcp, **options) as wire,
        served(GatedTools("step").mcp, **options) as replica,
    ):
        idle, used = [await Session.open(wire) for _ in range(2)]
        for _ in range(4):
            await clock.advance(60, step=10)
            assert (await used.request("ping")).status == 200
            await clock.advance(5, step=5)
        for gone in (left, idle):
            gone.wire = replica
            assert (await gone.request("ping")).status == 404
        assert await wire.app.journal.streams("session/", unfinished=True) == [
            f"session/{session_tag('', used.id)}"
        ]


@pytest.mark.requirement("http.event-id.stream", era="2025")
def test_an_event_id_tells_nothing_that_the_client_did_not_say() -> None:
    """The address in an id is the client's own request id and token, as JSON."""
    from headway.protocol.event_ids import run_prefix

    _, address, _ = run_prefix("run", "id", 7).decode().split(".")
    assert json.loads(base64.urlsafe_b64decode(address + "==")) == ["id", 7]
