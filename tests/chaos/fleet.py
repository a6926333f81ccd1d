"""A storm over a whole fleet: replicas, workers, a Redis and a balancer, and the same proof.

`python -m tests.chaos.fleet --seconds 60 --seed 7` (or `make fleet SECONDS=60 SEED=7`): nginx,
round robin and without stickiness, before three replicas; two workers; one Redis that writes to
disk; 200 callers of both eras whose connections are cut. Replicas and workers are killed and told
to stop; Redis is killed and started again; all replicas are replaced, one after the other. In the
end callers, the ledger of what was done and the journal have to tell the same story.
"""

import argparse
import asyncio
import random
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path

from tests.chaos import verdict
from tests.chaos.glutton import Glutton, judge_filling
from tests.chaos.ledger import KNOWN, VARIABLE, WORKERS, read_ledger
from tests.chaos.mischief import cutting, end
from tests.chaos.saboteur import Saboteur
from tests.chaos.storm import HEADWAY, Storm, asking, meanwhile, play
from tests.deploy.proxies import HOST, program, proxy
from tests.kit.redis_servers import Server, binary

from headway.journal import open_journal
from headway.testing import Proxy, ServerProcess

ROOT = Path(__file__).parents[2]
REPLICAS = 3
WORKING = 2

LEASE = "6s"
"""Longer than any of so many processes waits for one of two processors."""

GRACE = "1s"
PATIENCE = 150.0
SETTLING = 30.0
"""Seconds: some leases, on a machine that is as busy as it can be."""

CUT_EVERY = 0.25

AWAY = 2
"""Processes that are away at the same time, at most."""

PAUSES = (0.02, 0.4)
"""Seconds between steps: 200 callers of the fastest tools would only measure the machine."""


KEPT, KEPT_EACH = 48_000_000, 2_000_000
"""Bytes that the journal keeps, some of them for each second, as in the soak."""

MANY = ("max_runs_each", "max_sessions_each", "max_open_each")
"""Limits of one caller: the callers of the storm are one, beside the one that fills the journal."""


def command(kind: str, kept: int, *options: str) -> list[str]:
    """A `headway run` or a `headway worker`."""
    times = ("--set", f"lease={LEASE}", "--grace", GRACE)
    room = [f"keep.max_bytes={kept}", *(f"{name}=10000" for name in MANY)]
    settings = [word for setting in room for word in ("--set", setting)]
    run = [sys.executable, "-m", "headway", kind, "tests.chaos.work:mcp"]
    return [*run, *options, *times, *settings]


def replica_command(journal: str, kept: int) -> list[str]:
    """A `headway run` that leaves every other tool to workers."""
    place = ("--port", "{port}", "--journal", journal, "--allow-host", HOST)
    return command("run", kept, *place)


def worker_command(journal: str, kept: int) -> list[str]:
    """A `headway worker`."""
    place = ("--health-port", "{port}", "--journal", journal, "--concurrency", "50")
    return command("worker", kept, *place)


