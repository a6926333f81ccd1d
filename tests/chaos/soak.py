"""A storm of calls, cuts, kills and restarts, and the proof that every promise held.

`python -m tests.chaos.soak --seconds 120 --seed 7` (or `make chaos SECONDS=120 SEED=7`). Two
thirds of the time the server is killed and told to stop while connections are cut; then it is
left alone but for the cuts, so that what it leaks can be seen. `--server sdk` and
`--server sdk-store` do the same to the official SDK's own transport; `--cuts-only` lets the server
live all the time, and asks less of it.
"""

import argparse
import asyncio
import shlex
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.chaos import verdict
from tests.chaos.glutton import Glutton, judge_filling
from tests.chaos.ledger import KNOWN, VARIABLE, read_ledger
from tests.chaos.mischief import cutting, dying, end
from tests.chaos.rest import MEGA, Rest, at_rest
from tests.chaos.saboteur import Saboteur
from tests.chaos.storm import HEADWAY, SDK, THREADED, Storm, asking, meanwhile, play

from headway.testing import Proxy, ServerProcess

ROOT = Path(__file__).parents[2]
LEASE = "1s"
GRACE = "300ms"

PATIENCE = {"headway": 90.0, "sdk": 20.0, "sdk-store": 20.0, "other": 20.0}
"""Seconds that calls may take when nothing happens to the server any more. The slowest machine
has to do with Headway's. Many calls of the SDK's never end; they take 2 s where nothing is cut."""

SETTLING = 60.0
"""Seconds after which what is still held is a leak. Idle threads of a pool go after ten; where a
machine has no time for it, later."""

KEPT, KEPT_EACH = 24_000_000, 500_000
"""Bytes that the journal keeps, some of them for each second: twice what all calls of the storm
say, so that one caller who fills it must not take theirs."""

MEMORY = 64 * MEGA
"""Bytes that may have come: results are kept for an hour, so that a journal grows in a soak."""


def headway_command(place: Path, kept: int) -> list[str]:
    """A real `headway run` on a journal file."""
    options = ("--port", "{port}", "--journal", f"sqlite:///{place / 'journal.db'}")
    times = ("--set", f"lease={LEASE}", "--grace", GRACE)
    room = ("--set", f"keep.max_bytes={kept}", "--set", "max_sessions_each=10000")
    run = [sys.executable, "-m", "headway", "run", "tests.chaos.work:mcp"]
    return [*run, *options, *times, *room]


def sdk_command(store: str) -> list[str]:
    """The SDK's own transport."""
    return [sys.executable, "-m", "tests.chaos.serve_sdk", "{port}", store]


