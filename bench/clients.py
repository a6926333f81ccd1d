"""A client of the load generator: a connection, in 2025 with its session."""

import itertools
import time
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from bench.checks import WrongAnswer, messages
from bench.connection import Connection, Response
from bench.wire import FIRST_ID, Era, Template, Wire

Answers = list[tuple[Response, int]]


class Client:
    """A connection, in 2025 with its session, that calls tools."""

    def __init__(self, port: int, era: Era) -> None:
        self._port = port
        self._era: Era = era
        self._ids = itertools.count(FIRST_ID + 1)
        self.connection = Connection()
        self.wire = Wire(port, era)

    async def __aenter__(self) -> Self:
        self.connection = await Connection.connect(self._port)
        if self._era == "2025":
            self.wire = await open_session(self.connection, self._port)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.wire.session is not None and self.connection.open and error is None:
            await self.connection.ask(self.wire.delete())
        self.connection.close()

    async def call(self, template: Template) -> tuple[Response, int]:
        """One call: its answer and its id."""
        request_id = next(self._ids)
        return await self.connection.ask(template.fill(request_id)), request_id

    async def call_until(self, template: Template, deadline: float) -> Answers:
        """Call at least once, and again until the time is over."""
        answers = [await self.call(template)]
        while time.perf_counter() < deadline:
            answers.append(await self.call(template))
        return answers


async def open_session(connection: Connection, port: int) -> Wire:
    """The 2025 handshake; returns what makes the session's requests."""
    wire = Wire(port, "2025")
    response = await connection.ask(wire.initialize().fill(FIRST_ID))
    session = response.header("mcp-session-id")
    if session is None or messages(response)[-1].result is None:
        raise WrongAnswer(f"no session: HTTP {response.status} {response.body[:200]!r}")
    wire = Wire(port, "2025", session)
    response = await connection.ask(wire.initialized())
    if response.status != 202:
        raise WrongAnswer(f"notifications/initialized: HTTP {response.status}")
    return wire


async def connect(stack: AsyncExitStack, port: int, era: Era, count: int) -> list[Client]:
    """Connected clients, closed with the stack."""
    return [await stack.enter_async_context(Client(port, era)) for _ in range(count)]
