"""Garbage in a journal that processes share: told and passed over, and no process goes deaf."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from tests.kit.fleet import Fleet, fleet_of
from tests.kit.fleet import journal as journal
from tests.kit.known import bearer, known_server
from tests.kit.peers import Session, text_of
from tests.kit.poison import FUTURE, GARBAGE, damage, poison, shout
from tests.kit.tools import GatedTools
from tests.kit.waits import until, until_told, within

from headway import Settings
from headway.engine import send_control
from headway.errors import EntriesUnreadable, StreamDamaged
from headway.events import (
    Accepted,
    CancelRequested,
    Completed,
    Event,
    Interrupted,
    Part,
    Progress,
    encode_json,
)
from headway.journal import Journal, next_available, open_journal
from headway.stream_names import key_stream, principal_tag, tag_of

pytestmark = pytest.mark.anyio

each_garbage = pytest.mark.parametrize("garbage", [GARBAGE, FUTURE, b"", b"[]", b"[9,9.0]"])

SETTINGS = Settings(progress_rate=0)
META_KEY = "headway/idempotency-key"
END = Completed(encode_json({"content": [{"type": "text", "text": "done"}]}))


async def written(journal: Journal, stream: str, *events: Event) -> None:
    """Each entry in a chunk of its own."""
    for after, event in enumerate(events):
        await journal.append(stream, [event], after=after)


async def numbers(journal: Journal, stream: str) -> list[int]:
    """What a follower hears that passes over what cannot be read."""
    cursor, heard = journal.open_cursor(stream), list[int]()
    while not cursor.done:
        heard += [entry.seq for entry in await within(next_available(journal, cursor))]
    return heard


@each_garbage
async def test_who_follows_a_stream_passes_over_what_cannot_be_read(
    journal: str, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    stream = f"a/{uuid4().hex}"  # it is told once a process
    async with open_journal(journal) as writer:
        await written(writer, stream, *(Progress(float(n)) for n in range(5)), END)
    await poison(journal, stream, 3, garbage)
    async with open_journal(journal) as reader:
        assert await numbers(reader, stream) == [1, 2, 4, 5, 6]
        assert await numbers(reader, stream) == [1, 2, 4, 5, 6]
        assert [entry.seq for entry in await reader.read_all_kept(stream)] == [4, 5, 6]
        with pytest.raises(EntriesUnreadable):
            await reader.read(stream, after=2)
    assert caplog.text.count(f"entries 3 to 3 of {stream} cannot be read") == 1


async def test_an_end_that_cannot_be_read_ends_a_stream_all_the_same(journal: str) -> None:
    async with open_journal(journal) as writer:
        await written(writer, "a/b", Progress(1.0), END)
    await poison(journal, "a/b", 2)
    async with open_journal(journal) as reader:
        assert await numbers(reader, "a/b") == [1]


async def test_a_damaged_stream_harms_no_other_one(journal: str) -> None:
    async with open_journal(journal) as one:
        for name in ("a/b", "a/c"):
            await written(one, name, Progress(1.0))
        await damage(journal, "a/b")
        async with open_journal(journal) as other:
            with pytest.raises(StreamDamaged):
                await other.read("a/b")
            # Written with one commit: the one is refused, the others are stored.
            async with asyncio.TaskGroup() as group:
                group.create_task(_refused(one, "a/b"))
                for number in range(20):
                    group.create_task(written(one, f"a/new{number}", Progress(1.0), END))
            assert await one.append("a/c", [END], after=1) == 2
            assert len(await other.streams("a/new")) == 20
            assert not one.is_behind


async def _refused(journal: Journal, stream: str) -> None:
    with pytest.raises(Exception, match=r".*"):
        await within(journal.append(stream, [Progress(2.0)], after=1))


class PaidTools(GatedTools):
    """Tools that wait at a gate, and one that counts what was paid."""

    def __init__(self) -> None:
        super().__init__("wait")
        self.paid = 0
        self.mcp.add_tool(self.pay)

    async def pay(self) -> str:
        self.paid += 1
        return f"receipt {self.paid}"


@asynccontextmanager
async def two_replicas(journal: str, **settings: Any) -> AsyncGenerator[tuple[PaidTools, Fleet]]:
    tools = PaidTools()
    async with fleet_of([tools.mcp] * 2, journal, replace(SETTINGS, **settings)) as fleet:
        yield tools, fleet


async def last_of(journal: Journal, stream: str) -> int:
    """The last entry that the storage has, or 0."""
    head = await journal.head(stream)
    return 0 if head is None else head.last


@each_garbage
async def test_a_process_hears_orders_behind_one_that_cannot_be_read(
    journal: str, garbage: bytes
) -> None:
    async with two_replicas(journal) as (_, fleet):
        session = await Session.open(fleet[0])
        answer = await session.call("wait", id=1, token=1)
        await answer.message()
        (run,) = fleet[0].app.engine.runs.values()
        orders = f"orders/{fleet[0].app.engine.lease.tag}"
        async with open_journal(journal) as operator:
            await operator.append_shared(orders, Part(encode_json("somebody's")))
            await poison(journal, orders, await last_of(operator, orders), garbage)
            await send_control(operator, run.stream, CancelRequested("operator", "enough"))
        assert "enough" in (await answer.rest())[-1]["error"]["message"]


@pytest.mark.parametrize("board", ["changes", "notices"])
@each_garbage
async def test_replicas_hear_each_other_behind_a_notice_that_cannot_be_read(
    journal: str, garbage: bytes, board: str
) -> None:
    async with two_replicas(journal) as (_, fleet):
        session = await Session.open(fleet[0])
        async with open_journal(journal) as stranger:
            seq = await stranger.append_shared(board, Part(encode_json("somebody's")))
            await poison(journal, board, seq, garbage)
        own = await session.get()
        fleet[1].app.life.sessions.broadcasts.publish_change("notifications/tools/list_changed")
        assert (await own.message())["method"] == "notifications/tools/list_changed"
        session.wire = fleet[1]
        newer = await session.get(own.ids[-1])
        assert await own.rest() == []  # its reader is at the other replica now
        newer.cut()


async def test_noise_on_the_channels_of_a_redis_disturbs_nobody(new_redis_url: Any) -> None:
    url = new_redis_url()
    async with two_replicas(url) as (tools, fleet):
        session = await Session.open(fleet[0])
        answer = await session.call("wait", id=1, token=1)
        await answer.message()
        await shout(url)
        tools.gate.open()
        assert text_of((await answer.rest())[-1]) == "run 1"
        session.wire = fleet[1]
        assert text_of(await (await session.call("pay")).outcome()) == "receipt 1"


@each_garbage
async def test_a_run_that_cannot_be_read_keeps_no_other_one_from_its_end(
    journal: str, garbage: bytes
) -> None:
    """A process died with three runs: of one nothing is readable, one is nonsense."""
    gone = "deadbeef"
    streams = [f"run/{'o' * 16}/{gone}{letter * 32}" for letter in "abc"]
    async with open_journal(journal) as dead:
        await dead.append(streams[0], [Accepted("tools/call", "t", "o")], after=0)
        await dead.append(streams[1], [Accepted("tools/call", "t", "o")], after=0)
        nonsense = [Accepted("tools/call", "t", "o"), Part(encode_json("said before it began"))]
        await dead.append(streams[2], nonsense, after=0)
    await poison(journal, streams[0], 1, garbage)
    async with two_replicas(journal), open_journal(journal) as reader:
        for stream in streams:
            cursor, last = reader.open_cursor(stream), None
            while not cursor.done:
                for entry in await within(next_available(reader, cursor)):
                    last = entry.event
            assert isinstance(last, Interrupted), stream


@each_garbage
async def test_a_sign_of_life_that_cannot_be_read_kills_nobody(
    journal: str, garbage: bytes
) -> None:
    async with two_replicas(journal, lease=1.0) as (tools, fleet):
        session = await Session.open(fleet[0])
        answer = await session.call("wait", id=1, token=1)
        await answer.message()
        process = f"process/{fleet[0].app.engine.lease.tag}"
        async with open_journal(journal) as stranger:
            for _ in range(3):
                before = await last_of(stranger, process)
                await poison(journal, process, before, garbage)
                await until_later(stranger, process, before)
        tools.gate.open()
        assert text_of((await answer.rest())[-1]) == "run 1"


async def until_later(journal: Journal, stream: str, seq: int) -> None:
    """Return when a stream has an entry above `seq` in the storage."""

    async def is_later() -> bool:
        return await last_of(journal, stream) > seq

    await until_told(is_later)


async def called(session: Session, key: str) -> dict[str, Any]:
    message = session.call_message("pay")
    message["params"]["_meta"] = {META_KEY: key}
    return await (await session.post(message)).outcome()


@each_garbage
async def test_a_key_that_cannot_be_read_executes_nothing_again(
    journal: str, garbage: bytes
) -> None:
    async with two_replicas(journal) as (tools, fleet):
        session = await Session.open(fleet[0])
        await called(session, "k")
        key = key_stream(principal_tag(""), tag_of("k"))
        await poison(journal, key, 1, garbage)
        for replica in fleet.replicas:
            again = await called(await Session.open(replica), "k")
            assert "was executed" in again["error"]["message"]
        assert tools.paid == 1


@each_garbage
async def test_a_result_that_cannot_be_read_is_told_as_one_that_is_gone(
    journal: str, garbage: bytes
) -> None:
    async with two_replicas(journal) as (tools, fleet):
        session = await Session.open(fleet[0])
        answer = await session.call("wait", id=1, token=1)
        await answer.message()
        last = answer.ids[-1]
        answer.cut()
        (run,) = [run for run in fleet[0].app.engine.runs.values() if run.request.target == "wait"]
        tools.gate.open()
        await until(lambda: run.ended)
        async with open_journal(journal) as reader:
            await until_later(reader, run.stream, run.events.seq - 1)
        await poison(journal, run.stream, run.events.seq, garbage)
        session.wire = fleet[1]
        resumed = await (await session.get(last)).rest()
        assert resumed[-1]["id"] == 1
        assert "was executed" in resumed[-1]["error"]["message"]


async def test_a_damaged_session_keeps_no_other_one_from_being_used(journal: str) -> None:
    async with two_replicas(journal) as (_, fleet):
        one, other = await Session.open(fleet[0]), await Session.open(fleet[0])
        inside = fleet[0].app.life.sessions.known[one.id]
        await damage(journal, inside.stream)
        for replica in fleet.replicas:
            other.wire = one.wire = replica
            assert text_of(await (await other.call("pay")).outcome()).startswith("receipt")
            assert (await one.request("ping")).status in (200, 404, 503)


async def test_the_list_of_tasks_has_those_that_can_be_read(journal: str) -> None:
    tools = PaidTools()
    mcp = known_server()
    mcp.add_tool(tools.pay)
    async with fleet_of([mcp] * 2, journal, SETTINGS) as fleet:
        alice = await Session.open(fleet[0], extra=bearer("alice"))
        ids: list[str] = []
        for _ in range(3):
            message = alice.message("tools/call", {"name": "pay", "arguments": {}, "task": {}})
            created = await (await alice.post(message)).outcome()
            ids.append(created["result"]["task"]["taskId"])
        await until(lambda: not fleet[0].app.engine.runs)
        (stream,) = [s for s in await fleet[0].app.journal.streams("run/") if s.endswith(ids[1])]
        await damage(journal, stream)
        alice.wire = fleet[1]
        listed = (await (await alice.request("tasks/list", {})).outcome())["result"]["tasks"]
        assert [task["taskId"] for task in listed] == [ids[0], ids[2]]
