"""The two Python clients, unmodified, behind one small face.

A `Peer` is a connected client; a `PeerKind` says which client it is and how it negotiates.
"""

import abc
import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import fastmcp
import mcp_types as types
from mcp.client.client import Client
from mcp.shared.exceptions import MCPError
from mcp_types import LOG_LEVEL_META_KEY
from tests.kit.waits import PATIENCE

Progress = tuple[float, float | None, str | None]
Call = dict[str, Any]


@dataclass(frozen=True)
class PeerKind:
    """A client, and the way it finds the protocol version to speak."""

    client: str
    mode: str

    def __str__(self) -> str:
        return f"{self.client}-{self.mode}"

    @property
    def is_2025(self) -> bool:
        """Whether it shakes hands, has a session and can resume."""
        return self.mode == "legacy"

    @property
    def version(self) -> str:
        """What it is expected to end up speaking."""
        return "2025-11-25" if self.is_2025 else "2026-07-28"


OFFICIAL = [PeerKind("official", mode) for mode in ("legacy", "auto")]
FASTMCP = [PeerKind("fastmcp", mode) for mode in ("legacy", "auto")]
PEERS = [*OFFICIAL, *FASTMCP]
PINNED = [PeerKind(client, "2026-07-28") for client in ("official", "fastmcp")]
"""These know nothing of the server until they ask; beyond that they are as `auto`."""


@dataclass(frozen=True)
class Outcome:
    """How a call ended, whether as a result or as a JSON-RPC error."""

    text: str
    is_error: bool = False


@dataclass
class Ears:
    """Everything a client hears, and what it says when it is asked."""

    answer: dict[str, str] | None = field(default_factory=lambda: {"name": "Ada"})
    questions: list[str] = field(default_factory=list)
    progress: list[Progress] = field(default_factory=list)
    logs: list[tuple[str, str]] = field(default_factory=list)
    updates: list[str] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    async def until(self, heard: Callable[[], bool]) -> None:
        """Wait until `heard` holds; notifications may come after the result they go before."""
        while not heard():
            self._news = asyncio.Event()
            await self._news.wait()

    async def on_progress(self, progress: float, total: float | None, message: str | None) -> None:
        self.progress.append((progress, total, message))
        self._news.set()

    async def on_log(self, params: types.LoggingMessageNotificationParams) -> None:
        data = params.data
        self.logs.append((params.level, data["msg"] if isinstance(data, dict) else data))
        self._news.set()

    async def on_message(self, message: Any) -> None:
        if isinstance(message, types.ResourceUpdatedNotification):
            self.updates.append(str(message.params.uri))
            self._news.set()

    async def on_question(self, context: Any, params: types.ElicitRequestParams) -> Any:
        self.questions.append(params.message)
        if self.answer is None:
            return types.ElicitResult(action="decline")
        return types.ElicitResult(action="accept", content=dict(self.answer))


class Peer(abc.ABC):
    """A connected client."""

    client: Any

    def __init__(self, kind: PeerKind) -> None:
        self.kind = kind
        self._level: types.LoggingLevel | None = None

    async def call(self, tool: str, arguments: Call | None = None, hear: Any = None) -> Outcome:
        """Call a tool; `hear` gets its progress."""
        try:
            result = await self._call(tool, arguments or {}, hear, self._meta())
        except MCPError as error:
            return Outcome(error.error.message, is_error=True)
        texts = [block.text for block in result.content if isinstance(block, types.TextContent)]
        return Outcome(" ".join(texts), result.is_error)

    async def want_logs(self, level: types.LoggingLevel) -> None:
        """Ask for logs of this level and above, in the way of the era."""
        if self.kind.is_2025:
            await self._set_level(level)
        else:
            self._level = level

    def _meta(self) -> Any:
        return None if self._level is None else {LOG_LEVEL_META_KEY: self._level}

    @abc.abstractmethod
    async def _call(self, tool: str, arguments: Call, hear: Any, meta: Any) -> Any: ...

    @abc.abstractmethod
    async def _set_level(self, level: types.LoggingLevel) -> None: ...

    @property
    @abc.abstractmethod
    def version(self) -> str | None:
        """The protocol version spoken."""

    @abc.abstractmethod
    async def tools(self) -> list[types.Tool]: ...

    @abc.abstractmethod
    async def resources(self) -> list[types.Resource]: ...

    @abc.abstractmethod
    async def prompts(self) -> list[types.Prompt]: ...

    @abc.abstractmethod
    async def read(self, uri: str) -> list[Any]: ...

    @abc.abstractmethod
    async def prompt(self, name: str, arguments: dict[str, str]) -> types.GetPromptResult: ...


