"""Calls for workers at a server with scopes: the server checks them, the worker executes them."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from tests.auth.callers import Known, ask, connect, keyed, policy, poor, rich
from tests.auth.issuer import issuing
from tests.kit.floor import floor
from tests.kit.peers import Wire, each_era, served, text_of
from tests.kit.tools import GatedTools
from tests.kit.waits import until

from headway import Settings
from headway.clock import Clock

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def working(url: str, tools: GatedTools, era: str) -> AsyncGenerator[tuple[Known, Known]]:
    """Alice without the scope and with it, at two replicas; a worker executes what they call."""
    async with issuing() as issuer, floor(url) as site, AsyncExitStack() as stack:
        await site.worker(server=tools.mcp)

        async def replica() -> Wire:
            app = served(
                tools.mcp,
                journal=url,
                clock=Clock(),
                settings=Settings(),
                auth=policy(issuer, wait=("net",)),
            )
            return await stack.enter_async_context(app)

        with_scope = await connect(await replica(), era, rich(issuer), knows_tasks=True)
        without = await connect(await replica(), era, poor(issuer), knows_tasks=True)
        yield without, with_scope


@each_era
async def test_a_worker_checks_nobody_and_its_results_are_for_those_with_the_scope(
    era: str, new_redis_url: Callable[[], str]
) -> None:
    tools = GatedTools(wait={"where": "worker"})
    async with working(new_redis_url(), tools, era) as (without, with_scope):
        assert (await without.call("wait")).status == 403
        connection = await with_scope.send(keyed(with_scope, "wait"))
        await until(lambda: tools.runs == 1)
        assert (await without.post(keyed(without, "wait"))).status == 403
        tools.gate.open()
        outcome = await (await connection.answer()).outcome()
        assert text_of(outcome) == "run 1"
        assert (await without.post(keyed(without, "wait"))).status == 403
        again = await (await with_scope.post(keyed(with_scope, "wait"))).outcome()
        assert text_of(again) == "run 1"
        assert tools.runs == 1


async def test_a_task_of_a_worker_is_unknown_without_the_scope(
    new_redis_url: Callable[[], str],
) -> None:
    tools = GatedTools(wait={"where": "worker", "hand_over": "at once"})
    async with working(new_redis_url(), tools, "2026") as (without, with_scope):
        task = (await (await with_scope.call("wait")).outcome())["result"]["taskId"]
        await until(lambda: tools.runs == 1)
        for method in ("tasks/get", "tasks/cancel"):
            assert (await ask(without, method, taskId=task))["error"]["code"] == -32602
        tools.gate.open()
        await until(lambda: tools.ended == 1)
        assert tools.stopped == 0
        assert "error" not in await ask(with_scope, "tasks/get", taskId=task)
