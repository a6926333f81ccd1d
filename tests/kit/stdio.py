"""A strict client: it takes one JSON object a line and nothing else."""

import asyncio
import itertools
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from tests.kit.waits import PATIENCE, until

from headway import Settings, asgi
from headway.transport.stdio.pipe import Pipe

META = "io.modelcontextprotocol/"
ROOT = Path(__file__).parents[2]
SEPARATORS = ("\u2028", "\u2029", "\u0085")

Message = dict[str, Any]


class Client:
    """The client's end of a pipe, in either era, or without any manners."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.heard: list[Message] = []
        self._ids = itertools.count(1)

    # Saying

    async def raw(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def say(self, message: object) -> None:
        await self.raw(json.dumps(message).encode() + b"\n")

    async def notify(self, method: str, params: Message | None = None) -> None:
        await self.say({"jsonrpc": "2.0", "method": method, "params": params or {}})

    def message(
        self,
        method: str,
        params: Message | None = None,
        *,
        era: str = "2025",
        id: Any = None,
        token: Any = None,
        level: str | None = None,
        capabilities: Message | None = None,
    ) -> Message:
        meta: Message = {} if token is None else {"progressToken": token}
        if era == "2026":
            meta |= {f"{META}protocolVersion": "2026-07-28"}
            meta |= {f"{META}clientCapabilities": capabilities or {}}
            meta |= {f"{META}logLevel": level} if level else {}
        params = {**(params or {}), **({"_meta": meta} if meta else {})}
        identity = next(self._ids) if id is None else id
        return {"jsonrpc": "2.0", "id": identity, "method": method, "params": params}

    async def ask(self, method: str, params: Message | None = None, **options: Any) -> Message:
        """Send a request and wait for its answer."""
        return await self.answer(await self.begin(method, params, **options))

    async def begin(self, method: str, params: Message | None = None, **options: Any) -> Any:
        """Send a request and give its id."""
        message = self.message(method, params, **options)
        await self.say(message)
        return message["id"]

    async def call(self, tool: str, arguments: Message | None = None, **options: Any) -> Message:
        return await self.answer(await self.start(tool, arguments, **options))

    async def start(self, tool: str, arguments: Message | None = None, **options: Any) -> Any:
        return await self.begin(
            "tools/call", {"name": tool, "arguments": arguments or {}}, **options
        )

    async def shake_hands(
        self, version: str = "2025-11-25", capabilities: Message | None = None
    ) -> Message:
        info = {"name": "strict", "version": "1"}
        params = {
            "protocolVersion": version,
            "capabilities": capabilities or {},
            "clientInfo": info,
        }
        answer = await self.ask("initialize", params, id="hello")
        await self.notify("notifications/initialized")
        return answer["result"]

    # Hearing

    async def next(self) -> Message:
        """The next message; a line that is none is a failure."""
        async with asyncio.timeout(PATIENCE):
            line = await self.reader.readline()
        assert line, "the stream ended"
        return self._take(line)

    def _take(self, line: bytes) -> Message:
        assert line.endswith(b"\n"), line
        text = line.decode()
        assert len(text.splitlines()) == 1, "a line separator in a line"
        message = json.loads(text)
        assert isinstance(message, dict)
        assert message["jsonrpc"] == "2.0"
        self.heard.append(message)
        return message

    async def until(self, matches: Callable[[Message], bool]) -> Message:
        """The first message that matches, among those heard and those to come."""
        for message in self.heard:
            if matches(message):
                return message
        while not matches(message := await self.next()):
            pass
        return message

    async def answer(self, identity: Any) -> Message:
        return await self.until(lambda m: m.get("id") == identity and "method" not in m)

    async def method(self, name: str) -> Message:
        """The first message with this method."""
        return await self.until(lambda m: m.get("method") == name)

    async def hear_all(self) -> list[Message]:
        """Everything up to the end of the stream."""
        async with asyncio.timeout(PATIENCE):
            while line := await self.reader.readline():
                self._take(line)
        return self.heard

    def close(self) -> None:
        """Close the server's stdin."""
        with suppress(OSError):
            self.writer.close()


def transport_of(stream: Any) -> Any:
    """The transport behind a stream or a process: asyncio offers no other way to close it."""
    return stream._transport


async def ends_of(read: int, write: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """asyncio's streams for the two descriptors of a client."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=2**26)
    await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read, "rb", 0)
    )
    transport, protocol = await loop.connect_write_pipe(
        lambda: asyncio.streams.FlowControlMixin(loop), os.fdopen(write, "wb", 0)
    )
    return reader, asyncio.StreamWriter(transport, protocol, None, loop)


@asynccontextmanager
async def piped(
    server: object, settings: Settings | None = None, **options: Any
) -> AsyncGenerator[Client]:
    """`server` behind a real pipe, in this loop; leaving closes the client's end."""
    source, to_server = os.pipe()
    from_server, sink = os.pipe()
    app = asgi(server, settings=settings, **options)
    pipe = Pipe(source, sink, longest=app.engine.settings.max_body)
    serving = asyncio.create_task(app.serve_pipe(pipe))
    client = Client(*await ends_of(from_server, to_server))
    try:
        yield client
    finally:
        client.close()
        async with asyncio.timeout(PATIENCE):
            await serving
        transport_of(client.reader).close()
        os.close(source)
        os.close(sink)


class Program(Client):
    """A `headway` process at the other end."""

    def __init__(self, process: Process) -> None:
        assert process.stdout is not None
        assert process.stdin is not None
        super().__init__(process.stdout, process.stdin)
        self.process = process

    async def ready(self) -> str:
        """Wait until it says on stderr that it serves."""
        return await self.complains("serving")

    async def complains(self, text: str) -> str:
        """The next line of stderr that has `text`."""
        assert self.process.stderr is not None
        async with asyncio.timeout(PATIENCE):
            while line := await self.process.stderr.readline():
                if text in line.decode():
                    return line.decode()
        raise AssertionError(f"ended without {text!r}")

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the process has ended.

        `Process.send_signal` looks whether it has. If so it takes the exit code away from the
        thread of asyncio that waits for it, which then reports 255.
        """
        if self.process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, number)

    async def gone(self) -> int:
        """Wait for its end; gives the exit code. asyncio's `wait` is for the pipes' ends too."""
        await until(lambda: self.process.returncode is not None)
        return self.process.returncode or 0


@asynccontextmanager
async def program(
    *arguments: str, cwd: Path | None = None, env: dict[str, str] | None = None, **options: Any
) -> AsyncGenerator[Program]:
    """`headway ARGUMENTS` as a process, with our pipes; ended at the end in any case."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "headway", *arguments,
        stdin=PIPE, stdout=PIPE, stderr=PIPE, limit=2**26, cwd=cwd or ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | (env or {}), **options,
    )  # fmt: skip
    try:
        yield Program(process)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        # First: asyncio waits for the ends of pipes too, also of one that nobody reads any more.
        transport_of(process).close()
        await process.wait()
