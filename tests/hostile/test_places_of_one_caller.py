"""What one caller can fill that all have in common: requests that are not answered yet."""

import pytest
from tests.kit.http import Answer
from tests.kit.known import connect_as, known_server
from tests.kit.peers import Modern, Session, each_era, served, text_of
from tests.kit.tools import GatedTools
from tests.kit.waits import until

from headway import Headway, Settings

pytestmark = pytest.mark.anyio

FEW = Settings(max_open_each=2, progress_rate=0)


def with_a_prompt(server: Headway) -> GatedTools:
    """Tools that wait at a gate, and a prompt that does."""
    tools = GatedTools("wait", "quick", server=server)

    @server.prompt()
    async def slow() -> str:
        return await tools.wait()

    return tools


async def limit_of(answer: Answer) -> str:
    assert answer.status == 503
    return (await answer.json())["error"]["data"]["limit"]


@each_era
async def test_an_authenticated_caller_cannot_take_all_places_with_listeners(era: str) -> None:
    """Nor with calls, nor with both together, on whatever sessions."""
    tools = with_a_prompt(known_server())
    async with served(tools.mcp, settings=FEW) as wire:
        alice = await connect_as(wire, "2026", "alice")
        assert isinstance(alice, Modern)
        listening = {"notifications": {"toolsListChanged": True}}
        streams = [await alice.request("subscriptions/listen", listening) for _ in range(2)]
        for stream in streams:
            await stream.message()
        again = await connect_as(wire, "2026", "alice")
        assert await limit_of(await again.call("quick")) == "max_open_each"
        bob = await connect_as(wire, era, "bob")
        assert text_of(await (await bob.call("quick")).outcome()) == "at once"
        for stream in streams:
            stream.cut()
        await until(lambda: not wire.app.engine.runs)
        assert text_of(await (await again.call("quick")).outcome()) == "at once"
        assert not wire.app.engine.admission.open_of


async def test_an_anonymous_session_cannot_either_with_answers_that_it_does_not_read() -> None:
    tools = with_a_prompt(Headway("gated"))
    async with served(tools.mcp, settings=FEW) as wire:
        session, other = await Session.open(wire), await Session.open(wire)
        for number in range(2):
            connection = await session.send(
                session.message("prompts/get", {"name": "slow"}, id=f"p{number}")
            )
            await until(lambda number=number: len(wire.app.engine.runs) > number)
            connection.cut()  # of 2025: it goes on
        assert await limit_of(await session.call("quick", id="h")) == "max_open_each"
        assert text_of(await (await other.call("quick")).outcome()) == "at once"
        tools.gate.open()
        await until(lambda: not wire.app.engine.runs)
        assert text_of(await (await session.call("quick", id="h")).outcome()) == "at once"


async def test_anonymous_callers_of_2026_are_not_counted_as_one() -> None:
    tools = with_a_prompt(Headway("gated"))
    async with served(tools.mcp, settings=FEW) as wire:
        answers = [await Modern(wire).call("wait", token=number) for number in range(5)]
        for answer in answers:
            await answer.message()
        tools.gate.open()
        for answer in answers:
            assert text_of((await answer.rest())[-1]).startswith("run ")
