"""How many answers of one 2025 session may be open, and what being one too many costs: nothing."""

import asyncio
from typing import Any

import pytest
from tests.kit.http import Answer
from tests.kit.peers import Session, served, text_of
from tests.kit.tools import GatedTools
from tests.kit.waits import until

from headway import Settings

pytestmark = pytest.mark.anyio

TWO = Settings(max_session_streams=2)


async def refused(answer: Answer) -> None:
    error = (await answer.json())["error"]
    assert (answer.status, answer.headers["retry-after"], error["code"]) == (503, "2", -32000)
    assert error["data"] == {"limit": "max_session_streams"}
    assert "2 answers of this session are open" in error["message"]


async def opened(session: Session, **options: Any) -> Answer:
    answer = await session.call("wait", **options)
    await answer.message()
    return answer


async def test_one_call_too_many_is_refused_unexecuted_and_the_others_end_well() -> None:
    tools = GatedTools("wait")
    async with served(tools.mcp, settings=TWO) as wire:
        session, other = await Session.open(wire), await Session.open(wire)
        calls = [await opened(session, id=id, token=id) for id in (1, 2)]
        await refused(await session.call("wait", id=3))
        await refused(await session.get())
        await refused(await session.request("tools/list", id=4))
        calls.append(await opened(other, token=1))  # another session has places of its own
        assert tools.runs == 3
        await session.notify("notifications/cancelled", {"requestId": 2})  # needs no place
        assert (await calls.pop(1).rest())[-1]["error"]["code"] == -32800
        await until(lambda: wire.app.transport.responses.most_of_one == 1)
        assert (await session.request("tools/list", id=5)).status == 200
        tools.gate.open()
        assert [text_of((await call.rest())[-1]) for call in calls] == ["run 1", "run 3"]
        await until(lambda: not wire.app.transport.responses.most_of_one)


async def test_a_get_stream_is_one_of_them_however_often_it_is_opened() -> None:
    tools = GatedTools("wait")
    async with served(tools.mcp, settings=TWO) as wire:
        session = await Session.open(wire)
        await opened(session, token=1)
        stream = await session.get()
        for _ in range(5):
            stream = await session.get()
            assert stream.status == 200
            await refused(await session.call("wait"))
        stream.cut()
        await until(lambda: wire.app.transport.responses.most_of_one == 1)
        assert (await session.get()).status == 200


async def test_at_the_limit_a_cut_stream_is_taken_over_and_a_refused_resume_cuts_nothing() -> None:
    tools = GatedTools("wait")
    async with served(tools.mcp, settings=TWO) as wire:
        session = await Session.open(wire)
        first = await opened(session, id=1, token=1)
        second = await opened(session, id=2, token=2)
        # A proxy that has not noticed: the reader before still looks alive.
        again = await session.get(first.ids[-1])
        assert again.status == 200
        assert await first.rest() == []
        second.cut()
        await until(lambda: wire.app.transport.responses.most_of_one == 1)
        third = await opened(session, id=3, token=3)
        await refused(await session.get(second.ids[-1]))
        tools.gate.open()
        ends = [text_of((await answer.rest())[-1]) for answer in (again, third)]
        assert ends == ["run 1", "run 3"]
        resumed = await session.get(second.ids[-1])  # it lost nothing
        assert text_of((await resumed.rest())[-1]) == "run 2"
        assert tools.runs == 3


async def test_the_same_request_sent_again_needs_no_other_place() -> None:
    tools = GatedTools("wait")
    async with served(tools.mcp, settings=TWO) as wire:
        session = await Session.open(wire)
        await opened(session, id=1, token=1)
        message = session.call_message("wait", id=2, token=2)
        await (await session.post(message)).message()
        again = await session.post(message)
        tools.gate.open()
        assert text_of((await again.rest())[-1]) == "run 2"
        assert tools.runs == 2


async def test_a_batch_takes_a_place_for_each_request_or_is_refused_whole() -> None:
    tools = GatedTools("wait")
    async with served(tools.mcp, settings=TWO) as wire:
        session = await Session.open(wire, "2025-03-26")
        batch = [session.call_message("wait", id=id, token=id) for id in (1, 2, 3)]
        await refused(await session.post(batch))
        assert not wire.app.transport.responses.most_of_one
        assert tools.runs == 0
        answer = await session.post(batch[:2])
        await answer.message()
        await refused(await session.call("wait", id=9))
        tools.gate.open()
        ended = [m["id"] for m in await answer.rest() if "result" in m]
        assert sorted(ended) == [1, 2]


async def test_calls_that_come_at_once_do_not_get_more_places_than_there_are() -> None:
    tools = GatedTools("wait")
    async with served(tools.mcp, settings=TWO) as wire:
        session = await Session.open(wire)
        sent = [
            await session.send(session.call_message("wait", id=id, token=id)) for id in range(1, 21)
        ]
        answers = await asyncio.gather(*(connection.answer() for connection in sent))
        assert sorted(answer.status for answer in answers) == [200] * 2 + [503] * 18
        tools.gate.open()
        taken = [answer for answer in answers if answer.status == 200]
        ends = {text_of((await answer.rest())[-1]) for answer in taken}
        assert ends == {"run 1", "run 2"}
        assert tools.runs == 2
