"""What functions say in threads is heard, or it is said why not; and never in another's call."""

import asyncio
import contextvars
import logging
import os
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import ThreadPool
from typing import Any

import pytest
from tests.adapters import work
from tests.kit.waits import until, within

from headway import Headway, RunCancelled, in_process, log, part, report, stage, track
from headway.engine.run import threads
from headway.testing import record, run_tool

pytestmark = pytest.mark.anyio


def fetch(number: int) -> int:
    log(f"fetching {number}")
    part({"number": number})
    report(number, 6)
    return number


def in_an_executor() -> None:
    with ThreadPoolExecutor(2) as pool:
        assert sum(pool.map(fetch, range(1, 7))) == 21


def in_single_tasks() -> None:
    with ThreadPoolExecutor(2) as pool:
        tasks = [pool.submit(fetch, number) for number in range(1, 7)]
        assert sum(task.result() for task in tasks) == 21


def in_a_thread_pool() -> None:
    with ThreadPool(2) as pool:
        assert sum(pool.map(fetch, [1, 2])) == 3
        assert sum(pool.imap_unordered(fetch, [3])) == 3
        assert pool.starmap(fetch, [(4,)]) == [4]
        assert pool.apply(fetch, (5,)) == 5
        assert pool.apply_async(fetch, (6,)).get(60) == 6


def in_callbacks() -> None:
    """As joblib hands out its next batch: from the callback of the one before."""
    done = threading.Event()
    with ThreadPool(1) as pool:

        def go_on(number: int) -> None:
            if number == 6:
                done.set()
            else:
                pool.apply_async(fetch, (number + 1,), callback=go_on)

        pool.apply_async(fetch, (1,), callback=go_on)
        assert done.wait(60)


def in_threads_of_threads() -> None:
    """As boto3 does: what runs in a pool gives it the next thing to do."""
    with ThreadPoolExecutor(6) as pool:
        pool.submit(_chain, pool, 1).result()


def _chain(pool: ThreadPoolExecutor, number: int) -> None:
    fetch(number)
    if number < 6:
        pool.submit(_chain, pool, number + 1).result()


def in_a_thread_with_the_context() -> None:
    for number in range(1, 7):
        run = contextvars.copy_context().run
        thread = threading.Thread(target=run, args=(fetch, number))
        thread.start()
        thread.join()


def tool_of(function: Callable[[], object]) -> Any:
    mcp = Headway("threads")

    @mcp.tool()
    def batch() -> None:
        function()

    return mcp


HEARD = [
    in_an_executor,
    in_single_tasks,
    in_a_thread_pool,
    in_callbacks,
    in_threads_of_threads,
    in_a_thread_with_the_context,
]


@pytest.mark.parametrize("function", HEARD)
async def test_what_is_given_to_a_pool_is_heard(function: Callable[[], object]):
    outcome = await run_tool(tool_of(function), "batch")
    assert outcome.error is None
    assert sorted(each["number"] for each in outcome.parts) == [1, 2, 3, 4, 5, 6]
    assert len(outcome.logs) == 6
    assert outcome.progress[-1][:2] == (6, 6)


async def test_an_async_tool_is_heard_from_the_executor_of_its_loop():
    mcp = Headway("threads")

    @mcp.tool()
    async def batch() -> None:
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(loop.run_in_executor(None, fetch, n) for n in range(1, 7)))

    outcome = await run_tool(mcp, "batch")
    assert len(outcome.parts) == len(outcome.logs) == 6


async def test_a_pool_that_calls_share_mixes_nothing_up():
    with ThreadPoolExecutor(1) as pool:
        mcp = Headway("threads")

        @mcp.tool()
        def one(number: int) -> None:
            for _ in range(20):
                pool.submit(part, number).result()

        both = await asyncio.gather(*(run_tool(mcp, "one", {"number": n}) for n in (1, 2)))
        assert [outcome.parts for outcome in both] == [[1] * 20, [2] * 20]


async def test_stages_and_tracks_count_from_a_pool_for_the_stage_around_them():
    def work_on(number: int) -> None:
        with stage(f"Task {number}"):
            for _ in track(range(5)):
                pass

    def all_of_it() -> None:
        with stage("All"), ThreadPoolExecutor(2) as pool:
            list(pool.map(work_on, range(4)))

    outcome = await run_tool(tool_of(all_of_it), "batch")
    assert outcome.progress[-1][0] == outcome.progress[-1][1]
    assert any("All · Task" in (each.message or "") for each in outcome.progress)


