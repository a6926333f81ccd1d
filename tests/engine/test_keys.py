"""Keys: which run a key names."""

import pytest
from msgspec import Raw

from headway.engine.keys import NOT_BEGUN, Keys
from headway.events import Accepted, Claimed, Completed
from headway.journal import Journal, open_journal

pytestmark = pytest.mark.anyio


async def accepted(journal: Journal, stream: str) -> Claimed:
    await journal.append(stream, [Accepted("tools/call")], after=0)
    return Claimed(stream, "fingerprint")


async def test_a_run_that_was_not_begun_has_no_key() -> None:
    """Its request was lost while it claimed the key; who comes again is not to get its end."""
    async with open_journal("memory:") as journal:
        keys = Keys(journal)
        lost, mine = await accepted(journal, "run/1"), await accepted(journal, "run/2")
        await journal.post("key", lost)
        assert await keys.find("key") == lost
        await journal.append("run/1", [NOT_BEGUN], after=1)
        assert await keys.find("key") is None
        assert await keys.claim("key", mine) == mine
        assert await keys.find("key") == mine


async def test_a_key_whose_run_has_ended_in_the_meantime_is_not_claimed_again() -> None:
    """Another process was quick: the key was free when it was looked for, and is over now."""
    async with open_journal("memory:") as journal:
        keys = Keys(journal)
        quick, mine = await accepted(journal, "run/1"), await accepted(journal, "run/2")
        assert await keys.find("key") is None
        assert await keys.claim("key", quick) == quick
        await journal.append("run/1", [Completed(Raw(b"{}"))], after=1)
        await keys.release("key")
        assert await keys.claim("key", mine) == quick
        assert await keys.find("key") == quick
