"""A server that is told to stop, as its connections see it: no request that was sent is lost."""

import asyncio
import socket
import sys
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from tests.cli.length_app import LengthApp, answered, post
from tests.kit.http import Connection
from tests.kit.waits import PATIENCE, until, within

from headway import Settings
from headway.cli.server import stop_accepting as stop_accepting_module
from headway.cli.server.http_server import serving
from headway.cli.server.listener import listening
from headway.cli.server.stop_accepting import drop_new_connections, stop_accepting

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _as_it_is_shipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stop_accepting_module, "HANDSHAKE_TIME", 0.05)


class Leaving(LengthApp):
    """An app that is told to stop, and drains until it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.stop = asyncio.Event()
        self.is_told = asyncio.Event()
        self.drained = asyncio.Event()
        self.ended = asyncio.Event()

    async def drain(self) -> None:
        self.is_told.set()
        await self.drained.wait()

    async def told(self) -> None:
        """Tell it to stop; returns when it knows."""
        self.stop.set()
        await within(self.is_told.wait())

    async def closed(self) -> None:
        """Let it end; returns when it takes no more connections."""
        self.drained.set()
        with suppress(ConnectionRefusedError):
            while True:
                (await Connection.open("127.0.0.1", self.port)).cut()


@asynccontextmanager
async def served(**settings: Any) -> AsyncGenerator[Leaving]:
    server, is_up = Leaving(), asyncio.Event()

    async def live() -> None:
        async with serving(server, settings=Settings(**settings)) as origin:
            server.port = int(origin.rpartition(":")[2])
            is_up.set()
            await server.stop.wait()
        server.ended.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(live())
        await within(is_up.wait())
        try:
            yield server
        finally:
            server.stop.set()
            server.drained.set()
            for connection in server.connections:
                connection.cut()


async def last(connection: Connection) -> bool:
    """Whether an answer says that it is the last one on its connection, and it is."""
    answer = await connection.answer()
    assert answer.status == 200
    await answer.body()
    if answer.headers.get("connection") != "close":
        return False
    assert await within(connection.reader.read()) == b""
    return True


async def test_an_answer_of_a_server_that_is_told_to_stop_is_the_last_on_its_connection():
    async with served() as server:
        idle, waiting = await server.connect(), await server.connect()
        idle.write(post())
        assert not await last(idle)
        server.go.clear()
        waiting.write(post())
        await until(lambda: server.asked == 2)
        await server.told()
        server.go.set()
        idle.write(post())
        new = await server.connect()
        new.write(post())
        assert [await last(one) for one in (waiting, idle, new)] == [True] * 3


async def test_one_more_request_is_answered_after_an_answer_that_had_begun():
    async with served(shutdown_delay=60) as server:
        server.is_early = True
        server.go.clear()
        connection = await server.connect()
        connection.write(post())
        answer = await connection.answer()
        await server.told()
        server.go.set()
        await answer.body()
        assert answer.headers.get("connection") != "close"
        await server.closed()
        connection.write(post())
        assert await last(connection)
        await within(server.ended.wait())


async def test_a_request_on_a_connection_that_was_open_before_the_stop_is_answered():
    async with served(shutdown_delay=60) as server:
        connection = await server.connect()
        await server.told()
        await server.closed()
        assert not server.ended.is_set()
        connection.write(post(b"body"))
        assert await answered(connection) == "4"
        await within(server.ended.wait())


async def test_idle_connections_do_not_hold_up_the_end():
    async with served(shutdown_delay=60) as server:
        connection = await server.connect()
        connection.write(post())
        assert not await last(connection)
        await server.told()
        await server.closed()
        connection.cut()
        await within(server.ended.wait())
    async with served() as server:
        connection = await server.connect()
        await server.told()
        await server.closed()
        assert await within(connection.reader.read()) == b""
        await within(server.ended.wait())


def ask(port: int) -> str:
    """What becomes of a request; connecting is a step of its own, as it is for proxies."""
    try:
        client = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    except ConnectionRefusedError:
        return "refused"
    with client:
        try:
            client.sendall(post())
            return client.recv(100).partition(b"\r\n")[0].decode() or "closed"
        except OSError as error:
            return repr(error)


async def test_a_connection_at_the_moment_of_the_end_is_answered_or_refused():
    async with served() as server:
        told: list[str] = []

        def come() -> None:
            while "refused" not in told:
                told.append(ask(server.port))

        crowd = [threading.Thread(target=come) for _ in range(4)]
        for one in crowd:
            one.start()
        await server.told()
        server.drained.set()
        await within(server.ended.wait(), 30)
        for one in crowd:
            await asyncio.to_thread(one.join)
        assert set(told) <= {"HTTP/1.1 200 OK", "refused"}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ignores who knocks")
async def test_a_waiting_connection_is_accepted_and_a_later_one_is_refused():
    loop = asyncio.get_running_loop()
    with listening("127.0.0.1", 0) as all, socket.socket() as early, socket.socket() as late:
        [listener] = all.sockets
        address = listener.getsockname()
        early.setblocking(False)
        late.setblocking(False)
        await loop.sock_connect(early, address)
        drop_new_connections(listener)
        knocking = asyncio.create_task(loop.sock_connect(late, address))
        await asyncio.sleep(0)
        taken, _ = await within(loop.sock_accept(listener))
        with taken:
            await loop.sock_sendall(early, b"request")
            assert await within(loop.sock_recv(taken, 100)) == b"request"
        with pytest.raises(BlockingIOError):
            listener.accept()
        assert not knocking.done()
        listener.close()
        with pytest.raises(ConnectionRefusedError):
            await within(knocking, 30)


async def test_the_listener_is_not_closed_before_all_waiting_connections_are_accepted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stop_accepting_module, "HANDSHAKE_TIME", 0.0)
    taken: list[socket.socket] = []
    loop = asyncio.get_running_loop()
    with listening("127.0.0.1", 0) as all:
        [listener] = all.sockets
        waiting = [socket.create_connection(listener.getsockname()) for _ in range(20)]
        loop.add_reader(listener, lambda: taken.append(listener.accept()[0]))  # one in each turn
        await stop_accepting(listener, is_shared=True)
        loop.remove_reader(listener)
    for one in (*taken, *waiting):
        one.close()
    assert len(taken) == len(waiting)
