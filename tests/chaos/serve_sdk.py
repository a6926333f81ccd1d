"""The same tools on the official SDK's own transport: `python -m tests.chaos.serve_sdk PORT STORE`.

STORE is `none` or `memory`, the SDK's two choices without code of one's own: no event store, or
one that keeps all events of the process in a list.
"""

import asyncio
import sys
from contextlib import closing
from itertools import count

import uvicorn
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.streamable_http import EventCallback, EventMessage, EventStore
from mcp_types import JSONRPCMessage
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from tests.chaos.ledger import Pen
from tests.chaos.work import census

mcp = MCPServer("chaos")


class MemoryStore(EventStore):
    """Keeps every event; ids are numbers, as in the SDK's own example."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self._events: dict[str, tuple[str, JSONRPCMessage | None]] = {}

    async def store_event(self, stream_id: str, message: JSONRPCMessage | None) -> str:
        event_id = str(next(self._numbers))
        self._events[event_id] = (stream_id, message)
        return event_id

    async def replay_events_after(
        self, last_event_id: str, send_callback: EventCallback
    ) -> str | None:
        if last_event_id not in self._events:
            return None
        stream = self._events[last_event_id][0]
        later = [
            (event_id, message)
            for event_id, (of, message) in self._events.items()
            if of == stream and int(event_id) > int(last_event_id) and message is not None
        ]
        for event_id, message in later:
            await send_callback(EventMessage(message, event_id))
        return stream


@mcp.tool()
async def plain(job: str, steps: int, pause: float, ctx: Context) -> str:
    """Steps, each noted and reported."""
    with closing(Pen(job)) as pen:
        for number in range(1, steps + 1):
            pen.note("step", number)
            await ctx.report_progress(number, steps, f"step {pen.nonce} {number}")
            await asyncio.sleep(pause)
        return pen.done()


@mcp.tool()
async def held() -> dict[str, int]:
    """What the process of this server holds."""
    return census()


@mcp.custom_route("/readyz", methods=["GET"])
async def ready(_request: Request) -> PlainTextResponse:
    return PlainTextResponse("ready")


def main(port: int, store: str) -> None:
    events = MemoryStore() if store == "memory" else None
    app = mcp.streamable_http_app(event_store=events, retry_interval=100)
    uvicorn.run(app, port=port, log_level="warning", timeout_graceful_shutdown=1)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
