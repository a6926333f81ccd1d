"""Clients of both eras that send a token, and may get another one."""

from typing import Any

from tests.auth.issuer import RESOURCE, Issuer
from tests.kit.auth import bearer
from tests.kit.peers import Extra, Modern, Session, Wire, merge

from headway.protocol.idempotency_key import META_KEY
from headway.tokens import AuthConfig

TASKS = "io.modelcontextprotocol/tasks"
KNOWS_TASKS = {"extensions": {TASKS: {}}, "elicitation": {}}


def policy(issuer: Issuer, **tools: tuple[str, ...]) -> AuthConfig:
    """`[auth]` of an issuer, with `[auth.tools]`."""
    return AuthConfig(resource=RESOURCE, issuer=issuer.url, scopes=("mcp",), tools=tools)


class Known2026(Modern):
    """A 2026 client with a token."""

    def __init__(self, wire: Wire, token: str, capabilities: dict[str, Any] | None = None) -> None:
        super().__init__(wire, capabilities)
        self.token = token

    def headers(self, body: dict[str, Any], extra: Extra | None = None) -> dict[str, str]:
        name = body["params"].get("taskId")
        named = {"Mcp-Name": name} if name else {}
        return merge(super().headers(body, named), {**bearer(self.token), **(extra or {})})

    def with_token(self, token: str) -> "Known2026":
        """The same client with another token."""
        return Known2026(self.wire, token, self._capabilities)


class Known2025(Session):
    """A 2025 client with a token."""

    def with_token(self, token: str) -> "Known2025":
        """The same client, in the same session, with another token."""
        return Known2025(self.wire, self.version, self.id, bearer(token))


Known = Known2025 | Known2026


async def connect(
    wire: Wire, era: str, token: str, *, version: str = "2025-11-25", knows_tasks: bool = False
) -> Known:
    """A client of an era with a token."""
    if era == "2026":
        return Known2026(wire, token, KNOWS_TASKS if knows_tasks else None)
    session = await Known2025.open(wire, version, extra=bearer(token))
    assert isinstance(session, Known2025)
    return session


def poor(issuer: Issuer) -> str:
    """A token of alice without the scope."""
    return issuer.token(scope="mcp files")


def rich(issuer: Issuer) -> str:
    """A token of alice with the scope."""
    return issuer.token(scope="mcp net")


async def listed(client: Known) -> list[str]:
    outcome = await (await client.request("tools/list")).outcome()
    return sorted(tool["name"] for tool in outcome["result"]["tools"])


async def ask(client: Known, method: str, **params: Any) -> dict[str, Any]:
    return await (await client.request(method, params)).outcome()


def keyed(client: Known, tool: str) -> dict[str, Any]:
    message = client.call_message(tool)
    message["params"].setdefault("_meta", {})[META_KEY] = "once"
    return message
