"""A day of churn: clients come, open sessions and vanish, and nothing of them stays.

`python -m tests.chaos.churn --visits 100000 --seed 7` (or `make churn N=100000 SEED=7`). As many
sessions as there are visits are opened and dropped: with and without a call, an open stream or a
DELETE (one in ten). One visit in ten is followed by a request that is refused, one in ten by
requests of 2026. Then nobody comes, and the server has to be again what it was before: tasks,
threads, descriptors, sessions, runs, streams in the journal, and memory.

A twentieth of the visits (at least 500) come first, so that what is loaded and cached once is there
when it is looked at for the first time.
"""

import argparse
import asyncio
import secrets
import shutil
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from random import Random

from tests.chaos.ledger import VARIABLE
from tests.chaos.rest import MEGA, Rest, at_rest, say
from tests.chaos.tally import Tally
from tests.chaos.verdict import judge_log
from tests.chaos.visits import MAX_BODY, MODERN, REFUSED, SESSIONS, Visit, Way, Wrong
from tests.chaos.work import ALL_OBJECTS, BLOCKS

from headway.journal import open_journal
from headway.testing import ServerProcess

ROOT = Path(__file__).parents[2]

VISITORS = 32
"""How many come at once: more than two processors can serve, so that they queue."""

IDLE = 5.0
"""Seconds until the server forgets a session that nobody uses, and a stream that has ended. Longer
than a busy machine stands still: to a client that is there, its session must not be lost."""

SETTLING = 120.0
"""Seconds after which what is still held is a leak. The slowest is a session in a journal file: its
stream is ended 1.6 × IDLE behind its last use, and forgotten IDLE behind that."""

SLACK = 50
"""Objects of a kind that are no leak: what looking at the server leaves behind itself for IDLE. The
rarest way of a session is taken by one client in twenty: of 5,000, five times as many."""

FLAT = 0.10
"""Memory may be this share more than before. Of two equal days the second one ends within 3 %; what
an allocator cannot give back depends on the order of things, and the machine's."""

CACHES = 3 * 2 * MEGA
"""What SQLite may add to that: a cache of 2 MiB for each of a journal's three connections, which a
day fills and a warm-up does not."""

INSIDE = ("held", "objects")


