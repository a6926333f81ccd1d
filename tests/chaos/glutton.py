"""A caller that fills the journal: what it puts there may take nothing from anybody else.

It is another principal than the callers of the storm. Its own first call has a key, whose result
has to make room for its other results: in the end it is told that the call was executed, and that
it is not executed again. Until then it goes on, so that every storm is one over a full journal.
"""

import asyncio
from typing import Any

from tests.chaos.callers import CUT, KEY, Line
from tests.chaos.ledger import Line as Deed
from tests.chaos.tally import Tally
from tests.kit.peers import Modern

NAME = "glutton"
JOB = "glutton-first"

SIZE = 1_000_000
"""Characters of each of its results."""

MOST = 3000
"""Results after which a journal is full, or never will be."""

BUSY = -32000

GONE = "was executed, and what it said is no longer kept"


class Glutton:
    """One client of 2026 that asks for much and reads it."""

    def __init__(self, origin: str, tally: Tally) -> None:
        self._client = Modern(Line(origin, NAME))
        self._tally = tally
        self._calls = 0

    async def fill(self) -> None:
        """Call for ever, whatever happens to the server; first with the key."""
        await self._patiently(JOB, 10, key=JOB)
        while True:
            await self._call()

    async def until_full(self) -> None:
        """Call until the result of the first call had to make room."""
        while not await self._is_gone():
            if self._calls > MOST:
                self._tally.violation(f"{self._calls} results of {SIZE} bytes filled no journal")
                return
            for _ in range(5):
                await self._call()
        self._tally.count("results of the caller that fills the journal", self._calls)

    async def _is_gone(self) -> bool:
        return GONE in str(await self._patiently(JOB, 10, key=JOB))

    async def _call(self) -> None:
        self._calls += 1
        await self._patiently(f"glutton-{self._calls}", SIZE)

    async def _patiently(self, job: str, size: int, key: str | None = None) -> dict[str, Any]:
        while True:
            try:
                found = await self._asked(job, size, key)
                if found.get("error", {}).get("code") != BUSY:
                    return found
            except CUT:
                self._tally.count("lost connections")
            await asyncio.sleep(0.1)

    async def _asked(self, job: str, size: int, key: str | None = None) -> dict[str, Any]:
        message = self._client.call_message("big", {"job": job, "size": size})
        if key is not None:
            message["params"]["_meta"][KEY] = key
        answer = await self._client.post(message)
        try:
            return await answer.outcome()
        finally:
            answer.cut()


def judge_filling(tally: Tally, ledger: dict[str, list[Deed]]) -> None:
    """What lost its result was executed once all the same."""
    begins = [deed for deed in ledger.get(JOB, []) if deed.what == "begin"]
    if len(begins) != 1:
        tally.violation(f"the call whose result made room was executed {len(begins)} times")
