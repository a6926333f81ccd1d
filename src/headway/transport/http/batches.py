"""A JSON-RPC batch of 2025-03-26: several requests, one stream that carries all their answers."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

from starlette.types import Receive, Send

from headway.transport.http.json_or_sse import ResponseStream
from headway.transport.http.reply import Headers, send_event
from headway.transport.open_responses import OpenResponses, ReaderSlot


class Batch:
    """One HTTP answer shared by the answers of several runs.

    Each member writes its own stream; the frames go out as they come, and the answer is over
    when the last member is. A cut ends the reading only: each run can be resumed by itself.
    """

    def __init__(self, receive: Receive, send: Send, headers: Headers) -> None:
        self._receive = receive
        self._send = send
        self._headers = headers
        self._members: list[tuple[str, ResponseStream, ReaderSlot]] = []
        self._refusals: list[bytes] = []
        self._lock = asyncio.Lock()
        self._gone = asyncio.Event()
        self._started = False
        self._open = 0

    async def receive_disconnect(self) -> MutableMapping[str, Any]:
        """Return an `http.disconnect` when the connection is gone; members receive nothing else."""
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def send_member(self, message: MutableMapping[str, Any]) -> None:
        """Send an ASGI message of a member as part of the one answer."""
        async with self._lock:
            await self._send_merged(message)

    def add_member(self, stream: str, answer: ResponseStream, place: ReaderSlot) -> None:
        """Take one member in: the answer that reads `stream`."""
        self._members.append((stream, answer, place))
        self._open += 1

    def add_refusal(self, message: bytes) -> None:
        """Take in a request that is refused by itself: its answer is this JSON-RPC message."""
        self._refusals.append(message)
        self._open += 1

    async def run_members(self, answers: OpenResponses) -> None:
        """Run all members to their ends, each as the one reader of its stream."""
        watcher = asyncio.create_task(self._watch_connection())
        try:
            async with asyncio.TaskGroup() as group:
                for message in self._refusals:
                    group.create_task(send_event(self.send_member, message))
                for stream, answer, place in self._members:
                    group.create_task(
                        answers.run_reader(stream, answer, answer.answer_as_stream(), place)
                    )
        finally:
            watcher.cancel()

    async def _send_merged(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            if self._started:
                return
            self._started = True
            message = {**message, "headers": [*message["headers"], *self._headers]}
        elif not message.get("more_body", False):
            self._open -= 1
            message = {**message, "more_body": self._open > 0}
        await self._send(message)

    async def _watch_connection(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone.set()
