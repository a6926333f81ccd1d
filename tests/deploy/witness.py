"""The end of the line at which tools in other processes say what they do, and wait for a word."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from tests.kit.waits import PATIENCE


class Execution:
    """One execution of a job."""

    def __init__(self, pid: int, writer: asyncio.StreamWriter) -> None:
        self.pid = pid
        self.ended = asyncio.Event()
        self.is_done = False
        """Whether it came to its own end; False after `ended`: it was stopped."""
        self._writer = writer

    def go_on(self, steps: int = 1) -> None:
        """Let it take so many steps."""
        self._writer.write(b"\n" * steps)

    async def was_stopped(self) -> bool:
        """Wait for its end."""
        async with asyncio.timeout(PATIENCE):
            await self.ended.wait()
        return not self.is_done


class Witness:
    """What all replicas did, by job, and which process was asked under which mark."""

    def __init__(self, port: int = 0, *, is_waiting: bool = True) -> None:
        self.port = port
        self.executions: defaultdict[str, list[Execution]] = defaultdict(list)
        self.served: defaultdict[str, list[int]] = defaultdict(list)
        self.is_waiting = is_waiting
        """Whether tools wait for `go_on`."""
        self._news = asyncio.Condition()
        self._lines: set[asyncio.StreamWriter] = set()

    def token(self, mark: str) -> dict[str, str]:
        """The header by which the server tells this witness where a request came to."""
        return {"Authorization": f"Bearer {self.port}.{mark}"}

    async def began(self, job: str) -> Execution:
        """The first execution of a job, when it is at work."""
        async with asyncio.timeout(PATIENCE), self._news:
            await self._news.wait_for(lambda: self.executions[job])
        return self.executions[job][0]

    async def has_heard_of(self, jobs: int) -> None:
        """Wait until so many jobs have begun."""
        async with asyncio.timeout(PATIENCE), self._news:
            await self._news.wait_for(lambda: len(self.executions) >= jobs)

    async def hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One line, to its end."""
        self._lines.add(writer)
        try:
            kind, name, pid = (await reader.readline()).decode().split()
            if kind == "served":
                self.served[name].append(int(pid))
                writer.write(b"noted\n")
            else:
                await self._watch(name, Execution(int(pid), writer), reader)
        except (OSError, ValueError):
            pass  # the process was killed in the middle of a word
        finally:
            self._lines.discard(writer)
            writer.close()

    def leave(self) -> None:
        """Hear no more; tools that wait for a word fail."""
        for writer in self._lines:
            writer.transport.abort()

    async def _watch(self, job: str, execution: Execution, reader: asyncio.StreamReader) -> None:
        async with self._news:
            self.executions[job].append(execution)
            self._news.notify_all()
        if not self.is_waiting:
            execution.go_on(100)
        try:
            execution.is_done = await reader.readline() == b"done\n"
        finally:
            execution.ended.set()


@asynccontextmanager
async def witness(*, is_waiting: bool = True) -> AsyncGenerator[Witness]:
    """Somebody who sees what tools do."""
    seen = Witness(is_waiting=is_waiting)
    listener = await asyncio.start_server(seen.hear, "127.0.0.1", 0)
    seen.port = listener.sockets[0].getsockname()[1]
    try:
        yield seen
    finally:
        listener.close()
        seen.leave()
