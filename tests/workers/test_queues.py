"""Queues: who serves which, waiting, limits, and what is planted in them."""

import asyncio
import importlib.util
import itertools
import pickle
import sys
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import redis.asyncio
from tests.kit.floor import Floor, floor
from tests.kit.http import Answer
from tests.kit.peers import Modern, Session, connect, each_era, text_of
from tests.kit.waits import PATIENCE, until

from headway.engine import Engine, Run, stopping_error
from headway.engine.idempotency import NamedRun, RunNames
from headway.engine.workers.dispatch import Dispatch
from headway.errors import SetupError
from headway.events import Completed, Forgotten, decode_json
from headway.journal import open_journal
from headway.queues import no_pickle, open_queues
from headway.stream_names import checkpoint_stream, is_for_workers

pytestmark = pytest.mark.anyio


@pytest.fixture
async def site(new_redis_url: Callable[[], str]) -> AsyncGenerator[Floor]:
    async with floor(new_redis_url()) as site:
        yield site


async def waiting_runs(url: str) -> list[str]:
    async with open_journal(url) as journal:
        streams = await journal.streams("run/", unfinished=True)
    return [stream for stream in streams if is_for_workers(stream)]


async def said_waiting(answer: Answer) -> None:
    async with asyncio.timeout(PATIENCE):
        while "Waiting for a worker" not in str(await answer.message()):
            pass


async def test_a_queue_is_served_by_the_workers_that_are_told(site: Floor) -> None:
    session = await Session.open(await site.replica())
    await site.worker("default")
    slow = await session.call("in_slow", {"value": 3}, token="s")
    quick = await (await session.call("count", {"upto": 1}, token="q")).outcome()
    assert quick["result"]["structuredContent"]["upto"] == 1
    await said_waiting(slow)
    await site.worker("slow")
    assert text_of((await slow.rest())[-1]) == "3"


async def test_calls_that_wait_are_taken_by_workers_that_come_later(site: Floor) -> None:
    session = await Session.open(await site.replica())
    answers = [await session.call("count", {"upto": 2}, token=n) for n in range(6)]
    for answer in answers:
        await said_waiting(answer)
    await site.worker(concurrency=1)
    await site.worker(concurrency=1)
    for answer in answers:
        assert (await answer.rest())[-1]["result"]["structuredContent"]["upto"] == 2


async def test_a_worker_has_no_more_runs_at_once_than_told(site: Floor, tmp_path: Path) -> None:
    session = await Session.open(await site.replica())
    await site.worker(concurrency=1)
    first = await session.call("once", {"place": str(tmp_path)}, token=1)
    await until((tmp_path / "attempts").exists)
    second = await session.call("count", {"upto": 1}, token=2)
    await said_waiting(second)
    (tmp_path / "go").touch()
    assert text_of((await first.rest())[-1]) == "done once"
    assert "result" in (await second.rest())[-1]


async def test_a_call_that_no_worker_takes_ends_with_a_clear_error(site: Floor) -> None:
    wire = await site.replica(worker_wait=1.0, lease=1.5)
    session = await Session.open(wire)
    outcome = (await (await session.call("count", {"upto": 1}, token=1)).rest())[-1]
    assert "No worker took count out of the queue 'default'" in outcome["error"]["message"]
    assert await waiting_runs(site.url) == []
    assert wire.app.counters.reached["worker_wait"] == 1


async def test_only_so_many_calls_wait(site: Floor) -> None:
    session = await Session.open(await site.replica(max_queue=1))
    await said_waiting(await session.call("count", {"upto": 1}, token=1))
    refused = await session.call("count", {"upto": 1}, token=2)
    assert refused.status == 503
    assert "waiting for a worker" in (await refused.json())["error"]["message"]


@each_era
async def test_a_waiting_call_that_is_cancelled_ends_without_a_worker(
    site: Floor, era: str
) -> None:
    client = await connect(await site.replica(), era)
    connection = await client.send(client.call_message("count", {"upto": 1}, id=5, token=1))
    await said_waiting(await connection.answer())
    assert len(await waiting_runs(site.url)) == 1
    if isinstance(client, Modern):
        connection.cut()
    else:
        await client.notify("notifications/cancelled", {"requestId": 5})
    async with asyncio.timeout(PATIENCE):
        while await waiting_runs(site.url):
            pass


