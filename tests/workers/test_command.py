"""`headway worker`: what it refuses, what it answers, and what operators see of its runs."""

import asyncio
import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from tests.kit.floor import floor
from tests.kit.peers import Session
from tests.kit.program import Programs, programs_in
from tests.kit.waits import PATIENCE, until

from headway.testing.server_process import free_port

pytestmark = pytest.mark.anyio

TARGET = f"{Path(__file__).with_name('target.py')}:mcp"


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    with programs_in(tmp_path) as started:
        yield started


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--journal", "memory:"), "no journal that workers can share"),
        (("--journal", "sqlite:///j.db"), "no journal that workers can share"),
        ((), "a worker needs the journal of its servers"),
        (("--journal", "redis://127.0.0.1:1/0"), "cannot be used"),
    ],
)
def test_a_journal_that_will_not_do_is_refused_with_what_to_write(
    programs: Programs, options: tuple[str, ...], said: str
) -> None:
    finished = programs.run("worker", TARGET, *options)
    assert (finished.code, said in finished.err) == (3, True), finished.err


def status(port: int, path: str) -> int:
    try:
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE) as answer:
            return answer.status
    except HTTPError as error:
        error.close()
        return error.code


def test_an_orchestrator_is_told_whether_it_works(
    programs: Programs, new_redis_url: Callable[[], str]
) -> None:
    port = free_port()
    options = ("--journal", new_redis_url(), "--health-port", str(port))
    worker = programs.start("worker", TARGET, *options)
    worker.wait_for("working for works: default, slow, 10 at once")
    assert [status(port, path) for path in ("/healthz", "/readyz", "/other")] == [200, 200, 404]
    page = urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE).read().decode()
    assert 'headway_limit{setting="max_runs"}' in page
    worker.interrupt(signal.SIGTERM)
    assert worker.finish().code == 0


@pytest.mark.parametrize("name", ["run", "reference"])
async def test_an_operator_sees_the_run_of_a_worker_once_and_stops_it(
    programs: Programs, new_redis_url: Callable[[], str], tmp_path: Path, name: str
) -> None:
    async with floor(new_redis_url()) as site:
        await site.worker()
        session = await Session.open(await site.replica())
        call = session.call_message("sleep", {"place": str(tmp_path)}, token="t")
        answer = await session.post(call)
        await until((tmp_path / "begun").exists)
        listed = ("runs", "--journal", site.url, "--output", "json")
        shown = json.loads((await asyncio.to_thread(programs.run, *listed)).out)
        assert [(row["tool"], row["client"]) for row in shown] == [("sleep", "wire 1")]
        one = ("show", shown[0][name], "--journal", site.url, "--output", "json")
        told = json.loads((await asyncio.to_thread(programs.run, *one)).out)
        assert (told["run"], told["arguments"]) == (shown[0]["run"], ["place"])
        stop = ("cancel", shown[0][name], "--journal", site.url, "--reason", "too loud")
        assert (await asyncio.to_thread(programs.run, *stop)).code == 0
        await until((tmp_path / "stopped").exists)
        assert "too loud" in (await answer.rest())[-1]["error"]["message"]


async def test_an_operator_has_a_call_for_workers_executed_again(
    programs: Programs, new_redis_url: Callable[[], str]
) -> None:
    async with floor(new_redis_url()) as site:
        await site.worker()
        session = await Session.open(await site.replica())
        await (await session.post(session.call_message("fail", {"why": "no luck"}))).outcome()
        journal = ("--journal", site.url, "--output", "json")
        listed = await asyncio.to_thread(programs.run, "runs", "--failed", *journal)
        [failed] = json.loads(listed.out)
        again = await asyncio.to_thread(programs.run, "retry", failed["run"], "--journal", site.url)
        assert again.code == 0, again.err
        await asyncio.to_thread(
            programs.run, "watch", again.out.partition(":")[0], "--journal", site.url
        )
        listed = await asyncio.to_thread(programs.run, "runs", "--failed", *journal)
        newest, oldest = json.loads(listed.out)
        assert oldest == failed
        same = ("tool", "client", "arguments", "error")
        assert [newest[name] for name in same] == [failed[name] for name in same]
