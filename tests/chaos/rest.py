"""What a server holds when nobody calls, and what has grown since it was looked at before."""

import json
import sys
from dataclasses import dataclass

from tests.chaos.work import ALL_OBJECTS, BLOCKS
from tests.kit.peers import Modern, Wire

from headway.testing import Held, ServerProcess

MEGA = 1024 * 1024

MANY = {ALL_OBJECTS: 20, BLOCKS: 100}
"""How much more often than of one class there may be more of all together."""


@dataclass(frozen=True)
class Rest:
    """A server process seen from outside (`held`) and from inside (`census`)."""

    held: Held
    census: dict[str, int]

    def __str__(self) -> str:
        held = self.held
        return (
            f"{held.descriptors} descriptors, {held.threads} threads, {held.children} children, "
            f"{sum(self.census.values())} objects and tasks, {held.memory / MEGA:.0f} MiB"
        )

    def grown_since(self, before: "Rest", *, memory: int, slack: int = 0) -> list[str]:
        """What there is more of: by more than `memory` bytes, and more than `slack` objects.

        Objects are what the census has with a dot in its name; of all else there may be no more.
        """
        found = [
            f"{number} × {name}, were {before.census.get(name, 0)}"
            for name, number in self.census.items()
            if number > before.census.get(name, 0) + _allowed(name, slack)
        ]
        for name in ("descriptors", "threads", "children"):
            was, now = getattr(before.held, name), getattr(self.held, name)
            if now > was:
                found.append(f"{now} {name}, were {was}")
        more = self.held.memory - before.held.memory
        if more > memory:
            found.append(f"{more / MEGA:.1f} MiB of memory, {memory / MEGA:.1f} are allowed")
        return found


def _allowed(name: str, slack: int) -> int:
    return slack * MANY.get(name, 1) if "." in name else 0


async def at_rest(server: ServerProcess, wire: Wire, *tools: str) -> Rest:
    """What it holds now, counted by its own tools."""
    census: dict[str, int] = {}
    for tool in tools or ("held",):
        answer = await Modern(wire).call(tool)
        try:
            response = await answer.outcome()
        finally:
            answer.cut()
        census |= json.loads(response["result"]["content"][0]["text"])
    return Rest(server.held(), census)


def say(who: str, what: str) -> None:
    """A line of a long run, at once."""
    sys.stdout.write(f"{who}: {what}\n")
    sys.stdout.flush()
