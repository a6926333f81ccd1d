"""Somebody else's entries in a queue: told, dropped, and no worker ends of them."""

import importlib
import importlib.util
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
from docket import Execution
from tests.kit.floor import Floor, floor
from tests.kit.peers import Session

from headway.errors import SetupError
from headway.queues import stray_entries

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

WHOLE: dict[Any, Any] = {
    "key": "planted", "when": "2020-01-01T00:00:00+00:00", "function": "run", "args": b"[]",
    "kwargs": b"[]", "attempt": "1", "generation": "1",
}  # fmt: skip

GARBAGE: dict[str, dict[Any, Any]] = {
    **{f"no {name}": {k: v for k, v in WHOLE.items() if k != name} for name in WHOLE},
    "nothing known": {"hello": "world"},
    "no UTF-8": {**WHOLE, "key": b"\xff\xfe"},
    "a function of no UTF-8": {**WHOLE, "function": b"\xff"},
    "no time": {**WHOLE, "when": "yesterday"},
    "no number": {**WHOLE, "attempt": "NaN"},
    "no generation": {**WHOLE, "generation": "x"},
    "a function that there is not": {**WHOLE, "function": "os.system"},
    "a key of something else": {**WHOLE, "key": "process/../../x", "generation": "0"},
    "a key of a megabyte": {**WHOLE, "key": "x" * 1_000_000, "generation": "0"},
    "a trace of no UTF-8": {**WHOLE, "traceparent": b"\xff\xff", "baggage": b"\xff"},
    "a number of a thousand digits": {**WHOLE, "attempt": "9" * 1000},
}


@pytest.fixture
async def site(new_redis_url: Callable[[], str]) -> AsyncGenerator[Floor]:
    async with floor(new_redis_url()) as site:
        yield site


async def test_no_entry_of_a_queue_ends_a_worker(
    site: Floor, caplog: pytest.LogCaptureFixture
) -> None:
    session = await Session.open(await site.replica())
    name = site.url.partition("prefix=")[2] + "queue:default"
    async with redis.asyncio.Redis.from_url(site.url.partition("?")[0]) as planter:
        await site.worker()
        for message in GARBAGE.values():
            await planter.xadd(f"{name}:stream", message)
        await planter.xadd(f"{name}:strikes", {"hello": "world"})
        outcome = (await (await session.call("count", {"upto": 1}, token=1)).rest())[-1]
        assert outcome["result"]["structuredContent"]["upto"] == 1
        left = -1

        async def look() -> None:
            nonlocal left
            left = await planter.xlen(f"{name}:stream")

        while left:
            await look()
    assert caplog.text.count("is no run and is dropped") >= 10


async def test_a_worker_that_starts_behind_such_an_entry_works(site: Floor) -> None:
    session = await Session.open(await site.replica())
    name = site.url.partition("prefix=")[2] + "queue:default"
    async with redis.asyncio.Redis.from_url(site.url.partition("?")[0]) as planter:
        await planter.xadd(f"{name}:stream", {"key": "x"})
    await site.worker()
    outcome = (await (await session.call("count", {"upto": 1}, token=1)).rest())[-1]
    assert outcome["result"]["structuredContent"]["upto"] == 1


async def test_a_queue_that_is_something_else_for_a_while_is_served_behind_it(site: Floor) -> None:
    session = await Session.open(await site.replica())
    name = site.url.partition("prefix=")[2] + "queue:default:stream"
    async with redis.asyncio.Redis.from_url(site.url.partition("?")[0]) as planter:
        worker = await site.worker()
        await planter.delete(name)
        await planter.set(name, "a text")
        answer = await session.call("count", {"upto": 1}, token=1)
        await answer.message()
        await planter.delete(name)
    del worker
    assert (await answer.rest())[-1]["result"]["structuredContent"]["upto"] == 1


def test_docket_takes_entries_apart_where_it_is_guarded() -> None:
    """Fails when Docket moves the name that `guard_entries` replaces, or adds another place."""
    spec = importlib.util.find_spec("docket")
    assert spec is not None
    assert spec.origin is not None
    users = [
        path.name
        for path in Path(spec.origin).parent.rglob("*.py")
        if "Execution.from_message(" in path.read_text()
    ]
    # `docket.docket` shows what is in a queue, which nobody asks for here.
    assert set(users) - {"_docket_snapshot.py", "docket.py"} == {"worker.py"}


def test_a_docket_that_is_not_known_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = importlib.import_module(stray_entries.WORKER)
    assert issubclass(worker.Execution, Execution)
    monkeypatch.delattr(worker, "Execution")
    with pytest.raises(SetupError, match=r"docket\.worker\.Execution"):
        stray_entries.guard_entries()
