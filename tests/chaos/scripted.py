"""A server of this loop that says what a test has it say, to whoever connects."""

import asyncio
import itertools
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

Say = Callable[[bytes], Awaitable[None]]

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def message(number: int) -> bytes:
    return b'id: %d\nevent: message\ndata: {"n": %d}\n\n' % (number, number)


class ScriptedServer:
    """Answers each request with what `answer` says."""

    def __init__(self, answer: Callable[[Say], Awaitable[None]]) -> None:
        self._answer = answer
        self.requests: list[bytes] = []
        self.ends: list[str] = []
        self.news = asyncio.Event()
        self.tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer until the client ends or resets; after an end it may still hear the answer."""
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        answers: list[asyncio.Task[None]] = []
        try:
            await self._requests(reader, writer, answers)
        except OSError:
            self._ended("reset")
        except asyncio.CancelledError:
            pass  # the server closes
        finally:
            writer.transport.abort()
            for answer in answers:
                answer.cancel()
            self.tasks.discard(task)

    async def _requests(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        answers: list[asyncio.Task[None]],
    ) -> None:
        async def say(data: bytes) -> None:
            writer.write(data)
            await writer.drain()

        try:
            while True:
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
                answers.append(asyncio.ensure_future(self._said(say)))
        except asyncio.IncompleteReadError:
            self._ended("end")
            await asyncio.gather(*answers, return_exceptions=True)

    async def _said(self, say: Say) -> None:
        await self._answer(say)

    def _ended(self, how: str) -> None:
        self.ends.append(how)
        self.news.set()


@asynccontextmanager
async def saying(
    answer: Callable[[Say], Awaitable[None]],
) -> AsyncGenerator[tuple[ScriptedServer, str]]:
    """A server, and its URL."""
    server = ScriptedServer(answer)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    try:
        yield server, f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/mcp"
    finally:
        listener.close()
        for task in list(server.tasks):
            task.cancel()
        await asyncio.gather(*server.tasks, return_exceptions=True)


async def ten(say: Say) -> None:
    """Ten messages with a comment and an empty event before them, one chunk each, and the end."""
    await say(HEAD + chunk(b": ping\n\n") + chunk(b"id: 0\nretry: 10\ndata: \n\n"))
    for number in range(1, 11):
        await say(chunk(message(number)))
    await say(b"0\r\n\r\n")


async def ten_and_silence(say: Say) -> None:
    """Ten messages, and then nothing."""
    await say(HEAD)
    for number in range(1, 11):
        await say(chunk(message(number)))
    await asyncio.sleep(3600)


async def without_end(say: Say) -> None:
    """As many messages as are taken."""
    await say(HEAD)
    for number in itertools.count(1):
        await say(chunk(message(number) * 100))