async def test_a_call_that_lost_the_race_for_its_key_is_not_executed(
    site: Floor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even where the process that was to withdraw it has died."""
    find, both, looks = RunNames.find_run, asyncio.Barrier(2), itertools.count()

    async def find_nothing_yet(keys: RunNames, key: str) -> NamedRun | None:
        found = await find(keys, key)
        if next(looks) < 2:
            await both.wait()  # two callers look before either has claimed the key
        return found

    async def forgotten(*_: object) -> None:
        pass

    monkeypatch.setattr(RunNames, "find_run", find_nothing_yet)
    monkeypatch.setattr(Dispatch, "_withdraw", forgotten)
    once = {"Idempotency-Key": "one"}
    session = await Session.open(await site.replica(lease=1.5), extra=once)
    calls = [
        session.post(session.call_message("once", {"place": str(tmp_path)}, id=n, token=n))
        for n in range(2)
    ]
    answers = await asyncio.gather(*calls)
    assert len(await waiting_runs(site.url)) == 2
    (tmp_path / "go").touch()
    await site.worker()
    for answer in answers:
        assert text_of((await answer.rest())[-1]) == "done once"
    async with asyncio.timeout(PATIENCE):
        while await waiting_runs(site.url):
            pass
    assert len((tmp_path / "attempts").read_text().split()) == 1


async def test_a_replica_that_dies_as_it_begins_a_call_leaves_it_to_another_one(
    site: Floor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All who sent its key are told the same: it is done, and nobody was interrupted."""
    begun: list[Run] = []

    def dies(engine: Engine, call: Any) -> NoReturn:
        timer = engine.lease._timer
        assert timer is not None
        timer.cancel()  # no sign of life any more
        begun.append(call.run)
        raise stopping_error()

    with monkeypatch.context() as dying:
        dying.setattr(sys.modules["headway.engine.submit"], "_start", dies)
        session = await Session.open(
            await site.replica(lease=1.5), extra={"Idempotency-Key": "one"}
        )
        (tmp_path / "go").touch()
        await session.call("once", {"place": str(tmp_path)}, token="t")
    await site.replica(lease=1.5)
    await site.worker(lease=1.5)
    async with asyncio.timeout(PATIENCE), open_journal(site.url) as journal:
        ended = [entry async for entry in journal.follow(begun[0].stream)][-1].event
    assert isinstance(ended, Completed), ended
    assert "done once" in str(decode_json(ended.result))
    assert len((tmp_path / "attempts").read_text().split()) == 1


async def test_a_call_whose_process_died_as_it_withdrew_it_has_an_end(site: Floor) -> None:
    session = await Session.open(await site.replica(lease=1.5))
    answer = await session.call("count", {"upto": 1}, token="t")
    await said_waiting(answer)
    (stream,) = await waiting_runs(site.url)
    async with open_journal(site.url) as journal:
        await journal.append_shared(checkpoint_stream(stream), Forgotten())
    await site.worker(lease=1.5)
    assert "it was not begun" in (await answer.rest())[-1]["error"]["message"]
    assert await waiting_runs(site.url) == []


async def test_a_tool_that_the_worker_does_not_have_is_an_error(site: Floor) -> None:
    from headway import Headway

    session = await Session.open(await site.replica())
    await site.worker(server=Headway("bare"))
    outcome = (await (await session.call("count", {"upto": 1}, token=1)).rest())[-1]
    assert "count" in str(outcome)
    assert "error" in outcome or outcome["result"]["isError"]


# What is planted


class _Bomb:
    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.place,)


async def test_a_pickle_in_a_queue_is_dropped_and_never_executed(
    site: Floor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    session = await Session.open(await site.replica())
    await site.worker()
    bomb = pickle.dumps((_Bomb(tmp_path / "boom"),))
    name = site.url.partition("prefix=")[2] + "queue:default"
    message: dict[Any, Any] = {
        "key": "planted", "when": "2020-01-01T00:00:00+00:00", "function": "run", "args": bomb,
        "kwargs": pickle.dumps({}), "attempt": "1", "generation": "1",
    }  # fmt: skip
    async with redis.asyncio.Redis.from_url(site.url.partition("?")[0]) as planter:
        known: dict[Any, Any] = {"generation": "1", "state": "queued", "known": "1"}
        await planter.hset(f"{name}:runs:planted", mapping=known)
        await planter.xadd(f"{name}:stream", message)
        await planter.xadd(
            f"{name}:strikes",
            {"direction": "strike", "function": "other", "parameter": "p", "operator": "==",
             "value": pickle.dumps(_Bomb(tmp_path / "boom"))},
        )  # fmt: skip
    await until(lambda: "planted was in the queue" in caplog.text)
    outcome = (await (await session.call("count", {"upto": 1}, token=1)).rest())[-1]
    assert outcome["result"]["structuredContent"]["upto"] == 1
    assert not (tmp_path / "boom").exists()


def test_docket_uses_pickles_nowhere_else() -> None:
    """Fails when Docket moves a name that `keep_pickles_out` replaces, or adds another one."""
    spec = importlib.util.find_spec("docket")
    assert spec is not None
    assert spec.origin is not None
    root = Path(spec.origin).parent
    users = {
        ".".join(("docket", *path.relative_to(root).with_suffix("").parts))
        for path in root.rglob("*.py")
        if "import cloudpickle" in path.read_text() or "import pickle" in path.read_text()
    }
    # `docket.docket` has it in `get_execution` only, which nobody calls here.
    assert users == {*no_pickle.MODULES, "docket.docket"}


def test_nothing_but_keys_can_be_put_in() -> None:
    with pytest.raises(TypeError, match="only keys"):
        no_pickle.RefusingCodec.dumps(("an argument",))
    assert (*no_pickle.RefusingCodec.loads(b"[]"),) == ()
    assert {**no_pickle.RefusingCodec.loads(pickle.dumps({"a": 1}))} == {}


def test_a_docket_that_is_not_known_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import docket.execution

    monkeypatch.delattr(docket.execution, "cloudpickle")
    with pytest.raises(SetupError, match=r"docket\.execution\.cloudpickle"):
        no_pickle.keep_pickles_out()


@pytest.mark.parametrize("url", ["memory:", "sqlite:///j.db"])
def test_what_cannot_be_shared_has_no_queues(url: str) -> None:
    with pytest.raises(SetupError, match="no journal that workers can share"):
        open_queues(url, lease=1)


def test_without_docket_it_is_said_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:

    monkeypatch.setitem(sys.modules, "docket", None)
    monkeypatch.delitem(sys.modules, "headway.queues.docket", raising=False)
    with pytest.raises(SetupError, match=r"headway\[workers\]"):
        open_queues("redis://127.0.0.1:1/0", lease=1)
