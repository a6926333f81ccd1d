"""What one caller can fill that all have in common: requests that are not answered yet."""

import asyncio

import pytest
from tests.kit.http import Answer
from tests.kit.known import connect_as, known_server
from tests.kit.peers import Modern, Session, each_era, served, text_of
from tests.kit.waits import until

from headway import Headway, Settings, report

pytestmark = pytest.mark.anyio

FEW = Settings(max_open_each=2, progress_rate=0)


class Site:
    def __init__(self, mcp: Headway) -> None:
        self.go = asyncio.Event()
        self.mcp = mcp
        self.mcp.add_tool(self.wait)
        self.mcp.add_tool(self.hello)

        @self.mcp.prompt()
        async def slow() -> str:
            return await self.wait()

    async def wait(self) -> str:
        report(1)
        await self.go.wait()
        return "done"

    async def hello(self) -> str:
        return "hello"


async def limit_of(answer: Answer) -> str:
    assert answer.status == 503
    return (await answer.json())["error"]["data"]["limit"]


@each_era
async def test_an_authenticated_caller_cannot_take_all_places_with_listeners(era: str) -> None:
    """Nor with calls, nor with both together, on whatever sessions."""
    site = Site(known_server())
    async with served(site.mcp, settings=FEW) as wire:
        alice = await connect_as(wire, "2026", "alice")
        assert isinstance(alice, Modern)
        listening = {"notifications": {"toolsListChanged": True}}
        streams = [await alice.request("subscriptions/listen", listening) for _ in range(2)]
        for stream in streams:
            await stream.message()
        again = await connect_as(wire, "2026", "alice")
        assert await limit_of(await again.call("hello")) == "max_open_each"
        bob = await connect_as(wire, era, "bob")
        assert text_of(await (await bob.call("hello")).outcome()) == "hello"
        for stream in streams:
            stream.cut()
        await until(lambda: not wire.app.engine.runs)
        assert text_of(await (await again.call("hello")).outcome()) == "hello"
        assert not wire.app.engine.places.open_of


async def test_an_anonymous_session_cannot_either_with_answers_that_it_does_not_read() -> None:
    site = Site(Headway("site"))
    async with served(site.mcp, settings=FEW) as wire:
        session, other = await Session.open(wire), await Session.open(wire)
        for number in range(2):
            connection = await session.send(
                session.message("prompts/get", {"name": "slow"}, id=f"p{number}")
            )
            await until(lambda number=number: len(wire.app.engine.runs) > number)
            connection.cut()  # of 2025: it goes on
        assert await limit_of(await session.call("hello", id="h")) == "max_open_each"
        assert text_of(await (await other.call("hello")).outcome()) == "hello"
        site.go.set()
        await until(lambda: not wire.app.engine.runs)
        assert text_of(await (await session.call("hello", id="h")).outcome()) == "hello"


async def test_anonymous_callers_of_2026_are_not_counted_as_one() -> None:
    site = Site(Headway("site"))
    async with served(site.mcp, settings=FEW) as wire:
        answers = [await Modern(wire).call("wait", token=number) for number in range(5)]
        for answer in answers:
            await answer.message()
        site.go.set()
        for answer in answers:
            assert text_of((await answer.rest())[-1]) == "done"
