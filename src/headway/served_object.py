"""Server objects as one shape, whatever their kind."""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf
from typing import Any

from mcp.server.lowlevel import Server
from mcp.server.models import InitializationOptions
from mcp.server.subscriptions import SubscriptionBus
from starlette.applications import Starlette
from starlette.types import ASGIApp

from headway.engine import ToolOptions, contain_failures


@dataclass(frozen=True, slots=True)
class Served:
    """All that Headway needs of a server object, whatever its kind."""

    name: str
    low: Server[Any]
    options: Callable[[], InitializationOptions] | None
    bus: SubscriptionBus | None
    """The bus of its change events; None when nothing can subscribe to them."""
    build: Callable[[str, ASGIApp], Starlette]
    """Its own HTTP app, with auth, metadata and custom routes, around our endpoint."""
    tools: dict[str, ToolOptions]
    listed: Callable[[], Awaitable[Iterable[Any]]] | None = None
    """Lists its tools outside of any request; None where only a client may ask."""
    is_ours: bool = False
    """Whether it is a `Headway`, whose lists may show what Headway adds."""
    is_bare: bool = False
    """Whether the SDK wrote its handlers, and their errors."""
    may_list: bool = True
    """Whether its handlers can list without its middleware, which may count requests."""
    scopes: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """The scopes that the operator wants of callers, by tool."""
    check_scopes: Callable[[str, Collection[str]], None] | None = None
    """Raises where they are for a tool that is not among those of the server with this name."""
    every_tool: Callable[[], Awaitable[Iterable[Any]]] | None = None
    """Lists its tools for the server itself, also those that not every caller may see."""
    own_check: Callable[[str], Awaitable[bool]] | None = None
    """Returns whether its own rules give the current caller a tool; None: it has none."""
    alias_check: Callable[[str], bool] | None = None
    """Returns whether a name may be another name of any of its tools; None: they have one name."""

    async def tool_names(self) -> list[str]:
        """Return the names of its tools, as far as they are known before a client asks."""
        names = list(self.tools)
        with contain_failures("the list of tools"), suppress(Exception):  # `tools/list` will tell
            names += [tool.name for tool in await self.listed()] if self.listed else []
        return names

    def is_tool(self, name: str) -> bool:
        """Return whether it has a tool of this name, as far as it is known without listing."""
        # Servers before mcp 2.3 have no look-up.
        lookup = getattr(self.low, "get_tool_input_schema", None)
        try:
            return lookup is not None and lookup(name) is not None
        except Exception:  # noqa: BLE001 - its own code; `tools/list` will tell
            return False

    def options_of(self, tool: str) -> ToolOptions:
        """Return what the author set for a tool."""
        return self.tools.get(tool, _NO_OPTIONS)

    def for_workers(self, where: str) -> str:
        """Return the names of the tools for workers, as text. `where`: the default of all tools."""
        named = (name for name, own in self.tools.items() if (own.where or where) == "worker")
        return ", ".join(named) or ("all tools" if where == "worker" else "")

    def has_windows(self) -> bool:
        """Return whether the author set a hand-over window for a tool."""
        windows = (options.hand_over for options in self.tools.values())
        return any(window is not None and window < inf for window in windows)


_NO_OPTIONS = ToolOptions()
