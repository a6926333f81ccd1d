"""Calls with an idempotency key."""

from typing import Any

from tests.kit.http import Answer
from tests.kit.peers import Client, Session

META_KEY = "headway/idempotency-key"


def keyed_request(
    client: Client, tool: str, key: str | None, arguments: Any = None, **options: Any
) -> dict[str, Any]:
    """A `tools/call` in the client's era; with no key for None."""
    params: dict[str, Any] = {"name": tool, "arguments": arguments or {}}
    if isinstance(client, Session):
        message = client.message("tools/call", params, **options)
    else:
        message = client.body("tools/call", params, **options)
    if key is not None:
        message["params"].setdefault("_meta", {})[META_KEY] = key
    return message


async def keyed_call(
    client: Client, tool: str, key: str | None, arguments: Any = None, **options: Any
) -> Answer:
    """Call a tool with a key."""
    return await client.post(keyed_request(client, tool, key, arguments, **options))
