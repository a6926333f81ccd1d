"""`stream_command`: what a program says, while it says it, and nothing left behind."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

from headway import CommandFailed, Headway, stream_command
from headway.testing import Outcome, run_tool

pytestmark = pytest.mark.anyio


def python(code: str) -> list[str]:
    return [sys.executable, "-u", "-c", code]


async def call(code: str, **options: Any) -> Outcome:
    mcp = Headway("s")

    @mcp.tool()
    async def tool() -> dict[str, Any]:
        result = await stream_command(python(code), **options)
        return {"code": result.returncode, "out": result.stdout, "err": result.stderr}

    return await run_tool(mcp, "tool")


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


async def test_a_scan_of_one_s_own() -> None:
    outcome = await call("print('at 3')", progress=lambda line: int(line[-1]) / 6)
    assert outcome.progress[0][:2] == (50, 100)


async def test_input_is_fed_and_otherwise_there_is_none() -> None:
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
async def test_what_cannot_be_started(
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
    assert len(outcome.logs) < 1_000
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


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"
    except OSError:
        return False


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
    async with asyncio.timeout(20):
        await started.wait()
        child = int(said[0])
        assert is_alive(child)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for _ in range(500):
            if not is_alive(child):
                break
            await asyncio.sleep(0.01)
    assert not is_alive(child)


async def test_a_child_in_the_background_does_not_hold_the_call() -> None:
    code = (
        "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', "
        "'import time; time.sleep(60)']); print(p.pid)"
    )
    async with asyncio.timeout(20):
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

    async with asyncio.timeout(20):
        with pytest.raises(KeyError, match="hello"):
            await stream_command(
                python("print('hello'); import time; time.sleep(60)"), progress=broken
            )
