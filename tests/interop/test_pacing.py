"""Progress at Headway's default settings: a flood becomes a handful, in order and to its end."""

import pytest
from tests.interop.houses import KINDS, open_house
from tests.interop.peers import PEERS, Ears, Outcome, PeerKind, connected

from headway import Settings

pytestmark = pytest.mark.anyio


TOTAL = 2000


async def flood(peer: PeerKind, url: str) -> None:
    ears = Ears()
    async with connected(peer, url, ears) as client:
        outcome = await client.call("count", {"total": TOTAL}, ears.on_progress)
        await ears.until(lambda: bool(ears.progress) and ears.progress[-1][0] == TOTAL)
    assert outcome == Outcome(f"counted to {TOTAL}")
    values = [value for value, _, _ in ears.progress]
    assert values == sorted(set(values))
    assert ears.progress[-1][:2] == (TOTAL, TOTAL)
    # Four a second, the first and the last: how many depends on the machine, not on the tool.
    assert len(values) < TOTAL / 10


@pytest.mark.requirement("progress.rate", era="2025 2026")
@pytest.mark.parametrize("kind", KINDS)
async def test_a_flood_of_reports_reaches_each_client_as_a_handful(kind: str) -> None:
    async with open_house(kind, Settings()) as house:
        for peer in PEERS:
            await flood(peer, house.url)
