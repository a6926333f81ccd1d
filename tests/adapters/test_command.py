"""`stream_command`: what a program says, while it says it, and nothing left behind."""

import asyncio
import functools
import os
import signal
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.kit.waits import PATIENCE, gone, is_alive, until

from headway import CommandFailed, Headway, HeadwayError, stream_command
from headway.api.subprocesses import command
from headway.testing import Outcome, record, run_tool

pytestmark = pytest.mark.anyio


def python(code: str) -> list[str]:
    return [sys.executable, "-u", "-c", code]


async def call(code: str, **options: Any) -> Outcome:
    mcp = Headway("s")

    @mcp.tool()
    async def tool() -> dict[str, Any]:
        result = await stream_command(python(code), **options)
        return {"code": result.returncode, "out": result.stdout, "err": result.stderr}

    return await run_tool(mcp, "tool", raise_on_error=False)


async def test_lines_are_logs_percentages_progress_and_all_of_it_the_result() -> None:
    outcome = await call(
        "import sys\nprint('begin')\nfor n in (10, 60):\n  print(f'{n}%', end='\\r')\n"
        "print('ä end'); print('oops', file=sys.stderr)"
    )
    assert outcome.result["out"] == "begin\n10%\r60%\rä end\n"
    assert outcome.result["err"] == "oops\n"
    said = [(log.level, log.data) for log in outcome.logs]
    assert sorted(said) == [("info", "begin"), ("info", "ä end"), ("notice", "oops")]
    assert [(p, t) for p, t, _ in outcome.progress][:2] == [(10, 100), (60, 100)]


async def test_lines_can_be_parts_or_nothing() -> None:
    assert (await call("print(1); print(2)", output="part")).parts == ["1", "2"]
    quiet = await call("print('50%')", output=None, progress=False)
    assert (quiet.logs, quiet.parts) == ([], [])
    assert quiet.result["out"] == "50%\n"


async def test_a_caller_may_give_a_scan_function() -> None:
    outcome = await call("print('at 3')", progress=lambda line: int(line[-1]) / 6)
    assert outcome.progress[0][:2] == (50, 100)


async def test_input_is_given_to_the_program_and_otherwise_stdin_is_empty() -> None:
    echo = "import sys; print(len(sys.stdin.read()))"
    assert (await call(echo, input="x" * 300_000)).result["out"] == "300000\n"
    assert (await call(echo)).result["out"] == "0\n"
    assert (await call("print('not interested')", input="x" * 3_000_000)).result["code"] == 0


