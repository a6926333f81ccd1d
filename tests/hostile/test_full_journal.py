"""A journal that callers fill: whose results go, and what is told of those that went."""

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from tests.kit.fleet import fleet_of
from tests.kit.http import Answer
from tests.kit.known import KnownModern, connect_as, known_server
from tests.kit.peers import Client, Session, Wire, connect, each_era, served, text_of
from tests.kit.waits import until, within

from headway import Headway, Settings, part, report
from headway.clock import Clock
from headway.engine.idempotency import RunNames
from headway.settings import Retention
from headway.testing import FakeClock

pytestmark = pytest.mark.anyio

ROOM = 400_000
SETTINGS = Settings(retention=Retention(max_bytes=ROOM), progress_rate=0, max_result=50_000)
TASKS = {"extensions": {"io.modelcontextprotocol/tasks": {}}}
META_KEY = "headway/idempotency-key"

EXECUTED = "This call was executed, and what it said is no longer kept"


class Shop:
    """Tools that count what they did, and one that says much."""

    def __init__(self) -> None:
        self.paid = 0
        self.go = asyncio.Event()
        self.mcp = known_server("shop")
        self.mcp.add_tool(self.pay, detached=True)
        self.mcp.add_tool(self.pay_later, detached=True, hand_over="at once")
        self.mcp.add_tool(self.pay_in_time, detached=True, hand_over="10ms")
        self.mcp.add_tool(self.big, structured_output=False)

        # So that runs are resources.
        @self.mcp.resource("shop://sign")
        def sign() -> str:
            return "open"

    async def pay(self, amount: int = 1) -> str:
        self.paid += 1
        return f"receipt {self.paid}"

    async def pay_later(self) -> str:
        report(1, 2)
        part({"paid": "soon"})
        await self.go.wait()
        return await self.pay()

    async def pay_in_time(self) -> str:
        return await self.pay_later()

    async def big(self, size: int = 20_000) -> str:
        return "x" * size


def serving(shop: Shop, journal: str) -> AbstractAsyncContextManager[Wire]:
    return served(shop.mcp, journal=journal, clock=Clock(), settings=SETTINGS)


async def call(
    client: Client, tool: str, key: str | None = None, arguments: Any = None, **more: Any
) -> Answer:
    """Call a tool; `more` goes into the params, as `task` does."""
    params: dict[str, Any] = {"name": tool, "arguments": arguments or {}, **more}
    if isinstance(client, Session):
        message = client.message("tools/call", params)
    else:
        message = client.body("tools/call", params)
    if key is not None:
        message["params"].setdefault("_meta", {})[META_KEY] = key
    return await client.post(message)


async def outcome(client: Client, tool: str, key: str | None = None, **more: Any) -> dict[str, Any]:
    return await (await call(client, tool, key, **more)).outcome()


async def fill(client: Client, times: int = 60) -> None:
    """Three times what the journal may keep, in results that nobody will read again."""
    for _ in range(times):
        assert "result" in await outcome(client, "big")


def is_executed(found: dict[str, Any]) -> bool:
    error = found["error"]
    assert EXECUTED in error["message"], found
    assert error["data"]["executed"] is True
    return error["code"] == -32602


@each_era
async def test_what_others_put_into_the_journal_takes_nobodys_results(
    any_journal: str, era: str
) -> None:
    shop = Shop()
    async with serving(shop, any_journal) as wire:
        alice, bob = await connect_as(wire, era, "alice"), await connect_as(wire, era, "bob")
        first = text_of(await outcome(alice, "pay", "k"))
        await fill(bob)
        assert text_of(await outcome(alice, "pay", "k")) == first
        assert shop.paid == 1
        assert wire.app.journal.usage.dropped["keep.max_bytes"] > 20


@each_era
async def test_who_fills_the_journal_himself_is_told_that_the_call_was_executed(
    any_journal: str, era: str
) -> None:
    shop = Shop()
    async with serving(shop, any_journal) as wire:
        alice = await connect_as(wire, era, "alice")
        await outcome(alice, "pay", "k")
        await fill(alice)
        again = await call(alice, "pay", "k")
        assert again.status == 400
        assert is_executed(await again.json())
        other = await outcome(alice, "pay", "k", arguments={"amount": 2})
        assert "used for another tool or other arguments" in other["error"]["message"]
        assert shop.paid == 1
        assert text_of(await outcome(alice, "pay", "new")) == "receipt 2"


