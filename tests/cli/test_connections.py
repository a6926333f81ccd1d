"""The bounds of a connection: what it may send, how long it may take, and how many there may be."""

import asyncio
import gc
import logging
import socket
import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.cli.length_app import LengthApp, answered, post
from tests.kit.http import Connection
from tests.kit.waits import PATIENCE, until, within

from headway import Settings
from headway.cli.server import client_connection
from headway.cli.server.http_server import serving

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def served(**settings: Any) -> AsyncGenerator[LengthApp]:
    server = LengthApp()
    async with serving(server, settings=Settings(**settings), grace=0) as origin:
        server.port = int(origin.rpartition(":")[2])
        try:
            yield server
        finally:
            for connection in server.connections:
                connection.cut()


async def refused(connection: Connection) -> tuple[int, str]:
    """The status and the text of a refusal, after which nothing may come."""
    answer = await connection.answer()
    text = (await answer.body()).decode()
    assert await within(connection.reader.read()) == b""
    return answer.status, text


# Heads


@pytest.mark.parametrize("pieces", [1, 7, 100])
async def test_a_head_that_is_too_large_is_refused(pieces: int):
    async with served(max_head=2000) as server:
        connection = await server.connect()
        data = post(b"", "X-Long: " + "x" * 3000)
        step = len(data) // pieces + 1
        for at in range(0, len(data), step):
            connection.write(data[at : at + step])
            await asyncio.sleep(0)
        status, text = await refused(connection)
        assert (status, "2000 bytes" in text) == (431, True)
        assert not server.asked
        assert await answered_on_a_new(server) == "0"


async def test_a_head_that_is_just_small_enough_is_taken_with_its_body():
    async with served(max_head=2000) as server:
        connection = await server.connect()
        connection.write(post(b"b" * 5000, "X-Long: " + "x" * 1500))
        assert await answered(connection) == "5000"


async def test_bytes_after_a_refused_head_are_not_read():
    async with served(max_head=2000) as server:
        connection = await server.connect()
        connection.write(post(b"b" * 10, "X-Long: " + "x" * 3000) + post(b"b"))
        assert (await refused(connection))[0] == 431
        assert not server.asked


NONSENSE = [b"Transfer-Encoding: chunked, 5", b"Content-Length: -5", b"\x01\x02"]


@pytest.mark.parametrize("nonsense", NONSENSE)
async def test_a_head_that_is_too_large_and_no_http_either_is_refused_once(
    nonsense: bytes, caplog: pytest.LogCaptureFixture
):
    async with served(max_head=2000) as server:
        connection = await server.connect()
        connection.write(post(b"b", "X-Long: " + "x" * 3000, nonsense.decode()))
        status, _ = await refused(connection)
        assert status in (400, 431)
        assert not server.asked
        assert await answered_on_a_new(server) == "0"
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_garbage_after_a_refused_head_is_not_answered(
    caplog: pytest.LogCaptureFixture,
):
    async with served(max_head=2000) as server:
        connection = await server.connect()
        connection.write(post(b"", "X-Long: " + "x" * 3000) + b"GARBAGE\r\n\r\n")
        assert (await refused(connection))[0] == 431
        assert await answered_on_a_new(server) == "0"
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_garbage_behind_a_request_is_refused_in_place_of_its_answer():
    async with served() as server:
        server.go.clear()
        connection = await server.connect()
        connection.write(post(b"b"))
        await until(lambda: server.asked)
        connection.write(b"GARBAGE\r\n\r\n")
        assert (await refused(connection))[0] == 400
        server.go.set()
        assert await answered_on_a_new(server) == "0"


async def test_garbage_is_not_answered_inside_an_answer_that_has_begun():
    async with served() as server:
        server.is_early = True
        server.go.clear()
        connection = await server.connect()
        connection.write(post(b"b"))
        answer = await connection.answer()
        connection.write(b"GARBAGE\r\n\r\n")
        assert (answer.status, await within(connection.reader.read())) == (200, b"")
        server.go.set()
        assert await answered_on_a_new(server) == "0"


