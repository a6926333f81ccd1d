"""Changes of resources: `resources/subscribe` at 2025, `subscriptions/listen` at 2026."""

import pytest
from mcp.client.subscriptions import ResourceUpdated
from mcp.shared.exceptions import MCPError
from mcp_types import METHOD_NOT_FOUND
from tests.interop.houses import PUBLISHING, House, Street
from tests.interop.peers import (
    FASTMCP,
    OFFICIAL,
    PINNED,
    Ears,
    OfficialPeer,
    Peer,
    PeerKind,
    connected,
)
from tests.interop.witness import NOTE, OTHER

pytestmark = [
    pytest.mark.anyio,
    # `resources/subscribe` is deprecated as of 2026-07-28; 2025 has nothing else.
    pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning"),
]

MODERN = pytest.mark.parametrize("peer", [OFFICIAL[1], PINNED[0]], ids=str)


def official(peer: Peer) -> OfficialPeer:
    assert isinstance(peer, OfficialPeer)
    return peer


@pytest.mark.parametrize("peer", FASTMCP, ids=str)
def test_the_fastmcp_client_cannot_subscribe(peer: PeerKind) -> None:
    pytest.skip("the FastMCP client has neither subscribe nor listen")


async def test_a_2025_subscriber_is_notified_of_a_change(house: House, ears: Ears) -> None:
    async with connected(OFFICIAL[0], house.url, ears) as peer:
        if house.kind in PUBLISHING:
            await official(peer).client.subscribe_resource(NOTE)
        await peer.call("touch", {"uri": NOTE})
        await ears.until(lambda: ears.updates == [NOTE])


async def test_a_2025_session_hears_only_of_what_it_subscribed_to(house: House) -> None:
    if house.kind not in PUBLISHING:
        pytest.skip("lowlevel and FastMCP authors tell one session themselves, subscribed or not")
    actor, other = Ears(), Ears()
    async with (
        connected(OFFICIAL[0], house.url, actor) as peer,
        connected(OFFICIAL[0], house.url, other) as bystander,
    ):
        await official(peer).client.subscribe_resource(NOTE)
        await official(bystander).client.subscribe_resource(OTHER)
        for uri in (NOTE, OTHER):
            await peer.call("touch", {"uri": uri})
        await other.until(lambda: other.updates != [])
        await official(peer).client.unsubscribe_resource(NOTE)
        await official(peer).client.subscribe_resource(OTHER)
        for uri in (NOTE, OTHER):
            await peer.call("touch", {"uri": uri})
        await actor.until(lambda: OTHER in actor.updates)
        await other.until(lambda: len(other.updates) == 2)
    assert (actor.updates, other.updates) == ([NOTE, OTHER], [OTHER, OTHER])


@MODERN
async def test_a_2026_listener_is_notified_of_what_it_asked_for(
    house: House, peer: PeerKind
) -> None:
    if house.kind == "FastMCP":
        pytest.skip("FastMCP 4 does not serve subscriptions/listen")
    async with (
        connected(peer, house.url) as client,
        official(client).client.listen(resource_subscriptions=[NOTE]) as changes,
    ):
        assert changes.honored.resource_subscriptions == [NOTE]
        for uri in (OTHER, NOTE):
            await client.call("touch", {"uri": uri})
        assert await anext(changes) == ResourceUpdated(NOTE)


@MODERN
async def test_listening_to_a_server_that_cannot_is_refused_at_once(
    street: Street, peer: PeerKind
) -> None:
    house = await street.house("FastMCP")
    async with connected(peer, house.url) as client:
        with pytest.raises(MCPError) as refusal:
            await official(client).client.listen(resource_subscriptions=[NOTE]).__aenter__()
    assert refusal.value.error.code == METHOD_NOT_FOUND


@MODERN
async def test_a_listener_that_leaves_leaves_nothing_running(house: House, peer: PeerKind) -> None:
    if house.kind == "FastMCP":
        pytest.skip("FastMCP 4 does not serve subscriptions/listen")
    engine = house.tap.app.engine
    async with connected(peer, house.url) as client:
        async with official(client).client.listen(resource_subscriptions=[NOTE]):
            # The listener of an earlier test may still be on its way out.
            *_, listening = [run for run in engine.runs.values() if "listen" in run.request.method]
        assert listening.execution.task is not None
        await listening.execution.task
        assert listening.id not in engine.runs
