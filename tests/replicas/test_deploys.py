"""A deploy: all processes are replaced, one after the other, amid calls of both eras."""

import asyncio
import os
import random
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from tests.chaos import verdict
from tests.chaos.callers import Caller, Line
from tests.chaos.ledger import VARIABLE, read_ledger
from tests.chaos.tally import Call, Death, Tally
from tests.kit.http import Connection
from tests.kit.waits import PATIENCE, until

from headway.testing import ServerProcess

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(os.name != "posix", reason="POSIX only"),
]

ROOT = Path(__file__).parents[2]
PROCESSES = 4
EACH = 25
"""Calls of each era."""

STEPS = 20
PAUSE = 0.02
"""Seconds between two steps; the last one waits until all processes have been replaced."""


class Turns(Line):
    """Each connection goes to the next process that takes one."""

    def __init__(self, servers: list[ServerProcess], first: int) -> None:
        super().__init__(servers[0].origin)
        self._ports = [server.port for server in servers]
        self._next = first

    async def connect(self, *, receive_buffer: int | None = None) -> Connection:
        for _ in self._ports:
            self._next += 1
            port = self._ports[self._next % len(self._ports)]
            try:
                connection = await Connection.open(self.host, port, receive_buffer=receive_buffer)
            except ConnectionRefusedError:
                continue
            self._connections.append(connection)
            return connection
        raise ConnectionRefusedError


def command(journal: str) -> list[str]:
    run = [sys.executable, "-m", "headway", "run", "tests.chaos.work:mcp"]
    return [*run, "--port", "{port}", "--journal", journal, "--grace", "1s", "--set", "lease=4s"]


def callers_of(servers: list[ServerProcess], tally: Tally) -> list[Caller]:
    callers: list[Caller] = []
    for number in range(2 * EACH):
        caller = Caller(servers[0].origin, tally, random.Random(number), 0.2)
        caller.line = Turns(servers, number)
        callers.append(caller)
    return callers


def call_of(number: int, gate: Path) -> Call:
    kind = "2025 with a key" if number % 2 else "2026 detached"
    arguments: dict[str, object] = {"job": f"job-{number}", "steps": STEPS, "pause": PAUSE}
    arguments["gate"] = str(gate)
    return Call(f"job-{number}", kind, "counted", STEPS, arguments, f"key-{number}")


async def replace(server: ServerProcess, tally: Tally) -> None:
    tally.deaths.append(Death(server.pid, "TERM", 0))
    assert await server.terminate() == 0
    await server.start()


async def test_fifty_calls_outlive_the_replacement_of_four_processes(
    journal: str, tmp_path: Path
) -> None:
    """Each has its result, of work that was done once, and no stream was reset."""
    tally, ledger, gate = Tally(), tmp_path / "ledger", tmp_path / "gate"
    env = {VARIABLE: str(ledger), "PYTHONPATH": str(ROOT)}
    async with AsyncExitStack() as stack:
        servers = [ServerProcess(command(journal), cwd=ROOT, env=env) for _ in range(PROCESSES)]
        for server in servers:
            await stack.enter_async_context(server)
        callers = callers_of(servers, tally)
        tally.calls += [call_of(number, gate) for number in range(len(callers))]
        ways = [
            caller.resume(call) if call.kind.startswith("2025") else caller.modern(call)
            for caller, call in zip(callers, tally.calls, strict=True)
        ]
        working = [asyncio.create_task(way) for way in ways]
        await until(lambda: len(read_ledger(ledger)) == len(callers), "not every call has begun")
        for server in servers:
            await replace(server, tally)
        gate.touch()
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*working)
        for caller in callers:
            await caller.leave()
            caller.line.cut_all()
        for server in servers:
            assert await server.terminate() == 0
    verdict.judge_calls(tally, read_ledger(ledger))
    assert tally.violations == []
    assert [call.ended for call in tally.calls] == ["result"] * len(tally.calls)
    assert tally.counts["restarts"] >= len(tally.calls)
    assert tally.counts["lost connections"] == 0
