"""Looks at the messages of a connection as they pass, between the SDK's client and its transport.

`Trace` writes them down. `complete_task` gives a task the shape that the SDK's client takes.
"""

import json
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Literal

from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCResponse

Side = Literal["client", "server"]

Look = Callable[[Side, SessionMessage], None]
"""Called with the side that a message goes to, and the message; may change it."""


@asynccontextmanager
async def tapped(
    streams: AbstractAsyncContextManager[tuple[Any, Any]], look: Look
) -> AsyncGenerator[tuple[Any, Any]]:
    """The streams of a connection; `look` sees each message before it is passed on."""
    async with streams as (incoming, outgoing):
        yield _Tap(incoming, "client", look), _Tap(outgoing, "server", look)


class _Tap:
    """One direction of a connection: the stream itself, and a look at what passes."""

    def __init__(self, stream: Any, to: Side, look: Look) -> None:
        self._stream = stream
        self._to: Side = to
        self._look = look

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def __aenter__(self) -> "_Tap":
        await self._stream.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._stream.__aexit__(*error)

    def __aiter__(self) -> "_Tap":
        return self

    async def __anext__(self) -> Any:
        return self._seen(await self._stream.__anext__())

    async def receive(self) -> Any:
        return self._seen(await self._stream.receive())

    async def send(self, item: Any) -> None:
        await self._stream.send(self._seen(item))

    def _seen(self, item: Any) -> Any:
        if isinstance(item, SessionMessage):
            self._look(self._to, item)
        return item


class Trace:
    """Writes each message as a line of JSON, with its time and where it goes."""

    def __init__(self, write_line: Callable[[str], None]) -> None:
        self._write_line = write_line

    def __call__(self, to: Side, item: SessionMessage) -> None:
        """Write one message."""
        message = item.message.model_dump(by_alias=True, mode="json", exclude_unset=True)
        line = {"time": round(time.time(), 3), "to": to, "message": message}
        self._write_line(json.dumps(line))


def complete_task(to: Side, item: SessionMessage) -> None:
    """Give the answer to a call that became a task what the SDK's client demands of a result.

    It has requests and results of the tasks of 2025-11-25, and checks every answer to `tools/call`
    against the shape of a plain one.
    """
    message = item.message
    if to == "client" and isinstance(message, JSONRPCResponse) and "task" in message.result:
        message.result.setdefault("content", [])
