"""A person who opens a server's URL in a browser gets a page; no MCP client ever does."""

import html
import json
import re
import shlex
import tomllib
from pathlib import Path

import httpx2
import pytest
from mcp import Client
from mcp.server import MCPServer
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount
from tests.kit.auth import bearer, guarded_tools
from tests.kit.peers import Wire, served
from tests.kit.program import programs_in
from tests.kit.waits import PATIENCE

from headway import Headway, HeadwayApp, Settings, asgi
from headway.cli.server.http_server import serving
from headway.client_config import CLIENTS
from headway.clock import Clock

pytestmark = pytest.mark.anyio

CHROME = (
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8,"
    "application/signed-exchange;v=b3;q=0.7"
)
FIREFOX = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
EVIL = "<script>alert(1)</script>\"&'</pre>"


def make(name: str = "reports") -> Headway:
    mcp = Headway(name, version="1.2.3<")

    @mcp.tool()
    def summarize() -> str:
        return "done"

    @mcp.tool(name=EVIL)
    def other() -> str:
        return "done"

    return mcp


def blocks(page: str) -> list[str]:
    return [html.unescape(each) for each in re.findall(r"<pre>(.*?)</pre>", page, re.DOTALL)]


@pytest.mark.parametrize("accept", [CHROME, FIREFOX, "text/html"])
async def test_a_browser_gets_name_version_tools_and_the_blocks_with_this_url(accept: str) -> None:
    async with served(make()) as wire:
        answer = await wire.ask("GET", {"Accept": accept})
        page = (await answer.body()).decode()
        url = f"http://{wire.host}:{wire.port}/mcp"
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "<h1>reports 1.2.3&lt;</h1>" in page
    assert "<h2>2 tools</h2>" in page
    assert "<code>summarize</code>" in page
    address, *shown = blocks(page)
    assert address == url
    assert shown == [row.render("reports", row.of_url(url)) for row in CLIENTS.values()]
    readers = {"json": json.loads, "toml": tomllib.loads, "command": shlex.split}
    for row, text in zip(CLIENTS.values(), shown, strict=True):
        assert url in str(readers[row.form](text))


async def test_nothing_of_the_page_can_be_executed_or_kept() -> None:
    async with served(make(EVIL)) as wire:
        answer = await wire.ask("GET", {"Accept": CHROME})
        page = (await answer.body()).decode()
    assert "<script" not in page
    assert EVIL not in page
    assert html.escape(EVIL) in page
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["vary"] == "Accept"


