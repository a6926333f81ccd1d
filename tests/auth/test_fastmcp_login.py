"""FastMCP's client logs in with its own helper: registered, refused for a scope, renewed."""

import asyncio
import webbrowser
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import fastmcp
import httpx2
import pytest
from fastmcp.client.auth import OAuth
from mcp.server.auth.middleware.auth_context import get_access_token
from tests.auth.authorization_server import AuthorizationServer, authorizing
from tests.kit.peers import each_era
from tests.kit.redis_servers import free_port
from tests.kit.waits import PATIENCE

from headway import Headway, asgi
from headway.cli.server.http_server import serving
from headway.tokens import AuthConfig

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Using in-memory token storage:UserWarning"),
]

MODE = {"2025": "legacy", "2026": "2026-07-28"}


def house() -> Headway:
    mcp = Headway("house")

    @mcp.tool()
    async def who() -> str:
        token = get_access_token()
        return "nobody" if token is None else f"{token.subject} with {' '.join(token.scopes)}"

    @mcp.tool(scopes=["more"])
    async def pay() -> str:
        return "paid"

    assert who
    assert pay
    return mcp


async def said(client: Any, tool: str) -> str:
    return (await client.call_tool(tool)).content[0].text


@dataclass
class Browser:
    """A browser without a window, whose user agrees at once."""

    visits: list["asyncio.Task[int]"] = field(default_factory=list["asyncio.Task[int]"])

    def open(self, address: str) -> bool:
        self.visits.append(asyncio.get_running_loop().create_task(self._visit(address)))
        return True

    async def _visit(self, address: str) -> int:
        # The helper listens for the way back only after it has opened the browser.
        wire = httpx2.AsyncHTTPTransport(retries=8)
        async with httpx2.AsyncClient(transport=wire, timeout=PATIENCE) as http:
            return (await http.get(address, follow_redirects=True)).status_code


@pytest.fixture
def browser(monkeypatch: pytest.MonkeyPatch) -> Browser:
    browser = Browser()
    monkeypatch.setattr(webbrowser, "open", browser.open)
    return browser


@dataclass
class Site:
    """A server, and the authorization server that it trusts."""

    url: str
    issuer: AuthorizationServer

    def client(self, era: str) -> Any:
        login = OAuth(self.url, callback_timeout=PATIENCE)
        return fastmcp.Client(self.url, mode=MODE[era], auth=login)


@asynccontextmanager
async def site() -> AsyncGenerator[Site]:
    port = free_port()
    url = f"http://127.0.0.1:{port}/mcp"
    async with authorizing("mcp", "more") as issuer:
        auth = AuthConfig(
            resource=url, issuer=issuer.url, jwks=f"{issuer.url}keys", scopes=("mcp",)
        )
        async with serving(asgi(house(), auth=auth), port=port, grace=0):
            yield Site(url, issuer)


@each_era
async def test_fastmcps_client_registers_logs_in_and_calls(era: str, browser: Browser) -> None:
    async with site() as place, place.client(era) as client:
        assert [tool.name for tool in await client.list_tools()] == ["who"]
        assert await said(client, "who") == "alice with mcp"
        [known] = place.issuer.clients.values()
        assert known.client_name == "FastMCP Client"
        assert known.token_endpoint_auth_method == "none"
        assert [await visit for visit in browser.visits] == [200]
        # The helper looks at the page itself before it opens the browser.
        assert place.issuer.logins == [["mcp"], ["mcp"]]


@each_era
async def test_fastmcps_client_steps_up_by_itself(era: str, browser: Browser) -> None:
    async with site() as place, place.client(era) as client:
        assert await said(client, "who") == "alice with mcp"
        assert await said(client, "pay") == "paid"
        assert [await visit for visit in browser.visits] == [200, 200]
        assert set(place.issuer.logins[-1]) == {"mcp", "more"}
        assert sorted(tool.name for tool in await client.list_tools()) == ["pay", "who"]


@each_era
async def test_a_user_who_does_not_want_more_ends_fastmcps_client(
    era: str, browser: Browser
) -> None:
    async with site() as place:
        with pytest.raises(RuntimeError, match="Access was denied"):
            await _deny_more(place, era)
        place.issuer.is_denied = False
        async with place.client(era) as client:
            assert await said(client, "who") == "alice with mcp"


async def _deny_more(place: Site, era: str) -> None:
    async with place.client(era) as client:
        assert await said(client, "who") == "alice with mcp"
        place.issuer.is_denied = True
        await said(client, "pay")


@each_era
async def test_fastmcps_client_renews_a_token_that_is_over(era: str, browser: Browser) -> None:
    async with site() as place:
        place.issuer.lifetime = 1
        async with place.client(era) as client:
            while place.issuer.renewals < 2:
                assert await said(client, "who") == "alice with mcp"
        assert len(browser.visits) == 1
