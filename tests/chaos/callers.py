"""Callers that do not give up: each kind comes back in its own way, and says how its call ended."""

import asyncio
import itertools
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

from tests.chaos.hearing import Stream, Unexpected, hear, settle
from tests.chaos.tally import Call, Tally
from tests.kit.http import Answer, Connection
from tests.kit.known import bearer
from tests.kit.peers import Extra, Modern, Session, Wire

from headway.clock import Clock

CUT = (OSError, EOFError, ValueError, TimeoutError)
"""How a lost connection shows, wherever it is noticed."""

KEY = "headway/idempotency-key"
TASKS = {"extensions": {"io.modelcontextprotocol/tasks": {}}}
TERMINAL = ("completed", "failed", "cancelled")


class Lost(Exception):
    """The connection was lost, or the server is not taking calls at the moment."""


class Line(Wire):
    """The way to the server; every connection is closed by whoever asked for it."""

    def __init__(self, origin: str, name: str = "storm") -> None:
        super().__init__(origin, cast("Any", None), Clock())
        self._token = bearer(name)  # which a server that knows nobody does not look at

    async def send(
        self,
        method: str,
        headers: Extra,
        body: bytes = b"",
        *,
        path: str | None = None,
        receive_buffer: int | None = None,
    ) -> Connection:
        known = {**self._token, **headers}
        return await super().send(method, known, body, path=path, receive_buffer=receive_buffer)

    async def connect(self, *, receive_buffer: int | None = None) -> Connection:
        return await Connection.open(self.host, self.port, receive_buffer=receive_buffer)

    async def ask(
        self, method: str, headers: Extra, body: bytes = b"", *, path: str | None = None
    ) -> Answer:
        connection = await self.send(method, headers, body, path=path)
        try:
            return await connection.answer()
        except BaseException:
            connection.cut()
            raise


