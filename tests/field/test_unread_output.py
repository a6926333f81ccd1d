"""Nobody waits for whoever reads stderr, and nothing of it is lost that somebody reads."""

import asyncio
import logging
import os
import pty
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.kit.stdio import ROOT, Client, transport_of
from tests.kit.waits import wait_until, within

from headway.cli.log_output import unblocked_output

LINE = "a line of a log, longer than such lines are: " + "x" * 460 + "\n"
LINES = 2 * unblocked_output.MOST // len(LINE)
"""Twice what may wait."""

Ends = tuple[int, int]


def pipe() -> Ends:
    return os.pipe()


def socketpair() -> Ends:
    one, other = socket.socketpair()
    return one.detach(), other.detach()


def terminal() -> Ends:
    return pty.openpty()


@pytest.fixture(params=[pipe, socketpair, terminal])
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    """Who reads, and who writes."""
    reader, writer = request.param()
    yield reader, writer
    for end in (reader, writer):
        os.close(end)


@pytest.fixture
def read_ends() -> Iterator[Ends]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(writer)


def stream_of(writer: int) -> Any:
    return unblocked_output.queued_bytes(os.fdopen(writer, "w", closefd=False))


def test_twice_the_lines_that_may_wait_wait_for_nobody(ends: Ends):
    stream = stream_of(ends[1])
    for _ in range(LINES):
        stream.write(LINE)
    stream.flush()
    print("and a traceback", file=stream)
    assert not stream.buffer.drain(0.01)


def test_what_was_dropped_is_counted_when_somebody_reads(read_ends: Ends):
    reader, writer = read_ends
    stream = stream_of(writer)
    for _ in range(LINES):
        stream.write(LINE)
    read: list[bytes] = []
    threading.Thread(target=_read_all, args=(reader, read), daemon=True).start()
    wait_until(lambda: b"lines were dropped here" in b"".join(read)[-200:])
    stream.write("the next one\n")
    wait_until(lambda: b"the next one\n" in b"".join(read)[-200:])
    text = b"".join(read).decode()
    kept = text.count(LINE)
    dropped = int(text.split("headway: ")[1].split(" lines")[0])
    assert kept + dropped == LINES
    assert kept * len(LINE) <= unblocked_output.MOST + 2**20


def _read_all(reader: int, read: list[bytes]) -> None:
    while data := os.read(reader, 65536):
        read.append(data)
    os.close(reader)


def test_what_is_read_comes_in_order_with_what_native_code_writes(read_ends: Ends):
    reader, writer = read_ends
    stream = stream_of(writer)
    for number in range(100):
        stream.write(f"printed {number}\n")
        os.write(writer, f"native {number}\n".encode())
    shown = os.read(reader, 65536).decode().splitlines()
    assert shown == [f"{who} {number}" for number in range(100) for who in ("printed", "native")]


def test_a_process_that_is_forked_says_what_it_has_to_say():
    """It has no thread that writes."""
    code = (
        "import os, sys; from headway.cli.log_output import unblocked_output as output; "
        "output.make_output_unblocked(); "
        "sys.stderr.write('x' * 200_000); pid = os.fork(); "
        "pid or (sys.stderr.write('from the child'), os._exit(0)); os.waitpid(pid, 0); "
        "output.drain_output(60); os._exit(0)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], stderr=subprocess.PIPE, check=True, timeout=90
    ).stderr
    assert shown.count(b"x") == 200_000
    assert shown.count(b"from the child") == 1


def test_whoever_reads_no_more_hurts_nobody(read_ends: Ends):
    reader, writer = read_ends
    stream = stream_of(writer)
    stream.write("heard\n")
    os.close(reader)
    for _ in range(1000):
        stream.write(LINE)
    assert stream.buffer.drain(10)


def test_a_file_is_left_as_it_is(tmp_path: Path):
    with (tmp_path / "log").open("w") as file:
        assert unblocked_output.queued_bytes(file) is file
    with open(os.devnull, "w") as null:  # noqa: PTH123
        assert unblocked_output.queued_bytes(null) is null


def test_what_has_no_descriptor_is_left_as_it_is(capsys: pytest.CaptureFixture[str]):
    assert unblocked_output.queued_bytes(sys.stderr) is sys.stderr
    assert capsys.readouterr().err == ""


def test_a_handler_of_the_target_waits_for_nobody(ends: Ends):
    logger = logging.getLogger("unread")
    handler = logging.StreamHandler(stream_of(ends[1]))
    logger.addHandler(handler)
    logger.propagate = False
    try:
        for number in range(LINES):
            logger.warning("record %d %s", number, LINE)
    finally:
        logger.removeHandler(handler)


TARGET = """
import logging, sys, warnings
from mcp.server.mcpserver import MCPServer
logging.basicConfig(level=logging.INFO)
mcp = MCPServer("talker")
@mcp.tool()
async def talk(lines: int) -> int:
    for number in range(lines):
        logging.info("record %d %s", number, "x" * 100)
        print("printed", number, "x" * 100)
        sys.stderr.write(f"written {number}\\n")
        warnings.warn(f"warning {number}", stacklevel=1)
    return lines
"""


@pytest.mark.anyio
async def test_over_stdio_a_client_that_never_reads_stderr_is_answered(tmp_path: Path):
    (tmp_path / "talker.py").write_text(TARGET)
    reader, writer = os.pipe()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "headway", "run", str(tmp_path / "talker.py"), "--stdio",
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=writer,
    )  # fmt: skip
    os.close(writer)
    assert process.stdin is not None
    assert process.stdout is not None
    client = Client(process.stdout, process.stdin)
    try:
        answer = await within(client.call("talk", {"lines": 10_000}, era="2026"))
        assert answer["result"]["content"][0]["text"] == "10000"
        client.close()
        assert await within(process.wait()) == 0
    finally:
        os.close(reader)
        transport_of(process).close()