@each_era
async def test_callers_without_a_name_do_not_pay_twice_either(any_journal: str, era: str) -> None:
    """All of them are one caller: their results go, their keys do not."""
    shop = Shop()
    mcp = Headway("anonymous")
    mcp.add_tool(shop.pay)
    mcp.add_tool(shop.big, structured_output=False)
    async with served(mcp, journal=any_journal, clock=Clock(), settings=SETTINGS) as wire:
        one, another = await connect(wire, era), await connect(wire, era)
        await outcome(one, "pay", "k")
        await fill(another)
        assert is_executed(await outcome(one, "pay", "k"))
        assert shop.paid == 1


async def handed_over(client: Client, tool: str, **more: Any) -> str:
    """The id of a call that goes on, in whatever way its client has been given it."""
    result = (await outcome(client, tool, **more))["result"]
    task = result.get("task") or result
    return task.get("taskId") or result["structuredContent"]["run_id"].partition(".")[0]


async def ask(client: Client, method: str, params: dict[str, Any]) -> dict[str, Any]:
    return await (await client.request(method, params)).outcome()


async def ended(wire: Wire, shop: Shop) -> None:
    shop.go.set()
    await until(lambda: not wire.app.engine.runs)


async def test_a_task_of_2026_that_was_dropped_was_executed(any_journal: str) -> None:
    shop = Shop()
    async with serving(shop, any_journal) as wire:
        alice = KnownModern(wire, "alice", TASKS)
        task = await handed_over(alice, "pay_later")
        await ended(wire, shop)
        await fill(KnownModern(wire, "bob"))
        found = await ask(alice, "tasks/get", {"taskId": task})
        assert found["result"]["status"] == "completed"
        await fill(alice)
        for method in ("tasks/get", "tasks/update", "tasks/cancel"):
            assert is_executed(await ask(alice, method, {"taskId": task}))
        mallory = KnownModern(wire, "mallory", TASKS)
        foreign = await ask(mallory, "tasks/get", {"taskId": task})
        assert "No such task" in foreign["error"]["message"]
        assert shop.paid == 1


async def test_a_task_of_2025_that_was_dropped_was_executed(any_journal: str) -> None:
    shop = Shop()
    async with serving(shop, any_journal) as wire:
        alice = await connect_as(wire, "2025", "alice")
        task = await handed_over(alice, "pay_later", task={})
        await ended(wire, shop)
        await fill(alice)
        elsewhere = await connect_as(wire, "2025", "alice")
        for session in (alice, elsewhere):
            for method in ("tasks/get", "tasks/result", "tasks/cancel"):
                assert is_executed(await ask(session, method, {"taskId": task}))
        listed = await ask(alice, "tasks/list", {})
        assert listed["result"] == {"tasks": []}
        assert shop.paid == 1


@each_era
async def test_a_handle_to_what_was_dropped_says_that_it_was_executed(
    any_journal: str, era: str
) -> None:
    shop = Shop()
    async with serving(shop, any_journal) as wire:
        alice = await connect_as(wire, era, "alice")
        run = await handed_over(alice, "pay_in_time")
        await ended(wire, shop)
        await fill(alice)
        result = (await outcome(alice, "continue_run", arguments={"run_id": run}))["result"]
        assert result["isError"]
        assert EXECUTED in result["content"][0]["text"]
        assert shop.paid == 1


@each_era
async def test_a_run_that_was_dropped_is_a_resource_that_says_so(
    any_journal: str, era: str
) -> None:
    shop = Shop()
    async with serving(shop, any_journal) as wire:
        alice = await connect_as(wire, era, "alice")
        run = await handed_over(alice, "pay_in_time")
        await ended(wire, shop)
        await fill(alice)
        for uri in (f"headway://runs/{run}", f"headway://runs/{run}/result"):
            found = await ask(alice, "resources/read", {"uri": uri})
            assert is_executed(found)
            assert found["error"]["data"]["uri"] == uri
        mallory = await connect_as(wire, era, "mallory")
        found = await ask(mallory, "resources/read", {"uri": f"headway://runs/{run}"})
        assert "Unknown resource" in found["error"]["message"]


@each_era
async def test_a_result_that_was_set_aside_and_dropped_is_told_so(
    any_journal: str, era: str
) -> None:
    shop = Shop()
    async with serving(shop, any_journal) as wire:
        alice = await connect_as(wire, era, "alice")
        large = await outcome(alice, "big", arguments={"size": 60_000})
        uri = large["result"]["content"][1]["uri"]
        assert "result" in await ask(alice, "resources/read", {"uri": uri})
        # It is older than the run that links to it, so there is a moment when it alone is gone.
        (aside,) = await wire.app.journal.streams("result/")
        await wire.app.journal.drop(aside)
        assert is_executed(await ask(alice, "resources/read", {"uri": uri}))
        small = uri.replace(uri.split("/")[-2], "x" * 40)
        assert "Unknown" in (await ask(alice, "resources/read", {"uri": small}))["error"]["message"]


