"""Progress at Headway's default settings: a flood becomes a handful, in order and to its end."""

import pytest
from tests.interop.houses import KINDS, open_house
from tests.interop.peers import FASTMCP, OFFICIAL, Ears, Outcome, connected

from headway import Settings

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("kind", KINDS)
async def test_a_flood_of_reports_reaches_each_client_as_a_handful(kind: str) -> None:
    async with open_house(kind, Settings()) as house:
        for peer in (*OFFICIAL[:2], *FASTMCP[:2]):
            ears = Ears()
            async with connected(peer, house.url, ears) as client:
                outcome = await client.call("count", {"total": 2000}, ears.on_progress)
                await ears.until(lambda: ears.progress[-1:] != [] and ears.progress[-1][0] == 2000)
            assert outcome == Outcome("counted to 2000")
            values = [value for value, _, _ in ears.progress]
            assert values == sorted(set(values))
            assert ears.progress[-1][:2] == (2000, 2000)
            assert len(values) < 200
