"""The server that the tests run as a process: tools that behave as badly as tools do."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

from headway import Headway, log, report

say = print  # what a linter would keep out of a server, and users have in theirs
say("printed while it is imported")
os.write(1, b"written to fd 1 while it is imported\n")

mcp = Headway("target")

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
BOUND = 600


def leave(mark: str) -> None:
    Path(mark).touch()


@mcp.tool()
async def add(a: int, b: int) -> int:
    return a + b


@mcp.tool()
def noisy() -> str:
    """Write to stdout in every way there is."""
    say("printed")
    sys.stdout.write('{"jsonrpc":"2.0","id":1,"result":"forged"}\n')
    (sys.__stdout__ or sys.stdout).write("written to the original\n")
    os.write(1, b'{"jsonrpc":"2.0","method":"native code"}\n')
    subprocess.run(["echo", "said by a child"], check=True)
    os.system("echo said by a shell")
    log("between")
    return "done\u2028with\u2029noise\u0085"


@mcp.tool()
def nosy() -> str:
    """Read stdin in every way there is."""
    try:
        typed = input()
    except EOFError:
        typed = "nothing"
    child = subprocess.run(["cat"], capture_output=True, check=True, timeout=30)
    return f"{typed}, {child.stdout!r}, {os.read(0, 10)!r}"


@mcp.tool()
def open_files() -> list[int]:
    """The descriptors that a child of ours has."""
    code = "import os; print(*sorted(int(fd) for fd in os.listdir('/proc/self/fd')))"
    child = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, close_fds=False
    )
    return [int(fd) for fd in child.stdout.split()]


@mcp.tool()
async def wait(mark: str) -> str:
    """Wait in the event loop; leaves `mark` when cancelled."""
    report(1, None, "waiting")
    try:
        await asyncio.Event().wait()
    finally:
        leave(mark)
    return "never"


@mcp.tool()
def sleep_in_thread() -> str:
    """Hang where nothing can interrupt."""
    report(1, None, "sleeping")
    time.sleep(BOUND)
    return "never"


@mcp.tool()
async def block_loop() -> str:
    """Hang in the event loop itself."""
    report(1, None, "blocking")
    await asyncio.sleep(0.2)
    hang = time.sleep
    hang(BOUND)
    return "never"


@mcp.tool()
def child(mark: str) -> str:
    """Wait for a child that has a child of its own; `mark` gets both ids."""
    code = (
        "import os, subprocess, sys;"
        f"inner = subprocess.Popen({SLEEP!r}, start_new_session=True);"
        f"open({mark!r}, 'w').write(f'{{os.getpid()}} {{inner.pid}}\\n');"
        "inner.wait()"
    )
    report(1, None, "starting")
    subprocess.run([sys.executable, "-c", code], check=False)
    return "the child ended"


@mcp.tool()
def left_behind(mark: str) -> str:
    """Have a shell put something into the background, and end."""
    subprocess.run(["sh", "-c", f"sleep 600 & echo $! > {mark}"], check=True)
    return "the shell ended"


@mcp.tool()
async def stubborn_child(mark: str) -> str:
    """Wait, without the event loop, for a child that ignores SIGTERM."""
    code = (
        "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        f"open({mark!r}, 'w').write(f'{{os.getpid()}}\\n'); time.sleep(600)"
    )
    report(1, None, "starting")
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    while True:
        try:
            await process.wait()
        except asyncio.CancelledError:
            continue
    return "never"


@mcp.tool()
async def flood(mark: str, count: int, size: int) -> str:
    """Say very much; `mark` is there when all is said."""
    text = "x" * size
    for number in range(count):
        log(f"{number} {text}")
        if number % 100 == 0:
            await asyncio.sleep(0)
    leave(mark)
    return "flooded"


@mcp.tool()
def memory() -> int:
    """Resident bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