class Fleet(Storm):
    """One storm over a fleet."""

    name = "fleet"

    def __init__(self, options: argparse.Namespace, place: Path) -> None:
        self.seconds: float = options.seconds
        super().__init__(
            options.seed,
            HEADWAY,
            place,
            patience=PATIENCE,
            grace=self.seconds,
            callers=options.callers,
            pauses=PAUSES,
        )
        found = binary()
        if found is None or program("nginx") is None:
            raise SystemExit("make fleet needs redis-server and nginx: apt-get install them")
        self.redis = Server(found, place, "--appendonly", "yes", "--appendfsync", "always")
        self.replicas: Sequence[ServerProcess] = []
        self.workers: Sequence[ServerProcess] = []
        self._dying: dict[ServerProcess, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """All of it."""
        async with AsyncExitStack() as stack:
            self.redis.start()
            stack.callback(self.redis.kill)
            self.replicas = await self._started(stack, replica_command, REPLICAS)
            self.workers = await self._started(stack, worker_command, WORKING)
            balancer = proxy("nginx", [one.port for one in self.replicas], self.place)
            await stack.enter_async_context(balancer)
            front = await stack.enter_async_context(Proxy(f"{balancer.origin}/mcp"))
            self.say(f"{REPLICAS} replicas, {WORKING} workers, a storm of {self.seconds:g} s")
            glutton = Glutton(balancer.origin, self.tally)
            cuts = cutting(front, self.chance("cuts"), self.tally, CUT_EVERY)
            saboteur = Saboteur(balancer.origin, self.tally, self.chance("sabotage"))
            others = meanwhile(glutton.fill()), meanwhile(saboteur.work())
            async with meanwhile(cuts), others[0], others[1]:
                await self.storm(front.origin, "storm", self.seconds, self._mischief)
            await glutton.until_full()
            front.plan_nothing()
            self.say(f"{self.tally.kills} kills; now everything is read again")
            await self.read_again(front.origin)
            for caller in self.callers:
                await self.guarded(caller.leave(), None)
            self.tally.count("cuts", front.counts.cuts)
            self.tally.count("connections", front.counts.connections)
            await self._settle()
            for server in (*self.replicas, *self.workers):
                await self._end_well(server)
            await self._judge()

    async def _settle(self) -> None:
        """Wait until nothing goes on, as long as it may take to find a run that is nobody's."""
        async with open_journal(self.redis.url) as journal:
            with suppress(TimeoutError):
                async with asyncio.timeout(SETTLING):
                    while await journal.streams("run/", unfinished=True):  # noqa: ASYNC110
                        await asyncio.sleep(0.2)

    async def _started(
        self, stack: AsyncExitStack, command: Callable[[str, int], list[str]], many: int
    ) -> list[ServerProcess]:
        env = {VARIABLE: str(self.ledger), WORKERS: "1", KNOWN: "1", "PYTHONPATH": str(ROOT)}
        told = command(self.redis.url, int(KEPT + self.seconds * KEPT_EACH))
        servers = [ServerProcess(told, cwd=ROOT, env=env) for _ in range(many)]
        for server in servers:
            stack.callback(server.close)
            server.spawn()
        for server in servers:
            await server.wait_ready()
        return servers

    # Mischief

    async def _mischief(self, over: asyncio.Event) -> None:
        """Deaths, a Redis that is gone for a moment, deaths, a deploy, deaths; then all run."""
        chance = self.chance("deaths")
        for what in (self._restart_redis, self._deploy):
            enough = asyncio.Event()
            timer = asyncio.get_running_loop().call_later(self.seconds / 4, enough.set)
            await self._deaths(chance, enough)
            timer.cancel()
            await what()
        await self._deaths(chance, over)

    async def _deaths(self, chance: random.Random, over: asyncio.Event) -> None:
        """One death after the other until it is `over`, then until all are back.

        Who is killed on two processors takes long to be back, and is not waited for.
        """
        while not over.is_set():
            await asyncio.sleep(chance.uniform(0.5, 2.5))
            victim = chance.choice([*self.replicas, *self.workers])
            kill, pause = chance.random() < 0.6, chance.uniform(0, 0.5)
            if victim not in self._dying and len(self._dying) < AWAY:
                dying = asyncio.create_task(self._die(victim, kill, pause))
                self._dying[victim] = dying
                dying.add_done_callback(lambda _, one=victim: self._dying.pop(one))
        await asyncio.gather(*self._dying.values())

    async def _die(self, victim: ServerProcess, kill: bool, pause: float) -> None:
        await end(victim, self.tally, kill=kill)
        await asyncio.sleep(pause)
        victim.spawn()
        await victim.wait_ready()

    async def _restart_redis(self) -> None:
        self.redis.kill()
        await asyncio.sleep(1)
        await asyncio.to_thread(self.redis.start)
        self.tally.count("restarts of Redis")

    async def _deploy(self) -> None:
        """All replicas anew, one after the other, as an orchestrator does it."""
        for server in self.replicas:
            await end(server, self.tally, kill=False)
            server.spawn()
            await server.wait_ready()
        self.tally.count("deploys")

    async def _end_well(self, server: ServerProcess) -> None:
        code = await end(server, self.tally, kill=False)
        if code:
            self.tally.violation(f"a process ended with {code}")
        self.tally.count("starts", server.starts)

    async def _judge(self) -> None:
        for caller in self.callers:
            caller.line.cut_all()
        ledger = read_ledger(self.ledger)
        verdict.judge_calls(self.tally, ledger)
        judge_filling(self.tally, ledger)
        await verdict.judge_journal(self.tally, self.redis.url)
        for number, server in enumerate((*self.replicas, *self.workers)):
            # That Redis was away is something to complain of.
            lines = server.stderr.splitlines()
            log = "\n".join(line for line in lines if " journal" not in line)
            verdict.judge_log(self.tally, log)
            (self.place / f"server-{number}.log").write_text(server.stderr)


def main() -> int:
    parser = asking("make fleet", __doc__, seconds=60.0)
    parser.add_argument("--callers", type=int, default=200)
    options = parser.parse_args()
    return play(Fleet, options, what=f"{options.callers} callers")


if __name__ == "__main__":
    sys.exit(main())
