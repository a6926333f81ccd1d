"""Programs that say nothing until their end, or nothing without a terminal, are heard."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.kit.waits import until, within

from headway import CommandFailed, stream_command
from headway.testing import record

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _as_on_most_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


WAITS = """
import os, sys, time
print("first")
while not os.path.exists(sys.argv[1]): time.sleep(0.01)
print("last")
"""


async def test_a_line_of_a_python_program_comes_when_it_is_printed(tmp_path: Path) -> None:
    go_on = tmp_path / "go on"
    with record() as said:
        running = asyncio.create_task(stream_command([*python(WAITS), str(go_on)]))
        await until(lambda: [each.data for each in said.logs] == ["first"])
        assert not running.done()
        go_on.touch()
        await within(running)
    assert [each.data for each in said.logs] == ["first", "last"]


@pytest.mark.parametrize(
    ("env", "told"),
    [
        (None, "1"),
        ({"PATH": os.environ["PATH"]}, "1"),
        ({"PYTHONUNBUFFERED": ""}, ""),
    ],
)
async def test_what_an_author_says_of_buffers_counts(env: Any, told: str) -> None:
    code = "import os; print(os.environ['PYTHONUNBUFFERED'])"
    assert (await stream_command(python(code), env=env)).stdout == f"{told}\n"


ASKS = """
import os, sys
columns = os.get_terminal_size(1).columns
print(*(each.isatty() for each in (sys.stdout, sys.stderr, sys.stdin)), columns, os.environ["TERM"])
print("to stderr", file=sys.stderr)
"""


async def test_a_program_can_have_a_terminal_and_stdout_and_stderr_stay_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    with record() as said:
        result = await stream_command(python(ASKS), terminal=True)
    assert result.stdout == "True True False 120 xterm-256color\n"
    assert result.stderr == "to stderr\n"
    assert sorted(each.level for each in said.logs) == ["info", "notice"]
    piped = await stream_command(python("import sys; print(sys.stdout.isatty())"))
    assert piped.stdout == "False\n"


BAR = """
import sys
if sys.stdout.isatty():
    for n in (0, 40, 100):
        print(f"\\r\\x1b[2KDownloading {n}%", end="", flush=True)
    print()
"""


async def test_a_bar_that_is_drawn_only_there_is_progress() -> None:
    with record() as said:
        await stream_command(python(BAR), terminal=True)
    assert [each.progress for each in said.progress] == [0, 40, 100]


async def test_bars_of_several_lines_are_not_said_again_each_time_they_are_drawn() -> None:
    code = (
        "for n in range(50):\n"
        "  if n: print('\\x1b[2A', end='')\n"
        "  print(f'layer a {n * 2}%\\nlayer b {n}%', flush=True)\n"
        "print('pulled')"
    )
    with record() as said:
        await stream_command(python(code), terminal=True)
    assert [each.data for each in said.logs] == ["layer a 0%", "layer b 0%", "pulled"]
    assert len(said.progress) > 10


@pytest.mark.parametrize("terminal", [False, True])
async def test_what_was_written_before_the_end_is_heard_to_its_last_line(terminal: bool) -> None:
    code = "import sys\nfor n in range(20000): print(n)\nsys.stdout.flush()"
    result = await within(stream_command(python(code), output=None, terminal=terminal))
    assert result.stdout.split("\n")[-2:] == ["19999", ""]
    assert result.stdout.count("\n") == 20000


async def test_a_child_in_the_background_does_not_hold_a_terminal_open() -> None:
    code = "import subprocess, sys; subprocess.Popen(['sleep', '600']); print('done')"
    result = await within(stream_command(python(code), terminal=True))
    assert result.stdout == "done\n"


async def test_a_cancelled_call_lets_go_of_its_terminals() -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with record() as said:
        code = "import time; print('here', flush=True); time.sleep(600)"
        running = asyncio.create_task(stream_command(python(code), terminal=True, grace=0.1))
        await until(lambda: said.logs)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await within(running)
    assert len(os.listdir("/proc/self/fd")) <= before  # noqa: PTH208


async def test_a_system_without_terminals_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> Any:
        raise OSError(2, "No such file or directory")

    monkeypatch.setattr(os, "openpty", none)
    with pytest.raises(CommandFailed, match="cannot have a terminal"):
        await stream_command(["true"], terminal=True)
