"""The capabilities that a server declares: its author's, and those that Headway adds.

| added | because | where |
|---|---|---|
| `logging` | levels are kept to (`levels.py`) | an author's code can log |
| `listChanged`, `resources.subscribe` | changes reach 2025 sessions too | changes are published |
| `extensions`: tasks | long calls become tasks | there are tools, and no tasks of its own |

What an author switched off stays off, and what he says of his own stays as he says it.
"""

from typing import Any, Final, cast

from mcp.server.lowlevel import Server
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from headway.engine import Engine
from headway.features.task_methods import has_own_tasks
from headway.handlers import has_own
from headway.protocol.tasks import EXTENSION

_KINDS: Final = ("tools", "prompts", "resources")
"""What a server has lists of."""


def served_capabilities(
    low: Server[Any], engine: Engine, version: str, result: dict[str, Any], *, publishes: bool
) -> dict[str, Any]:
    """Return the result of `initialize` or `server/discover`, with Headway's capabilities.

    `publishes`: what changes is published, where Headway hears of it.
    """
    found: object = result.get("capabilities")
    if not isinstance(found, dict):  # a middleware's own
        return result
    said = cast("dict[str, Any]", found)
    capabilities = {**said}
    if version in MODERN_PROTOCOL_VERSIONS:
        if "tools" in said and engine.offers_tasks and not has_own_tasks(low):
            capabilities["extensions"] = {**said.get("extensions", {}), EXTENSION: {}}
        return {**result, "capabilities": capabilities}
    for kind in _KINDS:
        if publishes and kind in said:
            capabilities[kind] = {**said[kind], "listChanged": True}
    if "resources" in said:
        can_subscribe = publishes or has_own(low, "resources/subscribe")
        capabilities["resources"] = {**capabilities["resources"], "subscribe": can_subscribe}
    return {**result, "capabilities": capabilities}
