"""A caller whose tools break the rules of their process, which must cost nobody else anything.

They call `sys.exit`, cancel themselves, leak a cancel into what they await, raise a base of their
own, and hold the event loop. Each is an error for this caller, or the result, and the process goes
on: the storm around it has its own judges.
"""

import asyncio
import itertools
import random
from typing import Any, Final

from tests.chaos.callers import CUT, Line
from tests.chaos.tally import Tally
from tests.kit.peers import Modern

NAME = "saboteur"

TOOLS: Final = ("sabotage", "sabotage_away")

WAYS: Final = {
    "exit": "ended with SystemExit(3)",
    "cancel": "ended with CancelledError, and nobody had asked for a cancel",
    "leak": "ended with CancelledError, and nobody had asked for a cancel",
    "base": "ended with BaseException",
    "hold": "held",
}
"""What a tool does, and what its caller is told."""

PAUSE: Final = 0.2

EXCUSES: Final = ("went away", "stop", "try again", "shutting down", "not available", "no longer")
"""Words of what a caller is told whose server was killed or told to stop."""


class Saboteur:
    """One client of 2026 that calls such tools, one after the other."""

    def __init__(self, origin: str, tally: Tally, chance: random.Random) -> None:
        self._client = Modern(Line(origin, NAME))
        self._tally = tally
        self._chance = chance

    async def work(self) -> None:
        """Call for ever, whatever happens to the server."""
        for number in itertools.count():
            tool, way = TOOLS[number % 2], self._chance.choice(list(WAYS))
            try:
                self._judge(way, await self._outcome(tool, way))
            except CUT:
                self._tally.count("lost connections")
            await asyncio.sleep(PAUSE)

    async def _outcome(self, tool: str, way: str) -> dict[str, Any]:
        answer = await self._client.post(self._client.call_message(tool, {"way": way}))
        try:
            return await answer.outcome()
        finally:
            answer.cut()

    def _judge(self, way: str, outcome: dict[str, Any]) -> None:
        said = str(outcome)
        if WAYS[way] in said:
            self._tally.count(f"sabotage by {way}")
        elif not any(excuse in said for excuse in EXCUSES):
            self._tally.violation(f"sabotage by {way} was answered with {said[:200]}")
