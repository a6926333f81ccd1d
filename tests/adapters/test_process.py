"""`in_process`: work that computes, elsewhere, as if it were here."""

import asyncio
import functools
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.server.mcpserver.exceptions import ToolError
from tests.adapters import work
from tests.kit.waits import gone, is_alive, until

from headway import Headway, ProcessFailed, in_process, stage
from headway.api.pool import pool
from headway.testing import Outcome, record, run_tool

pytestmark = pytest.mark.anyio


both_loops = pytest.mark.parametrize(
    "anyio_backend",
    [("asyncio", {"use_uvloop": False}), ("asyncio", {"use_uvloop": True})],
    ids=["asyncio", "uvloop"],
)


async def call(function: Callable[..., Any], *args: Any) -> Outcome:
    mcp = Headway("p")

    @mcp.tool()
    async def tool() -> Any:
        return await in_process(function, *args)

    return await run_tool(mcp, "tool", raise_on_error=False)


@both_loops
async def test_it_returns_what_the_function_returns() -> None:
    assert await in_process(work.add, 1, other=2) == 3
    assert await in_process(functools.partial(work.add, 5)) == 6
    assert await in_process(len, "four") == 4
    big = b"x" * 5_000_000
    assert await in_process(work.echo, big) == big


async def test_a_function_runs_in_another_process_which_is_used_again() -> None:
    first = await in_process(work.whoami)
    second = await in_process(work.whoami)
    assert first == second
    pid, session, stdin = first
    assert pid == session != os.getpid()
    assert stdin == ""


async def test_reports_of_the_child_arrive_in_order() -> None:
    with record() as said, stage("Here"):
        assert await in_process(work.say_all) == "said"
    assert said.parts == [{"number": number} for number in range(3)]
    assert [log.data for log in said.logs] == ["did 0", "did 1", "did 2"]
    assert {(log.level, log.logger) for log in said.logs} == {("warning", "work")}
    assert (said.progress[-1].progress, said.progress[-1].total) == (1, 1)
    assert any((each.message or "").startswith("Here · ") for each in said.progress)


async def test_parts_logs_and_the_result_are_stored_in_order() -> None:
    outcome = await call(work.say_all)
    kinds = [type(entry.event).__name__ for entry in outcome.entries]
    assert kinds[-1] == "Completed"
    assert [kind for kind in kinds if kind in ("Part", "Log")] == ["Part", "Log"] * 3
    assert outcome.progress[-1][:2] == (3, 3)
    assert outcome.result == "said"


async def test_progress_is_sampled_and_the_last_always_comes() -> None:
    outcome = await call(work.reports, 200_000)
    assert outcome.progress[-1][:2] == (200_000, 200_000)
    assert len(outcome.progress) < 1_000
    outcome = await call(work.count, 200_000)
    assert outcome.progress[-1][:2] == (200_000, 200_000)
    assert len(outcome.progress) < 1_000


async def test_the_newest_report_is_shown_while_the_function_is_silent(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    with record() as said:
        working = asyncio.create_task(in_process(work.pause_after_two_reports, str(flag)))
        await until(lambda: any(each.message == "five" for each in said.progress))
        assert not working.done()
        flag.touch()
        await working


async def test_all_parts_arrive_and_do_not_hold_up_the_loop() -> None:
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.create_task(count_turns())
    with record() as said:
        assert await in_process(work.flood, 5_000) == 5_000
    counting.cancel()
    assert said.parts[1::2] == list(range(5_000))
    assert turns > 50


async def test_an_exception_of_the_child_is_raised_in_the_parent() -> None:
    with pytest.raises(KeyError, match="lost") as raised:
        await in_process(work.fail, KeyError, "lost")
    assert "in fail" in "".join(raised.value.__notes__)
    with pytest.raises(ValueError, match="this and that"):
        await in_process(work.fail_picky)
    with pytest.raises(ProcessFailed, match=r"fail ended with SystemExit\(3\)"):
        await in_process(work.fail, SystemExit, 3)
    assert await in_process(work.add, 1) == 2


async def test_a_tool_error_is_for_the_model_and_others_are_not() -> None:
    outcome = await call(work.fail, ToolError, "there is no such customer")
    assert "no such customer" in (outcome.error or "")
    outcome = await call(work.fail, RuntimeError, "hunter2")
    assert outcome.is_error
    assert "hunter2" not in (outcome.error or "")


@pytest.mark.parametrize(
    ("function", "args", "complaint"),
    [
        (lambda: 1, (), "top level of a module"),
        (work.asynchronous, (), "is async"),
        (work.generating, (), "is a generator"),
        (work.echo, (lambda: 1,), "an argument of echo"),
        ("work.echo", (), "needs a function"),
    ],
)
async def test_arguments_that_cannot_be_pickled_are_refused(
    function: Any, args: Any, complaint: str
) -> None:
    with pytest.raises(TypeError, match=complaint):
        await in_process(function, *args)


async def test_a_function_of_the_main_script_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work.add, "__module__", "__main__")
    with pytest.raises(TypeError, match="move it to a module of its own"):
        await in_process(work.add, 1)