class Soak(Storm):
    """One soak: a storm over a server and the proxy before it."""

    name = "chaos"

    def __init__(self, options: argparse.Namespace, place: Path) -> None:
        self.seconds: float = options.seconds
        name = "other" if options.command else options.server
        self.is_headway = name == "headway"
        self.is_mortal: bool = not options.cuts_only
        super().__init__(
            options.seed,
            HEADWAY if self.is_headway else SDK,
            place,
            patience=PATIENCE[name],
            grace=self.seconds * self.is_headway,
        )
        commands = {
            "headway": headway_command(place, int(KEPT + self.seconds * KEPT_EACH)),
            "sdk": sdk_command("none"),
            "sdk-store": sdk_command("memory"),
            "other": shlex.split(options.command or ""),
        }
        self.server = ServerProcess(
            commands[name],
            cwd=ROOT,
            env={VARIABLE: str(self.ledger), KNOWN: "1", "PYTHONPATH": str(ROOT)},
        )
        self.glutton = Glutton(self.server.origin, self.tally)

    async def run(self) -> None:
        """All of it."""
        async with self.server, Proxy(f"{self.server.origin}/mcp") as proxy:
            self.say(f"server process {self.server.pid}, a storm of {self.seconds * 0.65:.0f} s")
            async with meanwhile(cutting(proxy, self.chance("cuts"), self.tally, 0.06)):
                mischief = self._die if self.is_mortal else None
                async with self._filled():
                    await self.storm(proxy.origin, "storm", self.seconds * 0.65, mischief)
            self.say(f"{self.tally.kills} kills so far; now cuts only")
            if self.is_mortal:
                await end(self.server, self.tally, kill=False)
                await self.server.start()
            before = await self._warm()
            async with meanwhile(cutting(proxy, self.chance("more cuts"), self.tally, 0.06)):
                await self.storm(proxy.origin, "cuts", self.seconds * 0.35)
            proxy.plan_nothing()
            if self.is_headway:
                await self.read_again(self.server.origin)
            await self._compare(before)
            self.tally.count("cuts", proxy.counts.cuts)
            self.tally.count("connections", proxy.counts.connections)
            self.tally.count("connections refused", proxy.counts.refused)
            code = await end(self.server, self.tally, kill=False)
            if code and self.is_headway:
                self.tally.violation(f"the server ended with {code}")
        self.tally.count("starts", self.server.starts)
        await self._judge()

    @asynccontextmanager
    async def _filled(self) -> AsyncGenerator[None]:
        """Meanwhile others fill the journal, which is full when this is left, and break rules."""
        if not self.is_headway:
            yield
            return
        saboteur = Saboteur(self.server.origin, self.tally, self.chance("sabotage"))
        async with meanwhile(self.glutton.fill()), meanwhile(saboteur.work()):
            yield
        await self.glutton.until_full()

    async def _die(self, over: asyncio.Event) -> None:
        await dying(self.server, self.chance("deaths"), self.tally, 2.0, over)

    # At rest

    async def _warm(self) -> Rest:
        """What the server holds when nobody calls, and everything was used."""
        caller = self.caller(self.server.origin, "warm")
        for kind in self.kinds:
            for _ in range(3 if self.is_headway else 1):
                await self.one(caller, kind)
        await self.guarded(caller.leave(), None)
        return await self._at_rest()

    async def _at_rest(self) -> Rest:
        """What it holds with a thread in its pool, which one more call puts there.

        How many idle ones there are is otherwise a matter of chance: they go ten seconds later,
        and only when another one is used.
        """
        caller = self.caller(self.server.origin, "rest")
        await self.one(caller, THREADED if self.is_headway else self.kinds[0])
        await self.guarded(caller.leave(), None)
        return await at_rest(self.server, caller.line, "held")

    async def _compare(self, before: Rest) -> None:
        """Wait until the server holds no more than before, and complain when it does not."""
        for caller in self.callers:
            await self.guarded(caller.leave(), None)
        until = time.monotonic() + SETTLING
        while True:
            now = await self._at_rest()
            more = now.grown_since(before, memory=MEMORY)
            if not more or time.monotonic() > until:
                break
            await asyncio.sleep(0.2)
        for what in more:
            self.tally.violation(f"leaked: {what}")
        self.say(f"at rest: {now}; before: {before}")

    async def _judge(self) -> None:
        for caller in self.callers:
            caller.line.cut_all()
        verdict.judge_calls(self.tally, read_ledger(self.ledger))
        if self.is_headway:
            judge_filling(self.tally, read_ledger(self.ledger))
            await verdict.judge_journal(self.tally, f"sqlite:///{self.place / 'journal.db'}")
            verdict.judge_log(self.tally, self.server.stderr)
        verdict.save(self.server.stderr, self.place)


def main() -> int:
    parser = asking("make chaos", __doc__, seconds=120.0)
    parser.add_argument("--server", choices=["headway", "sdk", "sdk-store"], default="headway")
    parser.add_argument("--command", help="another server instead: how to start it, with {port}")
    parser.add_argument("--cuts-only", action="store_true", help="let the server live")
    options = parser.parse_args()
    return play(Soak, options, what=f"server {options.command or options.server}")


if __name__ == "__main__":
    sys.exit(main())