async def test_a_program_that_fails_says_why() -> None:
    outcome = await call("import sys; print('no such table', file=sys.stderr); sys.exit(3)")
    assert outcome.is_error
    assert "exit code 3" in (outcome.error or "")
    assert "no such table" in (outcome.error or "")
    assert (await call("import sys; sys.exit(3)", check=False)).result["code"] == 3
    killed = await call("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    assert "signal SIGSEGV" in (killed.error or "")


@pytest.mark.parametrize(
    ("argv", "options", "complaint"),
    [
        ([], {}, "no program"),
        (["/no/such/program"], {}, "there is no program '/no/such/program'"),
        (["/etc/passwd"], {}, "cannot be started"),
        (["x\0y"], {}, "cannot be started"),
        ([sys.executable], {"cwd": "/no/such/place"}, "is no directory"),
    ],
)
async def test_a_program_that_cannot_be_started_is_an_error(
    argv: list[str], options: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(CommandFailed, match=complaint):
        await stream_command(argv, **options)


async def test_output_that_is_no_text_or_has_no_end_does_no_harm() -> None:
    outcome = await call("import sys; sys.stdout.buffer.write(b'\\xff\\xfe\\n')")
    assert outcome.logs[0].data == "\ufffd\ufffd"
    long = await call("import sys; sys.stdout.write('x' * 5_000_000)", max_output=1000)
    assert len(long.result["out"]) == 1000
    assert max(len(log.data) for log in long.logs) <= 16_384


async def test_a_flood_is_thinned_out_for_the_client() -> None:
    outcome = await call("for n in range(50_000): print('line', n)", max_output=2_000_000)
    assert len(outcome.result["out"].splitlines()) == 50_000
    assert len(outcome.logs) < 5_000  # the longer it takes, the more there are
    assert "lines left out" in outcome.logs[-1].data


TREE = """
import subprocess, sys, signal, time
{prelude}
child = subprocess.Popen([sys.executable, "-c", '''
import signal, time
{prelude}
time.sleep(60)
'''])
print(child.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("stubborn", [False, True], ids=["ends on TERM", "ignores TERM"])
async def test_a_cancel_ends_the_whole_group(stubborn: bool) -> None:
    prelude = "signal.signal(signal.SIGTERM, signal.SIG_IGN)" if stubborn else ""
    said: list[str] = []
    started = asyncio.Event()

    def note(line: str) -> None:
        said.append(line)
        started.set()

    task = asyncio.create_task(
        stream_command(python(TREE.format(prelude=prelude)), progress=note, grace=0.3)
    )
    async with asyncio.timeout(PATIENCE):
        await started.wait()
        child = int(said[0])
        assert is_alive(child)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert not is_alive(child)


async def test_a_child_in_the_background_does_not_hold_the_call() -> None:
    code = (
        "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', "
        "'import time; time.sleep(60)']); print(p.pid)"
    )
    async with asyncio.timeout(PATIENCE):
        outcome = await call(code)
    child = int(outcome.result["out"])
    assert not is_alive(child)


REAPED = """
import asyncio, os, sys
from headway import stream_command
async def several():
    for _ in range(5):
        await stream_command([sys.executable, "-c", "pass"])
asyncio.run(several())
try:
    print(os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT))
except ChildProcessError:
    print("nothing left")
"""


async def test_nothing_is_left_to_reap() -> None:
    assert (await stream_command(python(REAPED))).stdout == "nothing left\n"


async def test_a_scan_that_fails_fails_the_call_and_ends_the_program() -> None:
    def broken(line: str) -> float:
        raise KeyError(line)

    async with asyncio.timeout(PATIENCE):
        with pytest.raises(KeyError, match="hello"):
            await stream_command(
                python("print('hello'); import time; time.sleep(60)"), progress=broken
            )


async def test_wrong_arguments_are_refused_before_a_program_starts(tmp_path: Path) -> None:
    file = tmp_path / "touched"
    touch = python(f"open({str(file)!r}, 'w')")
    text: Any = "ls -l"
    wrong: Any = "logs"
    with pytest.raises(TypeError, match="are a list"):
        await stream_command(text)
    with pytest.raises(ValueError, match="'logs'"):
        await stream_command(touch, output=wrong)
    with pytest.raises(LookupError):
        await stream_command(touch, encoding="no-such")
    with pytest.raises(UnicodeEncodeError):
        await stream_command(touch, input="\udcff")
    assert not file.exists()
    assert issubclass(CommandFailed, HeadwayError)


async def test_a_program_has_the_directory_environment_and_encoding_that_are_given(
    tmp_path: Path,
) -> None:
    code = (
        "import os, sys; sys.stdout.buffer.write(os.getcwd().encode() + b' \\xe4'); "
        "print(os.environ['X'])"
    )
    result = await stream_command(python(code), cwd=tmp_path, env={"X": "y"}, encoding="latin-1")
    assert result.stdout == f"{tmp_path} \xe4y\n"


async def test_a_program_that_counts_several_times_never_goes_back() -> None:
    outcome = await call(
        "for what in ('Counting', 'Receiving', 'Resolving'):\n"
        "  for n in range(0, 101, 20): print(f'{what} objects: {n}% ({n}/100)', end='\\r')\n"
        "  print(f'{what} objects: 100% (100/100), done.')"
    )
    values = [each.progress for each in outcome.progress]
    assert values == sorted(set(values))
    assert outcome.progress[-1][:2] == pytest.approx((300, 300))
    assert (160, 200) in [each[:2] for each in outcome.progress]
    assert len(outcome.logs) == 3


async def test_a_bar_that_begins_with_a_carriage_return_is_seen_at_once() -> None:
    code = "import sys, time; sys.stdout.write('\\r 42%'); sys.stdout.flush(); time.sleep(60)"
    with record() as said:
        task = asyncio.create_task(stream_command(python(code)))
        await until(lambda: bool(said.progress))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert said.progress[0][:2] == (42, 100)


async def test_many_lines_as_parts_are_all_given_out_in_fewer_parts() -> None:
    outcome = await call(
        "import sys; print('hm', file=sys.stderr)\nfor n in range(50_000): print(n)", output="part"
    )
    assert "\n".join(outcome.parts).split() == [str(n) for n in range(50_000)]
    assert len(outcome.parts) < 5_000  # the longer it takes, the more there are
    assert [each.data for each in outcome.logs] == ["hm"]


@pytest.mark.parametrize("terminal", [False, True])
async def test_all_that_a_program_wrote_is_read_though_reading_takes_longer_than_its_end(
    terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not terminal:  # there the kernel itself takes its time, and says nothing of what it has
        monkeypatch.setattr(command, "PIPE_LINGER", 0.0)
    code = "import subprocess\nsubprocess.Popen(['sleep', '60'])\nfor n in range(20_000): print(n)"
    output = await stream_command(python(code), terminal=terminal, output="log")
    assert output.stdout.split()[-1] == "19999"


async def test_collected_lines_are_given_out_while_the_program_is_silent() -> None:
    code = "for n in range(1000): print(n)\nimport time; time.sleep(60)"
    with record() as said:
        task = asyncio.create_task(stream_command(python(code), output="part"))
        await until(lambda: bool(said.parts) and said.parts[-1].endswith("999"))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_flood_does_not_hold_up_the_loop() -> None:
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.create_task(count_turns())
    result = await stream_command(python("print('line 3/7 at 40%\\n' * 100_000)"))
    counting.cancel()
    assert turns > 200
    assert result.is_cut
    assert len(result.stdout) <= 1024 * 1024


async def test_the_message_of_a_failure_is_bounded() -> None:
    code = "import sys; sys.exit('x' * 100_000 + '\\x1b[31mred')"
    outcome = await call(code)
    assert len(outcome.error or "") < 3_000
    assert (outcome.error or "").endswith("xred")


async def test_the_timeout_of_a_tool_ends_its_program(tmp_path: Path) -> None:
    mcp = Headway("s")
    file = tmp_path / "pid"
    code = f"import os, time; open({str(file)!r}, 'w').write(str(os.getpid())); time.sleep(60)"

    @mcp.tool(timeout="1s")
    async def tool() -> None:
        await stream_command(python(code))

    outcome = await run_tool(mcp, "tool", raise_on_error=False)
    assert "limit" in (outcome.error or "")
    await gone(int(file.read_text()))


async def test_a_second_cancel_does_not_wait_for_the_grace() -> None:
    code = (
        "import signal, os, time; signal.signal(15, signal.SIG_IGN); "
        "print(os.getpid()); time.sleep(60)"
    )
    with record() as said:
        task = asyncio.create_task(stream_command(python(code), grace=600))
        await until(lambda: bool(said.logs))
        for _ in range(2):
            task.cancel()
            await asyncio.sleep(0.05)
        await asyncio.gather(task, return_exceptions=True)
    await gone(int(said.logs[0].data))


CANCELLED = """
import asyncio, os, sys
from headway import stream_command
async def cancelled_after(turns):
    command = [sys.executable, "-c", "input()"]
    task = asyncio.create_task(stream_command(command, input="x" * 1_000_000))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
for turns in range(12):
    asyncio.run(cancelled_after(turns))
try:
    print(os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT))
