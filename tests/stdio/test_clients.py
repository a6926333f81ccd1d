"""The official client and FastMCP's, unmodified, at a process of every kind of server."""

import os
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TextIO

import anyio
import fastmcp
import pytest
from fastmcp.client.transports import StdioTransport
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from tests.interop.houses import KINDS
from tests.interop.peers import (
    PEERS,
    PINNED,
    Ears,
    FastMCPPeer,
    OfficialPeer,
    Outcome,
    Peer,
    PeerKind,
)
from tests.interop.witness import COMPLAINT, NOTE, TOOLS
from tests.kit.stdio import ROOT
from tests.kit.waits import PATIENCE, until

pytestmark = [
    pytest.mark.anyio,
    # The SDK warns of logging, which 2026-07-28 deprecates and both eras still have.
    pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning"),
]

HOUSES = Path(__file__).with_name("houses.py")
TARGET = Path(__file__).with_name("target.py")
SAID = "häuser \u2028 and \x85 a line\nend 🚀"


@pytest.fixture
def nowhere() -> Iterator[TextIO]:
    """Where a server's stderr goes."""
    with Path(os.devnull).open("w") as nowhere:
        yield nowhere


@asynccontextmanager
async def connected(
    kind: PeerKind, house: str, ears: Ears, nowhere: TextIO, file: Path = HOUSES
) -> AsyncGenerator[Peer]:
    """A client that started its own server."""
    args = ["-m", "headway", "run", f"{file}:{house}", "--stdio", "--progress-rate", "0"]
    env = {"PYTHONPATH": str(ROOT)}
    with anyio.fail_after(PATIENCE):
        if kind.client == "official":
            parameters = StdioServerParameters(command=sys.executable, args=args, env=env)
            async with Client(
                stdio_client(parameters, errlog=nowhere),
                mode=kind.mode,
                logging_callback=ears.on_log,
                message_handler=ears.on_message,
                elicitation_callback=ears.on_question,
            ) as client:
                yield OfficialPeer(kind, client)
            return

        async def on_question(message: str, _kind: Any, params: Any, _context: Any) -> Any:
            return await ears.on_question(None, params)

        transport = StdioTransport(sys.executable, args, env, keep_alive=False, log_file=nowhere)
        async with fastmcp.Client(
            transport,
            mode=kind.mode,
            log_handler=ears.on_log,
            message_handler=ears.on_message,
            elicitation_handler=on_question,
        ) as client:
            yield FastMCPPeer(kind, client)


@pytest.mark.parametrize("house", KINDS)
@pytest.mark.parametrize("kind", PEERS, ids=str)
async def test_a_client_gets_along_with_the_server_it_started(
    kind: PeerKind, house: str, nowhere: TextIO
):
    ears = Ears()
    async with connected(kind, house, ears, nowhere) as client:
        assert client.version == kind.version
        assert {tool.name for tool in await client.tools()} == TOOLS
        assert await client.call("echo", {"text": SAID}) == Outcome(SAID)
        assert await client.call("count", {"total": 5}, ears.on_progress) == Outcome("counted to 5")
        await ears.until(lambda: bool(ears.progress) and ears.progress[-1][0] == 5)
        values = [value for value, _, _ in ears.progress]
        assert values == sorted(set(values))
        assert (await client.call("fail")).is_error
        assert COMPLAINT in (await client.call("fail")).text
        assert [content.text for content in await client.read(NOTE)] == ["a note"]
        assert await client.call("ask") == Outcome("hello Ada")
        await client.want_logs("warning")
        ears.logs.clear()
        await client.call("chatter")
        await ears.until(lambda: ("error", "this is error") in ears.logs)
        assert ("warning", "this is warning") in ears.logs
        if kind.client == "official":
            assert not [level for level, _ in ears.logs if level in ("debug", "info")]


@pytest.mark.parametrize("kind", PEERS, ids=str)
async def test_an_abandoned_call_is_cancelled(kind: PeerKind, nowhere: TextIO, tmp_path: Path):
    mark = tmp_path / "mark"
    async with connected(kind, "mcp", Ears(), nowhere, TARGET) as client:
        with anyio.CancelScope() as scope:

            async def abandon(*_progress: object) -> None:
                scope.cancel()

            await client.call("wait", {"mark": str(mark)}, abandon)
        await until(mark.exists)
        assert await client.call("add", {"a": 1, "b": 2}) == Outcome("3")


@pytest.mark.parametrize("kind", PINNED, ids=str)
async def test_a_client_that_asks_nothing_first_gets_along_too(kind: PeerKind, nowhere: TextIO):
    async with connected(kind, "Headway", Ears(), nowhere) as client:
        assert client.version == "2026-07-28"
        assert await client.call("echo", {"text": SAID}) == Outcome(SAID)
