"""A process with an engine: `child.py FILE` starts a run that never ends and says its stream."""

import asyncio
import sys

import anyio
from mcp.shared.message import ServerMessageMetadata
from mcp.shared.transport_context import TransportContext

from headway.engine import Engine, Request, RunContext
from headway.events import Part, encode_json
from headway.journal import open_journal
from headway.settings import Settings


async def forever(context: RunContext) -> dict[str, object]:
    assert context.run is not None
    context.run.output.emit_event(Part(encode_json("half of it")))
    await anyio.sleep_forever()
    return {}


async def main(path: str) -> None:
    async with open_journal(f"sqlite:///{path}") as journal:
        engine = Engine(journal, Settings())
        await engine.start()
        transport = TransportContext(kind="test", can_send_request=False)
        context = RunContext(1, transport, ServerMessageMetadata(), None, {})
        run = engine.start_run(Request("tools/call", "slow", "owner", context, forever))
        await asyncio.sleep(0)
        await journal.wait_until_stored(run.stream)
        sys.stdout.write(f"{run.stream}\n")
        sys.stdout.flush()
        await anyio.sleep_forever()


asyncio.run(main(sys.argv[1]))