except ChildProcessError:
    print("nothing left")
"""


async def test_a_cancel_at_any_moment_leaves_nothing_behind() -> None:
    # In a process of its own: here other tests may have children.
    assert (await stream_command(python(CANCELLED))).stdout == "nothing left\n"


async def test_a_child_in_a_session_of_its_own_does_not_hold_the_call() -> None:
    code = (
        "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', "
        "'import time; time.sleep(60)'], start_new_session=True).pid)"
    )
    async with asyncio.timeout(PATIENCE):
        child = int((await stream_command(python(code))).stdout)
    assert is_alive(child)
    os.kill(child, signal.SIGKILL)


async def test_a_program_that_closes_its_pipes_is_waited_for() -> None:
    code = "import os, time; os.close(1); os.close(2); time.sleep(0.3); os._exit(4)"
    assert (await stream_command(python(code), check=False)).returncode == 4


async def test_a_sync_tool_can_use_a_process() -> None:
    mcp = Headway("s")

    @mcp.tool()
    def tool() -> str:
        run: Any = functools.partial(stream_command, python("print('1/2')"))
        return anyio.from_thread.run(run).stdout

    outcome = await run_tool(mcp, "tool")
    assert outcome.result == "1/2\n"
    assert outcome.progress[0][:2] == (50, 100)