async def test_the_policy_has_the_digest_of_the_style() -> None:
    from base64 import b64encode
    from hashlib import sha256

    async with served(make()) as wire:
        answer = await wire.ask("GET", {"Accept": CHROME})
        page = (await answer.body()).decode()
    (style,) = re.findall(r"<style>(.*?)</style>", page)
    digest = b64encode(sha256(style.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    "accept",
    [
        "text/event-stream", "application/json", "*/*", "application/json, text/event-stream",
        "text/html;q=0.5, */*", "text/html, text/event-stream", "text/html, */*",
        "text/html;q=0", "text/html;q=0.9, application/json;q=0.9", "",
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
async def test_whoever_takes_mcp_as_gladly_gets_no_page(accept: str, method: str) -> None:
    async with served(make()) as wire:
        answer = await wire.ask(method, {"Accept": accept})
    assert answer.status in (400, 405, 406)
    assert answer.headers["content-type"] == "application/json"
    assert "content-security-policy" not in answer.headers


@pytest.mark.parametrize("header", ["Mcp-Session-Id", "MCP-Protocol-Version", "Last-Event-ID"])
async def test_a_request_with_a_header_of_mcp_gets_no_page(header: str) -> None:
    value = "2025-06-18" if header == "MCP-Protocol-Version" else "1"
    async with served(make()) as wire:
        answer = await wire.ask("GET", {"Accept": CHROME, header: value})
        assert answer.status >= 400
        assert answer.headers["content-type"] == "application/json"


async def test_a_post_of_a_browser_is_answered_as_every_other() -> None:
    async with served(make()) as wire:
        headers = {"Content-Type": "application/json"}
        page = await wire.ask("POST", {**headers, "Accept": CHROME}, b"{}")
        other = await wire.ask("POST", {**headers, "Accept": "*/*"}, b"{}")
        assert (page.status, await page.body()) == (other.status, await other.body())


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Origin": "https://evil.example"}, 403),
        ({"Host": ""}, 421),
    ],
)
async def test_the_guard_comes_before_the_page(headers: dict[str, str], status: int) -> None:
    async with served(make()) as wire:
        answer = await wire.ask("GET", {"Accept": CHROME, **headers})
        assert answer.status == status
        assert b"reports" not in await answer.body()


async def test_the_url_is_the_one_that_the_person_has_used() -> None:
    async with served(make(), settings=Settings(allowed_hosts=("tools.example",))) as wire:
        answer = await wire.ask("GET", {"Accept": CHROME, "Host": "tools.example:8443"})
        assert blocks((await answer.body()).decode())[0] == "http://tools.example:8443/mcp"


async def test_a_mounted_server_shows_its_whole_address() -> None:
    inner = asgi(make(), clock=Clock())
    async with serving(_mounted(inner)) as origin:
        wire = Wire(origin, inner, Clock())
        answer = await wire.ask("GET", {"Accept": CHROME}, path="/tools/mcp")
        assert blocks((await answer.body()).decode())[0] == f"{origin}/tools/mcp"
        missing = await wire.ask("GET", {"Accept": CHROME}, path="/tools/")
        assert missing.status == 404
        wire.cut_all()


def _mounted(inner: HeadwayApp) -> HeadwayApp:
    """A server of its own, with another one below a path."""
    outer = asgi(MCPServer("outer"))
    outer.router.routes.append(Mount("/tools", app=inner))
    assert isinstance(outer, Starlette)
    return outer


@pytest.mark.parametrize("token", [None, "alice:1"])
async def test_a_server_that_asks_for_tokens_shows_nothing(token: str | None) -> None:
    async with served(guarded_tools().mcp) as wire:
        wire.app.redirect_browsers()
        headers = {"Accept": CHROME, **({} if token is None else bearer(token))}
        answer = await wire.ask("GET", headers)
        assert answer.status in (400, 401, 406)
        assert b"<html" not in await answer.body()
        assert (await wire.ask("GET", headers, path="/")).status == 404


async def test_a_tool_list_that_fails_leaves_the_page() -> None:
    async def fails() -> list[str]:
        raise RuntimeError("no database")

    mcp = make()
    mcp.list_tools = fails  # pyright: ignore[reportAttributeAccessIssue]
    async with served(mcp) as wire:
        answer = await wire.ask("GET", {"Accept": CHROME})
        assert answer.status == 200
        assert b"no database" not in await answer.body()


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_client_calls_as_ever_beside_browsers(mode: str) -> None:
    async with (
        served(make(), clock=Clock()) as wire,
        Client(f"http://{wire.host}:{wire.port}/mcp", mode=mode) as client,
    ):
        assert (await wire.ask("GET", {"Accept": CHROME})).status == 200
        assert not (await client.call_tool("summarize", {})).is_error


async def test_the_root_leads_browsers_on_where_nothing_else_is() -> None:
    async with served(make()) as wire:
        before = await wire.ask("GET", {"Accept": "*/*"}, path="/")
        plain = (before.status, before.headers["content-type"], await before.body())
        wire.app.redirect_browsers()
        answer = await wire.ask("GET", {"Accept": CHROME}, path="/")
        assert (answer.status, answer.headers["location"]) == (307, "./mcp")
        after = await wire.ask("GET", {"Accept": "*/*"}, path="/")
        assert (after.status, after.headers["content-type"], await after.body()) == plain
        foreign = await wire.ask("GET", {"Accept": CHROME, "Host": "evil.example"}, path="/")
        assert foreign.status == 404


async def test_an_authors_own_root_stays_his() -> None:
    mcp = make()

    @mcp.custom_route("/", methods=["GET"])
    async def home(_request: Request) -> Response:
        return PlainTextResponse("home")

    async with served(mcp) as wire:
        wire.app.redirect_browsers()
        answer = await wire.ask("GET", {"Accept": CHROME}, path="/")
        assert await answer.body() == b"home"


def test_the_command_serves_the_page_to_get_and_head(tmp_path: Path) -> None:
    (tmp_path / "server.py").write_text("from headway import Headway\n\nmcp = Headway('reports')\n")
    with programs_in(tmp_path) as programs:
        _, url = programs.serve("run", "server.py", "--port", "0", "--journal", "memory:")
        with httpx2.Client(headers={"Accept": FIREFOX}, timeout=PATIENCE) as browser:
            page = browser.get(url.removesuffix("/mcp"), follow_redirects=True)
            head = browser.head(url)
        assert str(page.url) == url
        assert "<h1>reports" in page.text
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == str(len(page.content))
