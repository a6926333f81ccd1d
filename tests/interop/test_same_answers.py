"""`headway run` in front of an existing server: its clients get the answers they got before.

Each kind is served twice, by the framework's own HTTP app and by Headway; what a client can
ask for is asked of both. A `Headway` object is left out: its `report` and `log` speak through
Headway's engine and say nothing elsewhere.
"""

import re
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from tests.interop.houses import KINDS, PUBLISHING, side_by_side
from tests.interop.peers import PEERS, Ears, Outcome, Peer, PeerKind, connected
from tests.interop.witness import NOTE, Witness

pytestmark = [
    pytest.mark.anyio,
    # The SDK warns of logging, which 2026-07-28 deprecates and both eras still have.
    pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning"),
]

FOREIGN = ("MCPServer", "Server", "FastMCP")
REFERENCE = re.compile(r" \(reference [\w-]+\)")
Call = tuple[str, dict[str, Any]]

LIST_CHANGED = {f"{kind}.list_changed" for kind in ("tools", "prompts", "resources")}

CALLS: list[Call] = [
    ("echo", {"text": "hello"}),
    ("echo", {"text": {"not": "text"}}),
    ("echo", {}),
    ("count", {"total": 3}),
    ("chatter", {}),
    ("ask", {}),
    ("fail", {}),
    ("juggle", {}),
]


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
    for tool in found["tools"]:
        # What Headway adds to a tool of 2025-11-25: it may be called as a task.
        assert tool.pop("execution") in (None, {"task_support": "optional"})
    for tool, arguments in CALLS:
        found[f"{tool} {arguments}"] = _plain(await peer.call(tool, arguments, ears.on_progress))
    await ears.until(lambda: len(ears.progress) >= 3)
    found["info"] = peer.client.server_info.model_dump()
    found["instructions"] = peer.client.instructions
    found["progress"], found["logs"] = ears.progress[:3], ears.logs
    found["questions"] = ears.questions
    return found


def _plain(outcome: Outcome) -> Outcome:
    """What is said without the reference into Headway's log."""
    return replace(outcome, text=REFERENCE.sub("", outcome.text))


def capabilities(peer: Peer) -> set[str]:
    """What a server says that it can do, as dotted names."""
    claimed: dict[str, Any] = peer.client.server_capabilities.model_dump(exclude_none=True)
    inner = {
        f"{name}.{flag}" for name, flags in claimed.items() for flag, on in flags.items() if on
    }
    return inner | set(claimed)


@pytest.fixture(scope="module")
async def pairs(anyio_backend: str) -> AsyncGenerator[dict[str, tuple[str, str]]]:
    """The URLs of the framework's own app and of Headway's, for each kind."""
    async with AsyncExitStack() as stack:
        yield {
            kind: await stack.enter_async_context(side_by_side(partial(KINDS[kind], Witness())))
            for kind in FOREIGN
        }


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("peer", PEERS, ids=str)
async def test_headway_answers_as_the_frameworks_own_server(
    pairs: dict[str, tuple[str, str]], kind: str, peer: PeerKind
) -> None:
    found: list[dict[str, Any]] = []
    can: list[set[str]] = []
    for url in pairs[kind]:
        ears = Ears()
        async with connected(peer, url, ears) as client:
            can.append(capabilities(client))
            found.append(await everything(client, ears))
    assert found[1] == found[0]
    # Headway makes levels and subscriptions work for every server, and says so.
    assert can[1] >= can[0]
    tasks = {"tasks", "tasks.list", "tasks.cancel", "tasks.requests"}
    published = {"resources.subscribe", *LIST_CHANGED} if kind in PUBLISHING else set[str]()
    keys = {"experimental", "experimental.headway/idempotency-key"}
    assert not can[1] - can[0] - {"logging", "extensions", *keys, *tasks, *published}
