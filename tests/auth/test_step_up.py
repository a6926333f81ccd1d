"""The official client at a server whose tools need scopes: it logs in, is refused, and steps up."""

import httpx2
import pytest
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from tests.auth.authorization_server import authorizing
from tests.auth.official_client import Kept, official
from tests.kit.peers import each_era
from tests.kit.redis_servers import free_port

from headway import Headway, asgi
from headway.cli.server.http_server import serving
from headway.tokens import AuthConfig

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning"),
]

MODE = {"2025": "legacy", "2026": "2026-07-28"}


def house() -> Headway:
    mcp = Headway("house")

    @mcp.tool()
    async def free() -> str:
        return "free"

    @mcp.tool(scopes=["files"])
    async def read() -> str:
        return "a file"

    @mcp.tool(scopes=["net"])
    async def fetch() -> str:
        return "a page"

    assert free
    assert read
    assert fetch
    return mcp


@each_era
async def test_the_official_client_steps_up_and_loses_nothing(era: str) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/mcp"
    async with authorizing("mcp", "files", "net") as issuer:
        auth = AuthConfig(
            resource=url, issuer=issuer.url, jwks=f"{issuer.url}keys", scopes=("mcp",)
        )
        async with (
            serving(asgi(house(), auth=auth), port=port, grace=0),
            httpx2.AsyncClient(auth=official(url, Kept()), trust_env=False) as http,
            Client(streamable_http_client(url, http_client=http), mode=MODE[era]) as client,
        ):
            names = [tool.name for tool in (await client.list_tools()).tools]
            assert names == ["free"]
            for tool, text in (("read", "a file"), ("fetch", "a page"), ("read", "a file")):
                result = await client.call_tool(tool, {})
                assert result.content[0].text == text  # pyright: ignore[reportAttributeAccessIssue]
            granted = [set(scopes) for scopes in issuer.logins]
            assert granted == [{"mcp"}, {"mcp", "files"}, {"mcp", "files", "net"}]
            names = [tool.name for tool in (await client.list_tools()).tools]
            assert sorted(names) == ["fetch", "free", "read"]
