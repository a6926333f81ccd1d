"""`headway run` in front of an existing server: its clients get the answers they got before.

Each kind is served twice, by the framework's own HTTP app and by Headway; what a client can
ask for is asked of both.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.interop.houses import KINDS, SETTINGS
from tests.interop.peers import FASTMCP, OFFICIAL, Ears, Peer, PeerKind, connected
from tests.interop.witness import NOTE, Witness

from headway import asgi
from headway.cli.serving import Receive, Scope, Send, serving

pytestmark = [
    pytest.mark.anyio,
    # The SDK warns of logging, which 2026-07-28 deprecates and both eras still have.
    pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning"),
]

CALLS: list[tuple[str, dict[str, Any]]] = [
    ("echo", {"text": "hello"}),
    ("echo", {"text": {"not": "text"}}),
    ("echo", {}),
    ("count", {"total": 3}),
    ("chatter", {}),
    ("ask", {}),
    ("fail", {}),
    ("juggle", {}),
]


class Native:
    """The framework's own app, which cannot be drained."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    async def drain(self) -> None:
        pass


@asynccontextmanager
async def both(kind: str) -> AsyncGenerator[tuple[str, str]]:
    """The URLs of the framework's own app and of Headway's."""
    ours = asgi(KINDS[kind](Witness()), settings=SETTINGS)
    server = KINDS[kind](Witness())
    theirs = server.http_app() if kind == "FastMCP" else server.streamable_http_app()
    async with serving(Native(theirs), grace=5) as native, serving(ours, grace=5) as origin:
        yield f"{native}/mcp", f"{origin}/mcp"


async def everything(peer: Peer, ears: Ears) -> dict[str, Any]:
    """All that a client finds out about a server."""
    listed = {
        "tools": await peer.tools(),
        "resources": await peer.resources(),
        "prompts": await peer.prompts(),
        "note": await peer.read(NOTE),
        "greeting": [await peer.prompt("greet", {"name": "Ada"})],
    }
    found: dict[str, Any] = {
        name: [item.model_dump() for item in items] for name, items in listed.items()
    }
    for tool, arguments in CALLS:
        found[f"{tool} {arguments}"] = await peer.call(tool, arguments, ears.on_progress)
    await ears.until(lambda: len(ears.progress) >= 3)
    found["info"] = peer.client.server_info.model_dump()  # pyright: ignore[reportAttributeAccessIssue]
    found["instructions"] = peer.client.instructions  # pyright: ignore[reportAttributeAccessIssue]
    found["progress"], found["logs"] = ears.progress[:3], ears.logs
    found["questions"] = ears.questions
    return found


@pytest.mark.parametrize("kind", [kind for kind in KINDS])
@pytest.mark.parametrize("peer", [*OFFICIAL[:2], *FASTMCP[:2]], ids=str)
async def test_headway_answers_as_the_frameworks_own_server(kind: str, peer: PeerKind) -> None:
    async with both(kind) as (native, origin):
        found: list[dict[str, Any]] = []
        for url in (native, origin):
            ears = Ears()
            async with connected(peer, url, ears) as client:
                found.append(await everything(client, ears))
    assert found[1] == found[0]
