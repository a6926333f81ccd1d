"""What the replicas serve: a tool that goes on when the test says so, and notes who serves whom."""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings

from headway import Headway, report


@asynccontextmanager
async def at_the_witness(
    port: int, *words: object
) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A line to the witness on `port`, which hears who speaks; leaving it ends the line."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(" ".join(map(str, [*words, os.getpid()])).encode() + b"\n")
        yield reader, writer
    finally:
        writer.close()


class Marks:
    """Takes `port.mark` for a token, and tells the witness which process a mark came to."""

    async def verify_token(self, token: str) -> AccessToken | None:
        """Everybody is the same caller."""
        port, _, mark = token.partition(".")
        async with at_the_witness(int(port), "served", mark) as (reader, _):
            await reader.readline()
        return AccessToken(token=token, client_id="tests", subject="tester", scopes=[])


mcp = Headway(
    "deployed",
    token_verifier=Marks(),
    auth=AuthSettings.model_validate(
        {
            "issuer_url": "https://issuer.example",
            "resource_server_url": "http://127.0.0.1/mcp",
            "required_scopes": [],
            "validate_token_resource": False,
        }
    ),
)


@mcp.tool(rate=0)
async def work(job: str, steps: int, port: int) -> str:
    """Say each step, and go on to the next when the witness has sent a line."""
    async with at_the_witness(port, "working", job) as (reader, writer):
        for step in range(1, steps + 1):
            report(step, steps)
            if not await reader.readline():
                raise RuntimeError("the witness has gone")
        writer.write(b"done\n")
        await writer.drain()
    return f"{job} by {os.getpid()}"
