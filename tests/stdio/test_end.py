"""How a server ends: its client leaves, dies or stops it, and nothing is left behind."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.kit.stdio import ROOT, Program, program, transport_of
from tests.kit.waits import PATIENCE, is_alive, until

from headway.journal import open_journal

pytestmark = pytest.mark.anyio

TARGET = str(Path(__file__).with_name("target.py"))
each_era = pytest.mark.parametrize("era", ["2025", "2026"])
ends = pytest.mark.parametrize("end", ["eof", "SIGTERM"])


async def begin(client: Program, tool: str, era: str = "2026", **arguments: Any) -> None:
    """Call a tool and wait until it reports."""
    await client.ready()
    if era == "2025":
        await client.shake_hands()
    await client.start(tool, arguments, era=era, id="call", token="t")
    await client.method("notifications/progress")


async def stop(client: Program, how: str) -> None:
    if how == "eof":
        client.close()
    else:
        client.send_signal(signal.Signals[how])
    # In time is the server's own business: its last resort ends it (`cli.pipe.LEAVE`). What a test
    # measures beside others is the machine.
    assert await client.gone() == 0


def read_ids(mark: Path) -> list[int]:
    text = mark.read_text() if mark.exists() else ""
    return [int(pid) for pid in text.split()] if text.endswith("\n") else []


async def ends_in(file: Path) -> list[str]:
    """How the runs in a journal file ended."""
    async with open_journal(f"sqlite:///{file}") as journal:
        runs = await journal.streams("run/")
        return [type((await journal.read_all_kept(run))[-1].event).__name__ for run in runs]


@pytest.mark.requirement("stdio.exit")
@each_era
@ends
async def test_an_async_tool_is_cancelled(tmp_path: Path, era: str, end: str):
    mark = tmp_path / "mark"
    async with program("run", TARGET, "--stdio") as client:
        await begin(client, "wait", era, mark=str(mark))
        await stop(client, end)
        assert mark.exists()


@pytest.mark.requirement("stdio.exit", era="2025 2026")
@pytest.mark.parametrize("end", ["eof", "SIGTERM", "SIGINT", "SIGHUP"])
async def test_an_idle_server_just_ends(end: str):
    async with program("run", TARGET, "--stdio") as client:
        await client.ready()
        await stop(client, end)


@ends
@pytest.mark.parametrize("tool", ["sleep_in_thread", "block_loop"])
async def test_a_tool_that_cannot_be_interrupted_does_not_keep_the_process(tool: str, end: str):
    async with program("run", TARGET, "--stdio") as client:
        await begin(client, tool)
        await stop(client, end)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@ends
@pytest.mark.parametrize("tool", ["child", "stubborn_child"])
async def test_the_children_of_tools_are_ended(tmp_path: Path, tool: str, end: str):
    mark = tmp_path / "mark"
    async with program("run", TARGET, "--stdio") as client:
        await begin(client, tool, mark=str(mark))
        await until(lambda: bool(read_ids(mark)))
        assert all(map(is_alive, read_ids(mark)))
        await stop(client, end)
        await until(lambda: not any(map(is_alive, read_ids(mark))))


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
async def test_a_server_that_leads_its_group_leaves_nobody_in_it(tmp_path: Path):
    """As the official client starts servers."""
    mark = tmp_path / "mark"
    async with program("run", TARGET, "--stdio", start_new_session=True) as client:
        await client.ready()
        await client.call("left_behind", {"mark": str(mark)}, era="2026")
        [pid] = read_ids(mark)
        assert is_alive(pid)
        await stop(client, "eof")
        await until(lambda: not is_alive(pid))


async def test_a_signal_after_the_end_of_stdin_does_not_cut_the_orderly_end(tmp_path: Path):
    mark = tmp_path / "mark"
    async with program("run", TARGET, "--stdio") as client:
        await begin(client, "wait", mark=str(mark))
        client.close()
        await stop(client, "SIGTERM")
        assert mark.exists()


async def test_the_second_signal_ends_the_process_at_once():
    async with program("run", TARGET, "--stdio") as client:
        await begin(client, "sleep_in_thread")
        client.send_signal(signal.SIGTERM)
        await client.answer("call")  # it has begun to stop
        client.send_signal(signal.SIGTERM)
        assert await client.gone() in (0, 128 + signal.SIGTERM)


HARNESS = """
import subprocess, sys
server = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
print(server.pid, flush=True)
for line in sys.stdin:
    server.stdin.write(line.encode()); server.stdin.flush()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
async def test_a_client_that_is_killed_leaves_nothing_behind(tmp_path: Path):
    mark = tmp_path / "mark"
    command = [sys.executable, "-m", "headway", "run", TARGET, "--stdio"]
    harness = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HARNESS, *command, cwd=ROOT,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    client = Program(harness)
    async with asyncio.timeout(PATIENCE):
        server = int(await client.reader.readline())
    await client.start("child", {"mark": str(mark)}, era="2026")
    await until(lambda: bool(read_ids(mark)))
    harness.kill()
    await harness.wait()
    async with asyncio.timeout(PATIENCE):
        await until(lambda: not any(map(is_alive, [server, *read_ids(mark)])))


async def test_a_client_that_stops_reading_ends_the_server():
    """Its stdin stays open; only an answer can tell."""
    read, write = os.pipe()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "headway", "run", TARGET, "--stdio", cwd=ROOT,
        stdin=subprocess.PIPE, stdout=write, stderr=subprocess.PIPE,
    )  # fmt: skip
    os.close(write)
    assert process.stdin is not None
    assert process.stderr is not None
    async with asyncio.timeout(PATIENCE):
        while b"serving" not in await process.stderr.readline():
            pass
    os.close(read)
    process.stdin.write(b"anything\n")
    async with asyncio.timeout(PATIENCE):
        assert await process.wait() == 0
    transport_of(process).close()


@pytest.mark.parametrize(("end", "kind"), [("eof", "Cancelled"), ("SIGTERM", "Interrupted")])
@pytest.mark.parametrize("tool", ["wait", "sleep_in_thread"])
async def test_the_journal_says_how_runs_ended(tmp_path: Path, tool: str, end: str, kind: str):
    file = tmp_path / "journal.db"
    arguments = {"mark": str(tmp_path / "mark")} if tool == "wait" else {}
    async with program("run", TARGET, "--stdio", "--journal", f"sqlite:///{file}") as client:
        await begin(client, tool, **arguments)
        await stop(client, end)
    assert await ends_in(file) == [kind]


async def test_a_client_that_still_reads_gets_an_error_for_its_call():
    async with program("run", TARGET, "--stdio") as client:
        await begin(client, "sleep_in_thread")
        client.close()
        answer = await client.answer("call")
        assert "closed the pipe" in answer["error"]["message"]


async def test_requests_before_the_end_of_stdin_are_answered():
    """`printf … | headway run server.py --stdio`"""
    async with program("run", TARGET, "--stdio") as client:
        for number in range(50):
            await client.start("add", {"a": number, "b": 1}, era="2026", id=number)
        client.close()
        for number in range(50):
            assert "result" in await client.answer(number)
        assert await client.gone() == 0


async def test_a_client_that_neither_reads_nor_stays_is_noticed():
    async with program("run", TARGET, "--stdio") as client:
        await client.ready()
        transport_of(client.reader).pause_reading()
        line = b'{"jsonrpc":"2.0","id":1,"method":"%b"}\n' % (b"x" * 30_000)
        for _ in range(300):
            client.writer.write(line)
        # The server has stopped to read by now, or will: what is left never leaves our buffer.
        client.writer.transport.abort()
        assert await client.gone() == 0