class Churn:
    """The server, its visitors, and what they count."""

    def __init__(self, options: argparse.Namespace, place: Path) -> None:
        self.visits: int = options.visits
        self.seed: int = options.seed
        self.tally = Tally()
        self.journal = None if options.journal == "memory" else f"sqlite:///{place / 'journal.db'}"
        self.server = ServerProcess(
            command(self.journal or "memory:"),
            cwd=ROOT,
            env={VARIABLE: str(place / "ledger"), "PYTHONPATH": str(ROOT)},
        )
        self._left = 0
        self._most = 0

    async def run(self) -> None:
        """All of it."""
        async with self.server:
            await self._come(max(500, self.visits // 20), "warm")
            await asyncio.sleep(5 * IDLE)
            before = await self._look()
            say("churn", f"warm: {before}")
            began = time.monotonic()
            self.tally.counts.clear()
            await self._come(self.visits, "day")
            rate = self.visits / (time.monotonic() - began)
            say("churn", f"{self.visits} visits, {rate:.0f} a second, at most {self._most} MiB")
            await self._settle(before)
            code = await self.server.terminate()
            if code:
                self.tally.violation(f"the server ended with {code}")
        judge_log(self.tally, self.server.stderr)

    async def _come(self, visits: int, role: str) -> None:
        self._left = visits
        async with asyncio.TaskGroup() as group:
            for number in range(VISITORS):
                group.create_task(self._visitor(Random(f"{self.seed} {role} {number}")))
            while self._left > 0:
                await asyncio.sleep(1)
                self._most = max(self._most, self.server.held().memory // MEGA)

    async def _visitor(self, chance: Random) -> None:
        while self._left > 0:
            self._left -= 1
            await self._one(chance, _chosen(chance, SESSIONS), "sessions")
            if chance.random() < 0.1:
                await self._one(chance, _chosen(chance, MODERN), "of 2026")
            if chance.random() < 0.1:
                refused = chance.choice(REFUSED)
                await self._one(chance, refused, f"refused {refused.status}")

    async def _one(self, chance: Random, way: Way, kind: str) -> None:
        """One visit; all its connections are torn down behind it."""
        name = getattr(way, "__name__", "refused")
        visit = Visit(self.server.origin, chance)
        try:
            await way(visit)
            self.tally.count(f"{kind}: {name}" if name != "refused" else kind)
        except (Wrong, OSError, EOFError, ValueError, AssertionError) as error:
            self.tally.violation(f"{name}: {type(error).__name__} {error}")
        finally:
            visit.cut_all()

    async def _look(self) -> Rest:
        visit = Visit(self.server.origin, Random(0))
        try:
            rest = await at_rest(self.server, visit, *INSIDE)
        finally:
            visit.cut_all()
        return Rest(rest.held, rest.census | await self._streams())

    async def _streams(self) -> dict[str, int]:
        """Streams in the journal file, by what they are of."""
        if self.journal is None:
            return {}
        async with open_journal(self.journal) as journal:
            kinds = Counter(f"stream.{name.partition('/')[0]}" for name in await journal.streams())
        return dict(kinds)

    async def _settle(self, before: Rest) -> None:
        """Wait until the server holds no more than before; what is left then has leaked."""
        began = time.monotonic()
        allowed = int(before.held.memory * FLAT) + (CACHES if self.journal else 0)
        while True:
            await asyncio.sleep(IDLE / 2)
            now = await self._look()
            grown = now.grown_since(before, memory=allowed, slack=SLACK)
            if not grown or time.monotonic() - began > SETTLING:
                break
        for what in grown:
            self.tally.violation(f"leaked: {what}")
        for name in (ALL_OBJECTS, BLOCKS):
            say("churn", f"{name}: {before.census[name]}, then {now.census[name]}")
        say("churn", f"after {time.monotonic() - began:.0f} s at rest: {now}")


def _chosen(chance: Random, ways: dict[Way, int]) -> Way:
    return chance.choices(list(ways), list(ways.values()))[0]


def command(journal: str) -> list[str]:
    """A real `headway run` that forgets soon."""
    times = (
        f"session_ttl={IDLE}",
        f"keep.ttl={IDLE}",
        f"keep.failed={IDLE}",
        f"max_body={MAX_BODY}",
    )
    options = [word for setting in times for word in ("--set", setting)]
    serve = ["headway", "run", "tests.chaos.work:mcp", "--port", "{port}"]
    return [sys.executable, "-m", *serve, "--journal", journal, *options]


def report(churn: Churn) -> int:
    """Print what was counted and found; the exit code."""
    tally = churn.tally
    lines = [f"  {name:<40}{number:>8}" for name, number in sorted(tally.counts.items())]
    found = Counter(tally.violations)
    lines.append(f"violations {found.total()}")
    lines += [f"  {times} × {what}" for what, times in found.most_common(20)]
    if found:
        lines.append(f"repeat with SEED={churn.seed}")
    sys.stdout.write("\n".join(lines) + "\n")
    return 1 if found else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="make churn", description=__doc__)
    parser.add_argument("--visits", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--journal", choices=["sqlite", "memory"], default="sqlite")
    options = parser.parse_args()
    if options.seed is None:
        options.seed = secrets.randbelow(1_000_000)
    place = Path(tempfile.mkdtemp(prefix="headway-churn-"))
    say("churn", f"{options.visits} visits, journal {options.journal}, SEED={options.seed}")
    churn = Churn(options, place)
    try:
        asyncio.run(churn.run())
        return report(churn)
    finally:
        with suppress(OSError):
            shutil.rmtree(place)


if __name__ == "__main__":
    sys.exit(main())
