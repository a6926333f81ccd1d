"""A JSON-RPC batch of 2025-03-26: several requests, one stream that carries all their answers."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

from headway.transport.guard import Receive, Send
from headway.transport.sse import Answer, Headers


class Batch:
    """One HTTP answer shared by the answers of several runs.

    Each member writes its own stream; the frames go out as they come, and the answer is over
    when the last member is. A cut ends the reading only: each run can be resumed by itself.
    """

    def __init__(self, receive: Receive, send: Send, headers: Headers) -> None:
        self._receive = receive
        self._send = send
        self._headers = headers
        self._answers: list[Answer] = []
        self._lock = asyncio.Lock()
        self._gone = asyncio.Event()
        self._started = False
        self._open = 0

    async def receive(self) -> MutableMapping[str, Any]:
        """What a member hears from the connection: only that it is gone."""
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """The way back for each member."""
        async with self._lock:
            await self._pass_on(message)

    def add(self, answer: Answer) -> None:
        """Take one member in."""
        self._answers.append(answer)
        self._open += 1

    async def respond(self) -> None:
        """Run all members to their ends."""
        watcher = asyncio.create_task(self._watch())
        try:
            async with asyncio.TaskGroup() as group:
                for answer in self._answers:
                    group.create_task(answer.stream())
        finally:
            watcher.cancel()

    async def _pass_on(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            if self._started:
                return
            self._started = True
            message = {**message, "headers": [*message["headers"], *self._headers]}
        elif not message.get("more_body", False):
            self._open -= 1
            message = {**message, "more_body": self._open > 0}
        await self._send(message)

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone.set()
