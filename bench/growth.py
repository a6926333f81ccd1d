"""The job that measures memory: what idle sessions and open streams add to a server."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable

import msgspec
import psutil

from bench.checks import WrongAnswer, check_call
from bench.clients import Client, open_session
from bench.connection import Connection, Response
from bench.jobs import Memory
from bench.wire import FIRST_ID, Wire

METHOD_NOT_FOUND = -32601


class Growth:
    """Opens what costs the server memory and reads how large it became; all stays open."""

    def __init__(self, job: Memory) -> None:
        self._job = job
        self._held: list[Connection] = []

    async def resident(self) -> int:
        """The server's resident bytes, once it has collected its garbage and is quiet."""
        await asyncio.sleep(0.2)
        os.kill(self._job.pid, signal.SIGUSR1)
        await asyncio.sleep(0.3)
        resident: int = psutil.Process(self._job.pid).memory_info().rss
        return resident

    async def idle_session(self, _number: int) -> bool:
        """A session whose client went away without a word."""
        connection = await Connection.connect(self._job.port)
        await open_session(connection, self._job.port)
        connection.close()
        return True

    async def get_stream(self, _number: int) -> bool:
        """A session with its GET stream open, on the same connection."""
        connection = await Connection.connect(self._job.port)
        wire = await open_session(connection, self._job.port)
        response = await connection.hold(wire.get(), after_head=True)
        return self._keep(connection, response)

    async def listen_stream(self, number: int) -> bool:
        """A subscription of the 2026 era; False where the server has none."""
        connection = await Connection.connect(self._job.port)
        request = Wire(self._job.port, "2026").listen().fill(FIRST_ID + number)
        response = await connection.hold(request, after_head=False)
        if response.status != 200 or "json" in (response.header("content-type") or ""):
            connection.close()
            error = msgspec.json.decode(response.body)["error"]
            if error["code"] == METHOD_NOT_FOUND:
                return False
            raise WrongAnswer(f"subscriptions/listen: {error}")
        return self._keep(connection, response)

    def _keep(self, connection: Connection, response: Response) -> bool:
        kind = response.header("content-type") or ""
        if response.status != 200 or not kind.startswith("text/event-stream"):
            raise WrongAnswer(f"no stream: HTTP {response.status} {response.body[:200]!r}")
        self._held.append(connection)
        return True

    def check_open(self) -> None:
        """No stream may have ended behind our back.

        Raises:
            WrongAnswer: One did.
        """
        if not all(connection.open for connection in self._held):
            raise WrongAnswer("the server ended a stream that was to stay open")

    def close(self) -> None:
        """End all that is open."""
        for connection in self._held:
            connection.close()


async def memory(job: Memory) -> dict[str, float | None]:
    """Bytes a session and a stream, and the process at rest."""
    growth = Growth(job)
    kinds: list[tuple[str, Callable[[int], Awaitable[bool]], int]] = [
        ("idle_session", growth.idle_session, job.sessions),
        ("get_stream", growth.get_stream, job.streams),
        ("listen_stream", growth.listen_stream, job.streams),
    ]
    async with Client(job.port, "2026") as client:
        warm = await client.call(client.wire.call("echo", {"text": "warm"}))
        check_call(*warm, "warm")
    offered = [all([await open_one(n) for n in range(20)]) for _, open_one, _ in kinds]
    before = await growth.resident()
    figures: dict[str, float | None] = {"at_rest": before}
    for (name, open_one, count), possible in zip(kinds, offered, strict=True):
        if not possible:
            figures[name] = None
            continue
        for number in range(count):
            await open_one(number + 20)
        growth.check_open()
        after = await growth.resident()
        figures[name] = (after - before) / count
        before = after
    growth.close()
    return figures