class OfficialPeer(Peer):
    """`mcp.client.client.Client`."""

    def __init__(self, kind: PeerKind, client: Client) -> None:
        super().__init__(kind)
        self.client = client

    @property
    def version(self) -> str | None:
        return self.client.protocol_version

    async def _call(self, tool: str, arguments: Call, hear: Any, meta: Any) -> Any:
        return await self.client.call_tool(tool, arguments, progress_callback=hear, meta=meta)

    async def _set_level(self, level: types.LoggingLevel) -> None:
        await self.client.set_logging_level(level)

    async def tools(self) -> list[types.Tool]:
        return (await self.client.list_tools()).tools

    async def resources(self) -> list[types.Resource]:
        return (await self.client.list_resources()).resources

    async def prompts(self) -> list[types.Prompt]:
        return (await self.client.list_prompts()).prompts

    async def read(self, uri: str) -> list[Any]:
        return list((await self.client.read_resource(uri)).contents)

    async def prompt(self, name: str, arguments: dict[str, str]) -> types.GetPromptResult:
        return await self.client.get_prompt(name, arguments)


class FastMCPPeer(Peer):
    """`fastmcp.Client`."""

    def __init__(self, kind: PeerKind, client: Any) -> None:
        super().__init__(kind)
        self.client = client

    @property
    def version(self) -> str | None:
        return self.client.protocol_version

    async def _call(self, tool: str, arguments: Call, hear: Any, meta: Any) -> Any:
        return await self.client.call_tool(
            tool, arguments, progress_handler=hear, raise_on_error=False, meta=meta
        )

    async def _set_level(self, level: types.LoggingLevel) -> None:
        await self.client.set_logging_level(level)

    async def tools(self) -> list[types.Tool]:
        return await self.client.list_tools()

    async def resources(self) -> list[types.Resource]:
        return await self.client.list_resources()

    async def prompts(self) -> list[types.Prompt]:
        return await self.client.list_prompts()

    async def read(self, uri: str) -> list[Any]:
        return await self.client.read_resource(uri)

    async def prompt(self, name: str, arguments: dict[str, str]) -> types.GetPromptResult:
        return await self.client.get_prompt(name, arguments)


@asynccontextmanager
async def connected(kind: PeerKind, url: str, ears: Ears | None = None) -> AsyncGenerator[Peer]:
    """A client of `url`; everything inside is bounded."""
    ears = ears or Ears()
    with anyio.fail_after(PATIENCE):
        if kind.client == "official":
            async with official_client(kind, url, ears) as client:
                yield OfficialPeer(kind, client)
        else:
            async with _fastmcp_client(kind, url, ears) as client:
                yield FastMCPPeer(kind, client)


def official_client(kind: PeerKind, url: str, ears: Ears) -> Client:
    """The official client, not connected yet."""
    return Client(
        url,
        mode=kind.mode,
        logging_callback=ears.on_log,
        message_handler=ears.on_message,
        elicitation_callback=ears.on_question,
    )


def _fastmcp_client(kind: PeerKind, url: str, ears: Ears) -> Any:
    async def on_question(message: str, _kind: Any, params: Any, _context: Any) -> Any:
        return await ears.on_question(None, params)

    return fastmcp.Client(
        url,
        mode=kind.mode,
        log_handler=ears.on_log,
        message_handler=ears.on_message,
        elicitation_handler=on_question,
    )
