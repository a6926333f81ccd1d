"""The capabilities that a server declares: its author's, and those that Headway adds.

| added | because | where |
|---|---|---|
| `logging` | levels are respected (`log_levels.py`) | an author's code can log |
| `listChanged`, `resources.subscribe` | changes reach 2025 sessions too | changes are published |
| `extensions`: tasks | long calls become tasks | there are tools, and no tasks of its own |
| `experimental`: keys | a call with a key may be repeated | there are tools |

A capability that an author has switched off stays off, and one that he declares stays as he
declares it.
"""

from math import isfinite
from typing import Any, Final, cast

from mcp.server.lowlevel import Server
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from headway.engine import Engine
from headway.features.task_methods import has_own_tasks
from headway.protocol.idempotency_key import DURABLE, LONGEST_SILENCE, META_KEY
from headway.protocol.tasks import EXTENSION
from headway.wrapped_handlers import has_own

_KINDS: Final = ("tools", "prompts", "resources")
"""The kinds of things that a server can list."""


def served_capabilities(
    low: Server[Any], engine: Engine, version: str, result: dict[str, Any], *, publishes: bool
) -> dict[str, Any]:
    """Return the result of `initialize` or `server/discover`, with Headway's capabilities.

    `publishes`: the server publishes changes on a bus, which Headway reads.
    """
    found: object = result.get("capabilities")
    if not isinstance(found, dict):  # a middleware's own
        return result
    said = cast("dict[str, Any]", found)
    capabilities = {**said}
    if "tools" in said:
        # A client that lost the answer to a call has to know whether it may send it again.
        own = cast("dict[str, Any]", said.get("experimental") or {})
        capabilities["experimental"] = {META_KEY: _declared_keys(engine), **own}
    if version in MODERN_PROTOCOL_VERSIONS:
        if "tools" in said and engine.services.offers_tasks and not has_own_tasks(low):
            capabilities["extensions"] = {EXTENSION: {}, **(said.get("extensions") or {})}
        return {**result, "capabilities": capabilities}
    for kind in _KINDS:
        if publishes and kind in said:
            capabilities[kind] = {**said[kind], "listChanged": True}
    if "resources" in said:
        can_subscribe = publishes or has_own(low, "resources/subscribe")
        capabilities["resources"] = {**capabilities["resources"], "subscribe": can_subscribe}
    return {**result, "capabilities": capabilities}


def _declared_keys(engine: Engine) -> dict[str, Any]:
    services = engine.services
    # Until its answer has become a stream, a request gets no pings.
    silence = max(services.settings.ping, services.settings.commit_after)
    return {
        DURABLE: services.journal.is_durable,
        LONGEST_SILENCE: silence if isfinite(silence) else None,
    }
