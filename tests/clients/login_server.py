"""A Headway server and the authorization server that it trusts: `login_server.py LIFETIME REFRESH`.

Tokens are good for LIFETIME seconds; REFRESH is `refresh` where clients get what renews them. The
first line that is printed is the server's URL. The tool `seen` says what the authorization server
has seen.
"""

import asyncio
import sys
from typing import Any

from mcp.server.auth.middleware.auth_context import get_access_token
from tests.auth.authorization_server import AuthorizationServer, authorizing

from headway import Headway, asgi
from headway.cli.server.http_server import serving
from headway.testing.server_process import free_port
from headway.tokens import AuthConfig


def house(issuer: AuthorizationServer) -> Headway:
    """The tools: `pay` needs more than others."""
    mcp = Headway("house")

    @mcp.tool()
    async def who() -> str:
        token = get_access_token()
        return "nobody" if token is None else f"{token.subject} with {' '.join(token.scopes)}"

    @mcp.tool(scopes=["more"])
    async def pay() -> str:
        return await who()

    @mcp.tool()
    async def seen() -> dict[str, Any]:
        return {
            "clients": len(issuer.clients), "logins": [sorted(each) for each in issuer.logins],
            "renewals": issuer.renewals,
        }  # fmt: skip

    assert pay
    assert seen
    return mcp


async def main(lifetime: int, *, has_refresh: bool) -> None:
    """Serve until the process is ended."""
    url = f"http://127.0.0.1:{(port := free_port())}/mcp"
    async with authorizing("mcp", "more") as issuer:
        issuer.lifetime, issuer.margin, issuer.has_refresh = lifetime, 0, has_refresh
        auth = AuthConfig(
            resource=url, issuer=issuer.url, jwks=f"{issuer.url}keys", scopes=("mcp",), leeway=0.0
        )
        async with serving(asgi(house(issuer), auth=auth), port=port, grace=0):
            sys.stdout.write(f"{url}\n")
            sys.stdout.flush()
            await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), has_refresh=sys.argv[2] == "refresh"))