class Caller:
    """One client: a 2025 session that it keeps, and requests of 2026."""

    def __init__(self, origin: str, tally: Tally, chance: random.Random, pause: float) -> None:
        self.line = Line(origin)
        self.tally = tally
        self.chance = chance
        self.pause = pause
        self.session: Session | None = None
        self._numbers = itertools.count(1)
        self.streams: list[tuple[Session, Call, Stream]] = []
        """2025 streams that were heard to their end."""

    @asynccontextmanager
    async def _answer(self, asking: Awaitable[Answer]) -> AsyncGenerator[Answer]:
        """An answer that is taken; whatever happens, its connection is closed.

        Raises:
            Lost: It was cut, on the way there or back, or the server is stopping.
        """
        answer: Answer | None = None
        try:
            answer = await asking
            if answer.status in (409, 502, 503, 504):  # also of a proxy whose server died
                self.tally.count("refused")
                raise Lost
            yield answer
        except CUT:
            self.tally.count("lost connections")
            raise Lost from None
        finally:
            if answer is not None:
                answer.cut()

    async def breathe(self) -> None:
        await asyncio.sleep(self.chance.uniform(0, self.pause))

    # 2025

    async def _session(self) -> Session:
        """The session of this caller; opened when there is none."""
        while self.session is None:
            try:
                async with asyncio.timeout(5):
                    self.session = await Session.open(self.line)
                self.tally.count("sessions")
            except (*CUT, AssertionError):  # cut in the handshake, or refused: nothing was called
                self.tally.count("handshakes lost")
                await self.breathe()
        return self.session

    async def leave(self) -> None:
        """Close the session."""
        while self.session is not None:
            try:
                async with self._answer(self.session.delete()) as answer:
                    if answer.status not in (200, 404):
                        raise Unexpected(f"DELETE was answered {answer.status}")
                self.session = None
            except Lost:
                await self.breathe()

    def _call_message(self, session: Session, call: Call, **more: Any) -> dict[str, Any]:
        number = next(self._numbers)
        meta: dict[str, Any] = {} if call.key is None else {KEY: call.key}
        if not more:
            meta["progressToken"] = f"t{number}"
        params = {"name": call.tool, "arguments": call.arguments, "_meta": meta, **more}
        return session.message("tools/call", params, id=f"{call.job}/{number}")

    async def resume(self, call: Call) -> None:
        """2025: come back with Last-Event-ID; without an id, with the key; without one, not."""
        while call.ended is None:
            session = await self._session()
            message = self._call_message(session, call)
            stream = Stream(self.tally, call)
            if await self._heard(call, session.post(message), message["id"], stream):
                self.streams.append((session, call, stream))
                return
            if await self._resumed(call, session, message["id"], stream):
                return
            if call.ended is None and call.key is None:
                call.end("gone")
                return
            self.tally.count("attaches")
            await self.breathe()

    async def _resumed(self, call: Call, session: Session, identity: object, s: Stream) -> bool:
        """Whether the call ended on its first stream, read on as often as that takes."""
        while s.last is not None:
            if call.key is not None and self.chance.random() < 0.2:
                return False
            await self.breathe()
            self.tally.count("resumes")
            if await self._heard(call, session.get(s.last), identity, s):
                self.streams.append((session, call, s))
                return True
            if call.ended is not None:
                return True
            if self.session is not session:
                return False
        return False

    async def _heard(
        self, call: Call, asking: Awaitable[Answer], identity: object, stream: Stream
    ) -> bool:
        """Whether this answer brought the end of the call."""
        try:
            async with self._answer(asking) as answer:
                if answer.status >= 400:
                    await self._refused(call, answer, stream)
                    return False
                response = await hear(answer, identity, stream)
                if response is None or not settle(call, response):
                    return False
        except Lost:
            return False
        if call.ended == "result":
            stream.complete(call.nonce)
        return True

    async def _refused(self, call: Call, answer: Answer, stream: Stream) -> None:
        body = await answer.body()
        if b"names no event" in body and stream.may_be_lost:
            stream.last = None  # nothing leads back to it
            return
        if answer.status == 404 and call.kind.startswith("2025"):
            self.tally.violation("a session was lost", call)
            self.session = None
            return
        raise Unexpected(f"{answer.status}: {body.decode()[:300]}")

    async def read_again(self, call: Call, stream: Stream) -> None:
        """2025: the whole stream once more, from its first event on; it must be what it was."""
        assert self.session is not None
        again = Stream(self.tally, call)
        async with self._answer(self.session.get(stream.first)) as answer:
            if answer.status != 200:
                raise Unexpected(f"a stream that was read before is answered {answer.status}")
            while (frame := await answer.frame()) is not None:
                again.take(frame)
        self.tally.count("streams read again")
        stream.compare(again)

    # What both eras have

    async def _asked(self, asking: Awaitable[Answer], identity: object) -> dict[str, Any]:
        """The response to a request that may be sent again.

        Raises:
            Lost: There was none.
        """
        async with self._answer(asking) as answer:
            response = await hear(answer, identity, None)
            if response is None:
                raise Lost
            return response

    async def persist(self, call: Call, attempt: Callable[[Call], Awaitable[None]]) -> None:
        """Try until the call has ended; every try has its key."""
        while call.ended is None:
            try:
                await attempt(call)
            except Lost:
                self.tally.count("attaches")
                await self.breathe()

    # 2025 tasks and handles

    async def task_2025(self, call: Call) -> None:
        """2025: ask for a task, then wait for its result."""
        session = await self._session()
        message = self._call_message(session, call, task={})
        created = await self._asked(session.post(message), message["id"])
        if settle(call, created):
            return
        task = created["result"]["task"]["taskId"]
        while call.ended is None:
            wait = session.message("tasks/result", {"taskId": task}, id=next(self._numbers))
            try:
                settle(call, await self._asked(session.post(wait), wait["id"]))
            except Lost:
                self.tally.count("resumes")
                await self.breathe()

    async def handle_2025(self, call: Call) -> None:
        """2025 without a token: an answer in time, and `continue_run` for the rest."""
        session = await self._session()
        meta = {KEY: call.key}
        params: dict[str, Any] = {"name": call.tool, "arguments": call.arguments, "_meta": meta}
        while True:
            message = session.message("tools/call", params, id=f"h{next(self._numbers)}")
            response = await self._asked(session.post(message), message["id"])
            if settle(call, response):
                return
            params = self._continued(response)

    def _continued(self, response: dict[str, Any]) -> dict[str, Any]:
        run_id = response["result"]["structuredContent"]["run_id"]
        self.tally.count("handles")
        return {"name": "continue_run", "arguments": {"run_id": run_id}}

    # 2026

    def _modern_call(self, client: Modern, call: Call, token: bool) -> dict[str, Any]:
        number = next(self._numbers)
        params = {"name": call.tool, "arguments": call.arguments}
        told: dict[str, Any] = {"token": f"t{number}", "level": "info"} if token else {}
        body = client.body("tools/call", params, id=number, **told)
        if call.key is not None:
            body["params"]["_meta"][KEY] = call.key
        return body

    async def modern(self, call: Call) -> None:
        """2026: send the call again with its key; without one, a cut is the end."""
        client = Modern(self.line)
        while call.ended is None:
            body = self._modern_call(client, call, token=True)
            stream = Stream(self.tally, call)
            await self._heard(call, client.post(body), body["id"], stream)
            if call.ended is None and call.key is None:
                call.end("gone")
            elif call.ended is None:
                self.tally.count("attaches")
                await self.breathe()

    async def task(self, call: Call) -> None:
        """2026 with the tasks extension: a task, and polls for it."""
        client = Modern(self.line, TASKS)
        body = self._modern_call(client, call, token=False)
        created = await self._asked(client.post(body), body["id"])
        if settle(call, created):
            return
        task = created["result"]["taskId"]
        self.tally.count("tasks")
        while call.ended is None:
            poll = client.body("tasks/get", {"taskId": task}, id=next(self._numbers))
            try:
                state = await self._asked(client.post(poll, {"Mcp-Name": task}), poll["id"])
            except Lost:
                await self.breathe()
                continue
            if "error" in state or state["result"]["status"] in TERMINAL:
                settle(call, state)
                if call.ended is None:
                    raise Unexpected(str(state)[:300])
            await asyncio.sleep(0.02)

    async def handle(self, call: Call) -> None:
        """2026 without token and tasks: an answer in time, and `continue_run` for the rest."""
        client = Modern(self.line)
        body = self._modern_call(client, call, token=False)
        while True:
            response = await self._asked(client.post(body), body["id"])
            if settle(call, response):
                return
            body = client.body("tools/call", self._continued(response), id=next(self._numbers))