async def test_a_result_that_cannot_be_sent_says_so() -> None:
    with pytest.raises(ProcessFailed, match="unsendable cannot give back a function"):
        await in_process(work.unsendable)
    assert await in_process(work.add, 1) == 2


@both_loops
async def test_a_process_that_dies_is_an_error_and_no_harm() -> None:
    outcome = await call(work.leave, 5)
    assert "exit code 5" in (outcome.error or "")
    assert outcome.parts == ["last words"]
    with pytest.raises(ProcessFailed, match="SIGSEGV") as died:
        await in_process(work.crash)
    assert died.value.returncode == -signal.SIGSEGV
    assert await in_process(work.add, 1) == 2


@both_loops
async def test_a_process_that_dies_is_noticed_though_its_child_holds_the_pipe(
    tmp_path: Path,
) -> None:
    file = tmp_path / "pid"
    with pytest.raises(ProcessFailed, match="exit code 7"):
        await in_process(work.fork_and_die, str(file))
    await gone(int(file.read_text()))


@both_loops
async def test_a_cancel_ends_it_with_its_children_and_spares_the_others() -> None:
    with record() as said:
        working = asyncio.create_task(in_process(work.with_a_child))
        await until(lambda: bool(said.parts))
        pids = said.parts[0]
        assert is_alive(pids["child"])
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working
    await gone(pids["pid"])
    await gone(pids["child"])
    assert await in_process(work.add, 1) == 2


@both_loops
async def test_a_cancel_at_any_moment_leaves_the_pool_whole() -> None:
    for turns in range(40):
        working = asyncio.create_task(in_process(work.echo, b"x" * 100_000))
        for _ in range(turns):
            await asyncio.sleep(0)
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
    assert await in_process(work.add, 1) == 2


@both_loops
async def test_a_cancel_ends_a_flood_of_parts() -> None:
    with record() as said:
        working = asyncio.create_task(in_process(work.flood, 10_000_000))
        await until(lambda: bool(said.parts))
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working


async def test_no_more_processes_are_started_than_there_are_processors() -> None:
    pids = await asyncio.gather(*(in_process(os.getpid) for _ in range(12)))
    assert len(set(pids)) <= len(os.sched_getaffinity(0))


async def test_a_thread_that_outlives_its_function_ends_and_reports_nothing() -> None:
    with record() as said:
        pid = await in_process(work.leave_a_thread)
        assert await in_process(os.getpid) != pid
    assert is_alive(pid) is False
    count = len(said.progress)
    await in_process(work.add, 1)
    assert len(said.progress) == count


async def test_a_sync_tool_can_use_a_process() -> None:
    mcp = Headway("p")

    @mcp.tool()
    def tool() -> int:
        call: Any = functools.partial(in_process, work.count, 7)
        counted: int = anyio.from_thread.run(call)
        return counted

    outcome = await run_tool(mcp, "tool")
    assert outcome.result == 7
    assert outcome.progress[-1][:2] == (7, 7)


async def test_a_process_that_nobody_needs_any_more_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "IDLE_SECONDS", 0.05)
    await gone(await in_process(os.getpid))
    assert await in_process(work.add, 1) == 2


async def test_output_of_the_child_does_not_reach_stdout(capfd: pytest.CaptureFixture[str]) -> None:
    assert await in_process(work.print_and_go_on) == "ok"
    said = capfd.readouterr()
    assert said.out == ""
    assert "on the descriptor" in said.err
    assert "a child of it" in said.err


SERVER = """
import asyncio, sys
sys.path.insert(0, {root!r})
from headway import in_process
from headway.testing import record
from tests.adapters import work

async def main():
    with record() as said:
        task = asyncio.create_task(in_process(work.with_a_child))
        while not said.parts:
            await asyncio.sleep(0.01)
        print(said.parts[0]["pid"], said.parts[0]["child"], flush=True)
        {then}

asyncio.run(main())
"""


@pytest.mark.parametrize("then", ["await task", "pass"], ids=["is killed", "ends"])
async def test_no_process_outlives_its_parent(then: str) -> None:
    code = SERVER.format(root=str(Path.cwd()), then=then)
    parent = subprocess.Popen(  # noqa: ASYNC220 - the one blocking moment is its start
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    with parent.stdout:
        line = await asyncio.to_thread(parent.stdout.readline)
    pids = [int(each) for each in line.split()]
    if then != "pass":
        parent.kill()
    await asyncio.to_thread(parent.wait, 20)
    for pid in pids:
        await gone(pid)


def test_a_loop_that_ends_takes_its_processes_along() -> None:
    assert not is_alive(asyncio.run(in_process(os.getpid)))
