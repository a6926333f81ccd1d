"""Replicas come and go behind each proxy: nothing is lost that could be served, or done twice."""

import asyncio
import signal
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from tests.deploy.client import Client
from tests.deploy.conftest import NO_APP, Deployment, deployed, started
from tests.deploy.proxies import replica
from tests.deploy.witness import Witness, witness
from tests.kit.http import Answer
from tests.kit.peers import Modern, Wire, text_of

from headway.testing.server_process import ServerProcess

pytestmark = pytest.mark.anyio

PAIRS = 2
"""Callers of each era."""


@pytest.fixture
async def own(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncGenerator[Deployment]:
    """A proxy and replicas of this test alone, started with the options that it asks for."""
    async with AsyncExitStack() as stack:
        replicas = [replica(tmp_path / "journal.db", *request.param) for _ in range(2)]
        await started(stack, replicas)
        built = await deployed(stack, name, tmp_path, replicas)
        stack.callback(built.wire.cut_all)
        yield built


class Caller:
    """Calls the tool again and again, and keeps what it was answered."""

    def __init__(
        self, deployment: Deployment, seen: Witness, era: str, stop: asyncio.Event
    ) -> None:
        self.deployment, self.seen, self.era, self.stop = deployment, seen, era, stop
        self.jobs: list[str] = []
        self.failures: list[object] = []

    async def run(self) -> None:
        while not self.stop.is_set():
            client = Client(self.deployment, self.seen)
            self.jobs.append(client.job)
            answer: Answer = await client.call(self.era, 2, token="t")
            if answer.status != 200:
                self.failures.append((client.job, answer.status, await answer.body()))
                continue
            outcome = await answer.outcome()
            if "result" not in outcome:
                self.failures.append((client.job, answer.status, outcome))


async def refuses_calls(replica: ServerProcess) -> bool:
    """Whether its `shutdown_delay` is over."""
    wire = Wire(replica.origin, NO_APP, NO_APP)
    page = await (await wire.ask("GET", {}, path="/metrics")).body()
    wire.cut_all()
    return b"headway_draining 1.0" in page


@pytest.mark.parametrize(
    "own", [("--set", "shutdown_delay=5s")], indirect=True, ids=["shutdown_delay"]
)
async def test_a_rolling_deploy_fails_no_call_and_does_none_twice(own: Deployment) -> None:
    """Told to stop with a call at work, and replaced, while callers of both eras go on."""
    stop = asyncio.Event()
    async with witness(is_waiting=False) as quick, witness() as slow:
        callers = [Caller(own, quick, era, stop) for era in ("2025", "2026") * PAIRS]
        calling = [asyncio.create_task(caller.run()) for caller in callers]
        long = Client(own, slow)
        answer = await long.call("2026", 1, token="t")
        execution = await slow.began(long.job)
        stopping = own.replica_of(execution.pid)
        stopping.send_signal(signal.SIGTERM)
        while not await refuses_calls(stopping):
            await quick.has_heard_of(len(quick.executions) + len(callers))
        await quick.has_heard_of(len(quick.executions) + 2 * len(callers))
        execution.go_on()
        assert text_of(await answer.outcome()).startswith(long.job)
        assert await stopping.ended() == 0
        await quick.has_heard_of(len(quick.executions) + 2 * len(callers))
        await stopping.start()
        await quick.has_heard_of(len(quick.executions) + 2 * len(callers))
        stop.set()
        await asyncio.gather(*calling)
        failures = [failure for caller in callers for failure in caller.failures]
        assert failures == [], own.proxy.stderr[-2000:]
        done = {job: len(quick.executions[job]) for caller in callers for job in caller.jobs}
        assert set(done.values()) == {1}


@pytest.mark.parametrize(
    "own", [("--set", "commit_after=1m")], indirect=True, ids=["no-byte-is-sent"]
)
async def test_a_call_whose_replica_dies_is_not_done_on_another(
    own: Deployment, seen: Witness
) -> None:
    """Not a byte of its answer was sent, which is where proxies are tempted to try again."""
    client = Client(own, seen)
    call = asyncio.create_task(client.call("2026", 1))
    execution = await seen.began(client.job)
    await own.replica_of(execution.pid).kill()
    answer = await call
    assert answer.status >= 500
    assert len(seen.executions[client.job]) == 1
    assert await execution.was_stopped()
    modern = Modern(own.wire)
    for _ in range(4):
        again = await modern.post(modern.body("tools/list"), client.headers)
        assert again.status == 200, await again.body()