@each_era
async def test_a_key_that_outlives_its_result_is_known_to_every_process(
    any_journal: str, era: str
) -> None:
    if any_journal == "memory:":
        pytest.skip("a journal of one process")
    shop = Shop()
    async with fleet_of([shop.mcp] * 2, any_journal, SETTINGS) as fleet:
        here, there = [await connect_as(replica, era, "alice") for replica in fleet.replicas]
        await outcome(here, "pay", "k")
        await fill(here)
        assert is_executed(await outcome(there, "pay", "k"))
        assert shop.paid == 1


@each_era
async def test_who_repeats_a_call_as_its_result_is_dropped_hears_no_internal_error(
    any_journal: str, era: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at the key and the look at the run it may go."""
    shop = Shop()
    async with serving(shop, any_journal) as wire:
        alice = await connect_as(wire, era, "alice")
        await outcome(alice, "pay", "k")
        find = RunNames.find_run

        async def find_and_drop(keys: RunNames, key: str) -> Any:
            found = await find(keys, key)
            if found is not None:
                await wire.app.journal.drop(found.stream)
            return found

        monkeypatch.setattr(RunNames, "find_run", find_and_drop)
        assert is_executed(await outcome(alice, "pay", "k"))
        assert shop.paid == 1


FEW = Settings(max_keys_each=2, max_keys=3, progress_rate=0)


@each_era
async def test_who_has_as_many_keys_as_may_be_is_refused_and_nobody_else(
    any_journal: str, era: str
) -> None:
    """Refused and not forgotten: a key that were forgotten would be executed again."""
    shop = Shop()
    async with served(shop.mcp, journal=any_journal, clock=Clock(), settings=FEW) as wire:
        alice, bob = await connect_as(wire, era, "alice"), await connect_as(wire, era, "bob")
        first = [text_of(await outcome(alice, "pay", key)) for key in ("1", "2")]
        refused = await call(alice, "pay", "3")
        assert (refused.status, refused.headers["retry-after"]) == (503, "60")
        error = (await refused.json())["error"]
        assert "2 of your idempotency keys and handles are kept" in error["message"]
        assert error["data"] == {"limit": "max_keys_each"}
        assert [text_of(await outcome(alice, "pay", key)) for key in ("1", "2")] == first
        assert text_of(await outcome(alice, "pay")) == "receipt 3"  # without a key
        assert text_of(await outcome(bob, "pay", "1")) == "receipt 4"
        carol = await call(await connect_as(wire, era, "carol"), "pay", "1")
        assert (await carol.json())["error"]["data"] == {"limit": "max_keys"}
        assert shop.paid == 4


@each_era
async def test_a_call_for_whose_handle_there_is_no_room_stays_with_its_request(era: str) -> None:
    shop = Shop()
    settings = Settings(max_keys_each=1, progress_rate=0)
    async with served(shop.mcp, clock=Clock(), settings=settings) as wire:
        alice = await connect_as(wire, era, "alice")
        await outcome(alice, "pay", "1")
        answering = asyncio.create_task(outcome(alice, "pay_in_time"))
        await until(lambda: wire.app.engine.runs)
        shop.go.set()
        assert text_of(await within(answering)) == "receipt 2"


async def test_a_task_of_2025_for_which_there_is_no_room_is_refused() -> None:
    shop = Shop()
    settings = Settings(max_keys_each=1, progress_rate=0)
    async with served(shop.mcp, clock=Clock(), settings=settings) as wire:
        alice = await connect_as(wire, "2025", "alice")
        await outcome(alice, "pay", "1")
        refused = await call(alice, "pay_later", task={})
        assert (await refused.json())["error"]["data"] == {"limit": "max_keys_each"}
        await until(lambda: not wire.app.engine.runs)
        assert shop.paid == 1


async def test_keys_make_room_for_new_ones_when_their_time_is_over() -> None:
    shop, clock = Shop(), FakeClock()
    async with served(shop.mcp, clock=clock, settings=FEW) as wire:
        alice = await connect_as(wire, "2026", "alice")
        for key in ("1", "2"):
            await outcome(alice, "pay", key)
        assert (await call(alice, "pay", "3")).status == 503
        await clock.advance(wire.app.journal.retention.ttl * 1.1, step=60)
        assert text_of(await outcome(alice, "pay", "3")) == "receipt 3"
