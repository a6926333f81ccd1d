"""The two descriptors by themselves."""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from tests.kit.stdio import ends_of, transport_of
from tests.kit.waits import PATIENCE, until

from headway.transport.stdio.pipe import Pipe
from headway.transport.stdio.pipe_writer import ROOM

pytestmark = pytest.mark.anyio


class Ends:
    """A pipe and the client's ends of it."""

    def __init__(self, *, blocking: bool = True) -> None:
        self.source, self.to_server = os.pipe()
        self.from_server, self.sink = os.pipe()
        for fd in (self.source, self.sink):
            os.set_blocking(fd, blocking)
        self.lost: list[str] = []
        self.pipe = Pipe(
            self.source, self.sink, longest=10_000_000, on_end=lambda: self.lost.append("lost")
        )
        self.pipe.start()

    @asynccontextmanager
    async def client(self) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """Both as streams, closed at the end."""
        reader, writer = await ends_of(self.from_server, self.to_server)
        try:
            async with asyncio.timeout(PATIENCE):
                yield reader, writer
        finally:
            if not writer.is_closing():
                writer.transport.abort()
            transport_of(reader).close()


@pytest.mark.parametrize("blocking", [True, False])
async def test_megabytes_go_both_ways_on_blocking_and_non_blocking_pipes(blocking: bool):
    ends = Ends(blocking=blocking)
    text = b"x" * 5_000_000
    async with ends.client() as (reader, writer):
        writer.write(text + b"\nshort\n")
        lines = ends.pipe.lines()
        assert await anext(lines) == text
        assert await anext(lines) == b"short"
        ends.pipe.writer.put(text)
        ends.pipe.writer.put(b"last")
        assert await reader.readline() == text + b"\n"
        assert await reader.readline() == b"last\n"
        writer.close()
        assert [line async for line in lines] == []
    assert ends.pipe.client_left
    assert ends.lost == ["lost"]


async def test_a_writer_waits_while_the_pipe_is_full():
    ends = Ends()
    ends.pipe.writer.put(b"x" * (ROOM + 100_000))  # more than a pipe holds
    waiting = asyncio.create_task(ends.pipe.writer.wait_for_room())
    await asyncio.sleep(0)
    assert not waiting.done()
    async with ends.client() as (reader, _):
        await reader.readline()
        await waiting
        await ends.pipe.writer.flush()


async def test_writers_go_on_when_the_client_has_left():
    ends = Ends()
    os.close(ends.from_server)
    ends.pipe.writer.put(b"x" * (ROOM + 1))
    async with asyncio.timeout(PATIENCE):
        await ends.pipe.writer.wait_for_room()
        await ends.pipe.writer.flush()
        await ends.pipe.ended.wait()
    ends.pipe.writer.put(b"into nothing")
    assert ends.pipe.client_left
    assert "lost" in ends.lost
    os.close(ends.to_server)


async def test_a_client_that_leaves_while_it_is_not_read_is_noticed():
    ends = Ends()
    async with ends.client() as (_, writer):
        writer.write(b"x\n" * 1_000_000)  # nobody calls `lines`
        await until(lambda: writer.transport.get_write_buffer_size() < 1_000_000)
        writer.transport.abort()
        await ends.pipe.ended.wait()
    assert ends.lost == ["lost"]