async def test_a_cancel_reaches_what_runs_in_a_pool():
    begun, seen = threading.Event(), list[str]()

    def work_on(_number: int) -> None:
        begun.set()
        try:
            for _ in track(iter(int, 1)):
                pass
        except RunCancelled:
            seen.append("cancelled")
            raise

    def batch() -> None:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(work_on, 1).result()

    call = asyncio.create_task(run_tool(tool_of(batch), "batch"))
    await until(begun.is_set)
    call.cancel()
    await within(asyncio.wait([call]))
    await until(lambda: seen == ["cancelled"])


async def test_a_process_that_works_for_a_call_is_heard_from_its_pools():
    mcp = Headway("threads")

    @mcp.tool()
    async def batch() -> None:
        await in_process(work.say_in_a_pool)

    outcome = await run_tool(mcp, "batch")
    assert sorted(outcome.parts) == [1, 2, 3]


def test_a_recording_hears_pools():
    with record() as said:
        in_an_executor()
    assert len(said.parts) == 6


# Where nobody can know


def in_a_thread() -> None:
    thread = threading.Thread(target=fetch, args=(1,), name="mine")
    thread.start()
    thread.join()


@pytest.fixture(autouse=True)
def _as_if_never_told() -> Iterator[None]:
    threads._warned_lines.clear()
    threads._warned_functions.clear()
    yield
    threads._warned_lines.clear()


async def test_a_thread_of_the_tools_own_is_told_of_once_in_the_call(
    caplog: pytest.LogCaptureFixture,
):
    def twice() -> None:
        in_a_thread()
        in_a_thread()

    outcome = await run_tool(tool_of(twice), "batch")
    assert outcome.error is None
    assert outcome.parts == []
    [warning] = outcome.logs
    assert warning.level == "warning"
    assert warning.data.startswith("log() in the thread 'mine' is not heard: ")
    assert "copy_context().run" in warning.data
    assert "test_threads_of_tools.py:" in caplog.text


async def test_a_thread_that_works_for_all_is_told_of_in_the_log_and_in_nobodys_call(
    caplog: pytest.LogCaptureFixture,
):
    asked, answered = threading.Event(), threading.Event()

    def serve() -> None:
        asked.wait(60)
        fetch(1)
        answered.set()

    worker = threading.Thread(target=serve, name="for all", daemon=True)
    worker.start()

    def ask() -> None:
        asked.set()
        assert answered.wait(60)

    outcome = await run_tool(tool_of(ask), "batch")
    assert (outcome.parts, outcome.logs) == ([], [])
    told = [each for each in caplog.records if "is not heard" in each.getMessage()]
    assert [each.getMessage().split(" at ")[0] for each in told] == ["log()", "part()", "report()"]
    worker.join()


async def test_a_stage_and_a_track_that_nobody_uses_are_named_with_their_line(
    caplog: pytest.LogCaptureFixture,
):
    def forget() -> None:
        for _ in range(2):
            stage("Fetch")
            track([1, 2])
        with stage("Store"):
            list(track([1, 2]))

    await run_tool(tool_of(forget), "batch")
    first, second = [
        each.getMessage() for each in caplog.records if "not used" in each.getMessage()
    ]
    assert re.match(r"stage\(\) at test_threads_of_tools.py:\d+ .* `with stage\(", first)
    assert re.match(r"track\(\) at test_threads_of_tools.py:\d+ .* `for item in track\(", second)


def test_without_any_run_each_function_says_once_that_nobody_hears_it(
    caplog: pytest.LogCaptureFixture,
):
    for _ in range(2):
        fetch(1)
        in_a_thread()
    assert [each.getMessage().partition(" ")[0] for each in caplog.records] == [
        "log()",
        "part()",
        "report()",
    ]


async def test_a_label_that_reports_itself_is_no_mistake(caplog: pytest.LogCaptureFixture):
    def label(item: int) -> str:
        log("not heard, and on purpose")
        return f"item {item}"

    def batch() -> None:
        for _ in track(range(3), message=label):
            pass

    outcome = await run_tool(tool_of(batch), "batch")
    assert outcome.logs == []
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing is forked here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
async def test_a_forked_process_says_that_nobody_hears_it():
    reads, writes = os.pipe()

    def batch() -> None:
        pid = os.fork()
        if not pid:
            handler = logging.StreamHandler(os.fdopen(writes, "w"))
            logging.getLogger("headway").addHandler(handler)
            fetch(1)
            handler.flush()
            os._exit(0)
        os.waitpid(pid, 0)

    outcome = await run_tool(tool_of(batch), "batch")
    os.close(writes)
    with os.fdopen(reads) as said:
        assert "in a forked process is not heard: use in_process()" in said.read()
    assert (outcome.parts, outcome.logs) == ([], [])
