"""A server whose callers are known by their tokens."""

from mcp.server import MCPServer
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from pydantic import AnyHttpUrl
from tests.kit.tools import GatedTools


class Verifier:
    """`<subject>:<n>` is a token of that subject, alice or mallory; `narrow` has no scope."""

    async def verify_token(self, token: str) -> AccessToken | None:
        subject, _, _ = token.partition(":")
        if subject in ("alice", "mallory"):
            return AccessToken(token=token, client_id="app", subject=subject, scopes=["use"])
        if subject == "narrow":
            return AccessToken(token=token, client_id="app", subject=subject, scopes=[])
        return None


def guarded_tools() -> GatedTools:
    """A server that asks for a token; its tools are `wait` and `whoami`."""
    settings = AuthSettings(
        issuer_url=AnyHttpUrl("https://issuer.example"),
        resource_server_url=AnyHttpUrl("http://127.0.0.1/mcp"),
        required_scopes=["use"],
        validate_token_resource=False,
    )
    server = MCPServer("guarded", auth=settings, token_verifier=Verifier())

    @server.tool()
    async def whoami() -> str:
        token = get_access_token()
        return f"{token.subject if token else None}"

    return GatedTools("wait", server=server)


def bearer(token: str) -> dict[str, str]:
    """The header that a token comes in."""
    return {"Authorization": f"Bearer {token}"}
