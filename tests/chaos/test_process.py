"""The process harness of the test kit starts, ends and starts again, and leaves nothing behind."""

import asyncio
import re
import sys
from pathlib import Path

import pytest
from tests.kit.waits import PATIENCE, is_alive, until

from headway.testing import NotReady, ServerProcess

pytestmark = pytest.mark.anyio

STUBBORN = str(Path(__file__).with_name("stubborn.py"))


def stubborn(mode: str, **options: object) -> ServerProcess:
    return ServerProcess([sys.executable, STUBBORN, "{port}", mode], **options)  # type: ignore[arg-type]


async def test_a_server_is_ready_when_it_says_so_and_gone_after_the_context() -> None:
    async with stubborn("plain") as server:
        assert server.is_running
        assert server.starts == 1
        pid = server.pid
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /else HTTP/1.0\r\n\r\n")
        assert b"404" in await reader.readline()
        writer.close()
    assert not is_alive(pid)


async def test_a_port_that_takes_connections_can_be_enough() -> None:
    async with stubborn("plain", ready=None) as server:
        assert server.is_running


async def test_a_server_that_is_killed_and_started_again_has_the_same_address() -> None:
    async with stubborn("plain") as server:
        first, origin = server.pid, server.origin
        await server.kill()
        assert not server.is_running
        assert not is_alive(first)
        await server.start()
        assert (server.origin, server.starts) == (origin, 2)
        assert server.pid != first
        both = [str(first), str(server.pid)]
        await until(lambda: re.findall(r"process (\d+)", server.stderr) == both)


async def test_a_server_that_is_told_to_stop_has_an_exit_code() -> None:
    async with stubborn("orderly") as server:
        assert await server.restart() == 7
        assert await server.terminate() == 7
        assert not server.is_running


async def test_a_server_that_does_not_stop_is_named_and_killed() -> None:
    async with stubborn("deaf", patience=1) as server:
        pid = server.pid
        with pytest.raises(NotReady, match="did not end within 1 s: process"):
            await server.terminate()
    assert not is_alive(pid)


async def test_a_server_that_does_not_come_up_says_why() -> None:
    with pytest.raises(NotReady, match=r"ended with 1: (.|\n)*no configuration"):
        async with stubborn("fails"):
            pass


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="the system does not say")
async def test_children_of_a_server_end_with_it_and_its_resources_are_counted() -> None:
    async with stubborn("parent") as server:
        held = server.held()
        assert held.children == 1
        assert held.threads >= 1
        assert held.descriptors >= 4
        assert held.memory > 1_000_000
        await until(lambda: re.search(r"child \d+\n", server.stderr))
        child = int(server.stderr.split("child ")[1].split()[0])
        await server.kill()
        assert is_alive(child)
        await server.start()
    # Killed with its group; whoever adopted it reaps it when it likes.
    async with asyncio.timeout(PATIENCE):
        while is_alive(child):  # noqa: ASYNC110 - nothing tells of somebody else's child
            await asyncio.sleep(0.01)


async def test_an_error_inside_of_the_context_ends_the_server_too() -> None:
    server = stubborn("plain")
    with pytest.raises(RuntimeError, match="test"):
        async with server:
            raise RuntimeError("a failed test")
    assert not server.is_running
