"""A client with several streams of one session (GET), as gateways have: all are kept."""

from pathlib import Path

import pytest
from mcp.server import MCPServer
from mcp.server.subscriptions import InMemorySubscriptionBus
from mcp.shared.subscriptions import ResourceUpdated
from tests.kit.fleet import fleet_of, journal
from tests.kit.http import Answer
from tests.kit.peers import Session, Wire, served
from tests.kit.waits import until

from headway import Settings
from headway.broadcast_events import ReaderCame
from headway.transport.open_responses import MOST_READERS

__all__ = ["journal"]

pytestmark = pytest.mark.anyio

URIS = [f"x://{number}" for number in range(9)]


class Publisher:
    """A server that tells of a resource when it is told to."""

    def __init__(self, bus: InMemorySubscriptionBus | None = None) -> None:
        self.bus = bus or InMemorySubscriptionBus()
        self.mcp = MCPServer("publisher", subscriptions=self.bus)

    async def say(self, number: int) -> None:
        await self.bus.publish(ResourceUpdated(URIS[number]))


async def subscribed(wire: Wire, version: str = "2025-11-25") -> Session:
    session = await Session.open(wire, version)
    for uri in URIS:
        await session.request("resources/subscribe", {"uri": uri})
    return session


async def listen(session: Session, last: str | None = None) -> Answer:
    answer = await session.get(last)
    assert answer.status == 200
    await answer.frame()
    return answer


async def heard(answer: Answer) -> int:
    """The next resource that the stream tells of."""
    return URIS.index((await answer.message())["params"]["uri"])


def open_streams(wire: Wire) -> int:
    return len(wire.app.transport.responses)


async def test_two_streams_stay_open_and_each_message_is_on_one() -> None:
    publisher = Publisher()
    async with served(publisher.mcp) as wire:
        session = await subscribed(wire)
        older = await listen(session)
        await publisher.say(0)
        assert await heard(older) == 0
        newer = await listen(session)
        for number in (1, 2):
            await publisher.say(number)
            assert await heard(newer) == number
        assert open_streams(wire) == 2
        newer.cut()
        await until(lambda: open_streams(wire) == 1)
        await publisher.say(3)
        assert await heard(older) == 3  # and neither 1 nor 2


@pytest.mark.parametrize("version", ["2025-06-18", "2025-11-25"])
async def test_a_stream_that_is_resumed_is_sent_what_it_missed_and_not_what_another_one_was_sent(
    version: str,
) -> None:
    publisher = Publisher()
    async with served(publisher.mcp) as wire:
        session = await subscribed(wire, version)
        one = await listen(session)
        await publisher.say(0)
        assert await heard(one) == 0
        first = one.ids[-1]
        await publisher.say(1)
        assert await heard(one) == 1
        two = await listen(session)
        await publisher.say(2)
        assert await heard(two) == 2
        second = two.ids[-1]
        one.cut()
        again = await session.get(first)  # 1 was lost on the way
        assert await heard(again) == 1
        await publisher.say(3)
        assert await heard(again) == 3  # it came last; 2 was told on the other one
        two.cut()
        two = await session.get(second)
        await publisher.say(4)
        assert await heard(two) == 4  # and not 1 or 3


async def test_a_stream_that_comes_back_ends_its_own_reader_and_no_other() -> None:
    publisher = Publisher()
    async with served(publisher.mcp) as wire:
        session = await subscribed(wire)
        one, other = await listen(session), await listen(session)
        again = await listen(session, one.ids[-1])
        assert await one.rest() == []  # a proxy has not noticed yet that its client has left
        assert open_streams(wire) == 2
        await publisher.say(0)
        assert await heard(again) == 0
        again.cut()
        await until(lambda: open_streams(wire) == 1)
        await publisher.say(1)
        assert await heard(other) == 1


async def test_of_a_client_that_opens_more_and_more_the_oldest_stream_ends() -> None:
    publisher = Publisher()
    async with served(publisher.mcp) as wire:
        session = await subscribed(wire)
        streams = [await listen(session) for _ in range(MOST_READERS + 2)]
        for oldest in streams[:2]:
            assert await oldest.rest() == []
        assert open_streams(wire) == MOST_READERS


async def test_at_the_limit_of_a_session_a_new_stream_has_the_place_of_the_oldest() -> None:
    publisher = Publisher()
    async with served(publisher.mcp, settings=Settings(max_session_streams=2)) as wire:
        session = await subscribed(wire)
        streams = [await listen(session) for _ in range(3)]
        assert await streams[0].rest() == []
        assert open_streams(wire) == 2
        await publisher.say(0)
        assert await heard(streams[2]) == 0


async def test_streams_at_two_replicas_are_both_kept(journal: str) -> None:
    publisher = Publisher()
    other = Publisher()
    async with fleet_of([publisher.mcp, other.mcp], journal) as fleet:
        session = await subscribed(fleet[0])
        older = await listen(session)
        await publisher.say(0)
        assert await heard(older) == 0
        session.wire = fleet[1]
        newer = await listen(session)
        answers = fleet[0].app.transport.responses
        await until(lambda: answers._elsewhere, "the other replica has not heard of it")
        for number in (1, 2):
            await publisher.say(number)
            told = await heard(newer)
            while told < number:  # the first one may come again: it was just told elsewhere
                told = await heard(newer)
            assert told == number
        assert (open_streams(fleet[0]), open_streams(fleet[1])) == (1, 1)
        newer.cut()
        await until(lambda: not answers._elsewhere, "nobody said that it has left")
        await publisher.say(3)
        assert await heard(older) == 3


async def test_a_stream_does_not_wait_for_one_of_a_replica_that_died(tmp_path: Path) -> None:
    publisher = Publisher()
    async with served(publisher.mcp, journal=f"sqlite:///{tmp_path / 'journal.db'}") as wire:
        session = await subscribed(wire)
        stream = await listen(session)
        (name,) = await wire.app.journal.streams("session/")
        came = ReaderCame(name, by="another", listener="ab", process="deadbeef")
        await wire.app.journal.append_shared("notices", came)
        answers = wire.app.transport.responses
        while not answers._elsewhere:
            await wire.clock.advance(0.05, step=0.05)
        await publisher.say(0)
        await wire.clock.advance(15, step=5)
        await until(lambda: not answers._elsewhere)
        assert await heard(stream) == 0