async def answered_on_a_new(server: LengthApp) -> str:
    connection = await server.connect()
    connection.write(post())
    return await answered(connection)


# Time


async def test_a_connection_that_sends_nothing_is_closed_without_an_answer():
    async with served(head_timeout=0.05) as server:
        connection = await server.connect()
        assert await within(connection.reader.read()) == b""


@pytest.mark.parametrize("part", ["head", "body"])
async def test_a_head_or_body_that_does_not_arrive_in_time_is_refused(part: str):
    async with served(**{f"{part}_timeout": 0.05}) as server:
        connection = await server.connect()
        data = post(b"0123456789")
        connection.write(data[:20] if part == "head" else data[:-5])
        status, text = await refused(connection)
        assert (status, part in text) == (408, True)
        assert server.asked == (part == "body")


async def test_the_second_request_of_a_connection_has_to_arrive_in_time_too():
    async with served(head_timeout=0.05) as server:
        connection = await server.connect()
        connection.write(post(b"one"))
        assert await answered(connection) == "3"
        connection.write(post(b"two")[:20])
        assert (await refused(connection))[0] == 408


async def test_a_body_in_pieces_is_waited_for_and_the_next_request_begins_anew():
    async with served(head_timeout=5, body_timeout=5) as server:
        connection = await server.connect()
        for _ in range(3):
            data = post(b"0123456789")
            for at in range(0, len(data), 9):
                connection.write(data[at : at + 9])
                await asyncio.sleep(0)
            assert await answered(connection) == "10"


@pytest.mark.parametrize("rest", [b"", b"POST / HT"], ids=["whole", "with the next one begun"])
async def test_an_answer_may_take_as_long_as_it_likes(rest: bytes):
    async with served(head_timeout=0.03, body_timeout=0.03) as server:
        server.go.clear()
        connection = await server.connect()
        connection.write(post(b"body") + rest)
        await until(lambda: server.asked)
        for _ in range(3):  # each of these has its time, one after the other
            other = await server.connect()
            assert await within(other.reader.read()) == b""
        server.go.set()
        assert await answered(connection) == "4"


# Numbers


async def test_a_connection_above_the_limit_is_refused_with_retry_after(
    caplog: pytest.LogCaptureFixture,
):
    async with served(max_connections=2) as server:
        first, second = await server.connect(), await server.connect()
        for connection in (first, second):
            connection.write(post())
            assert await answered(connection) == "0"
        with caplog.at_level(logging.WARNING):
            for _ in range(3):
                third = await server.connect()
                answer = await third.answer()
                assert (answer.status, answer.headers["retry-after"]) == (503, "5")
                assert "(2)" in (await answer.body()).decode()
        assert sum("turned away" in record.message for record in caplog.records) == 1
        first.write(post(b"still here"))
        assert await answered(first) == "10"
        second.cut()

        async def is_let_in() -> bool:
            connection = await server.connect()
            connection.write(post())
            return (await connection.answer()).status == 200

        async with asyncio.timeout(PATIENCE):
            while not await is_let_in():
                pass


async def test_nothing_is_kept_of_a_connection_that_was_reset_while_it_was_idle():
    def held() -> int:
        gc.collect()
        return sum(isinstance(one, client_connection.Connection) for one in gc.get_objects())

    async with served() as server:
        before = held()
        connection = await server.connect()
        connection.write(post(b"body"))
        assert await answered(connection) == "4"
        assert held() > before
        end = connection.writer.get_extra_info("socket")
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.cut()
        await until(lambda: held() == before)


async def test_an_idle_connection_is_closed_in_time_and_not_before_a_load_balancer_would():
    assert Settings().keep_alive > 60
    async with served(keep_alive=0.05) as server:
        connection = await server.connect()
        connection.write(post(b"abc"))
        assert await answered(connection) == "3"
        assert await within(connection.reader.read()) == b""
