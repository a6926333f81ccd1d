"""Clients log in at an authorization server: the official one, and `headway call`."""

import asyncio
import json
import stat
import sys
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import TextContent
from tests.auth.authorization_server import AuthorizationServer, authorizing
from tests.auth.official_client import Kept, official
from tests.kit.program import Finished, Programs, programs_in
from tests.kit.waits import PATIENCE

from headway.testing.server_process import free_port

pytestmark = pytest.mark.anyio

SERVER = """\
from mcp.server.auth.middleware.auth_context import get_access_token
from headway import Headway

mcp = Headway("guarded")


@mcp.tool()
def who() -> str:
    token = get_access_token()
    return f"{token.subject} with {' '.join(token.scopes)}"


@mcp.tool(scopes=["more"])
def pay(amount: int) -> str:
    return who()
"""

AUTH = """\
[auth]
resource = "{url}"
issuer = "{issuer}"
jwks = "{issuer}keys"
scopes = ["mcp"]
leeway = "0s"
"""


@dataclass
class Site:
    """A server with `[auth]`, the authorization server that it trusts, and its user."""

    programs: Programs
    issuer: AuthorizationServer
    url: str
    home: Path

    async def headway(self, *words: str, **env: str) -> Finished:
        browser = f"{sys.executable} {Path(__file__).with_name('browse.py')} %s"
        env = {"BROWSER": browser, **env}
        return await asyncio.to_thread(self.programs.run, *words, env=env)

    async def call(self, *words: str, **env: str) -> Finished:
        return await self.headway("call", self.url, "who", "--quiet", *words, **env)

    @property
    def login(self) -> Path:
        [file] = (self.programs.home / "headway" / "logins").iterdir()
        return file


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    with programs_in(tmp_path) as started:
        yield started


@pytest.fixture
async def site(programs: Programs, tmp_path: Path) -> AsyncGenerator[Site]:
    async with authorizing("mcp", "more") as issuer:
        url = f"http://127.0.0.1:{(port := free_port())}/mcp"
        (tmp_path / "server.py").write_text(SERVER)
        (tmp_path / "auth.toml").write_text(AUTH.format(url=url, issuer=issuer.url))
        options = ("--port", str(port), "--auth", str(tmp_path / "auth.toml"))
        await asyncio.to_thread(programs.serve, "run", f"{tmp_path}/server.py", *options)
        yield Site(programs, issuer, url, tmp_path)


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
async def test_the_official_client_logs_in_and_renews_its_token(site: Site, mode: str) -> None:
    kept = Kept()
    site.issuer.lifetime = 1
    auth = official(site.url, kept)
    async with httpx2.AsyncClient(auth=auth, timeout=PATIENCE) as wire:
        streams = streamable_http_client(site.url, http_client=wire)
        async with Client(streams, mode=mode) as client:
            for _ in range(2):
                result = await client.call_tool("who")
                assert isinstance(result.content[0], TextContent)
                assert result.content[0].text == "alice with mcp"
                first = kept.tokens
                while kept.tokens == first:
                    await client.list_tools()
    assert site.issuer.logins == [["mcp"]]
    assert site.issuer.renewals >= 2


@pytest.mark.parametrize("era", ["2025", "2026"])
async def test_a_person_is_asked_for_the_scope_that_a_tool_needs(site: Site, era: str) -> None:
    await site.call("--auth", "oauth")
    words = ("call", site.url, "pay", "amount=5", "--quiet", "--era", era)
    unasked = await site.headway(*words)
    assert unasked.code == 2
    asked = await site.headway(*words, "--auth", "oauth")
    assert asked.code == 0, asked.err
    assert sorted(asked.out.split()) == ["alice", "mcp", "more", "with"]
    assert (await site.headway(*words)).code == 0
    assert [sorted(scopes) for scopes in site.issuer.logins] == [["mcp"], ["mcp", "more"]]


async def test_a_person_logs_in_once(site: Site) -> None:
    nobody = await site.call()
    assert nobody.code == 4
    assert "log in with --auth oauth" in nobody.err
    first = await site.call("--auth", "oauth")
    assert (first.code, first.out) == (0, "alice with mcp\n"), first.err
    assert "wants you to log in" in first.err
    assert stat.S_IMODE(site.login.stat().st_mode) == 0o600
    assert stat.S_IMODE(site.login.parent.stat().st_mode) == 0o700
    for more in ((), ("--auth", "oauth"), ("--era", "2026"), ("--era", "2025")):
        again = await site.call(*more)
        assert (again.code, again.out) == (0, "alice with mcp\n"), again.err
        assert "log in" not in again.err
    listed = await site.headway("tools", site.url, "--output", "json")
    assert [tool["name"] for tool in json.loads(listed.out)] == ["who"]
    assert site.issuer.logins == [["mcp"]]
    assert site.issuer.renewals == 0


async def test_a_token_that_is_over_is_renewed_and_no_browser_opens(site: Site) -> None:
    await site.call("--auth", "oauth")
    kept = json.loads(site.login.read_text())
    site.login.write_text(json.dumps({**kept, "expires_at": 1.0}))
    again = await site.call(BROWSER="false")
    assert (again.code, again.out) == (0, "alice with mcp\n"), again.err
    assert (len(site.issuer.logins), site.issuer.renewals) == (1, 1)


async def test_a_login_that_is_over_says_how_to_log_in_again(site: Site) -> None:
    await site.call("--auth", "oauth")
    kept = json.loads(site.login.read_text())
    site.login.write_text(
        json.dumps({**kept, "tokens": {"access_token": "a.b.c", "token_type": "Bearer"}})
    )
    over = await site.call()
    assert (over.code, "log in again with --auth oauth" in over.err) == (2, True), over.err
    assert len(over.err.splitlines()) == 1
    anew = await site.call("--auth", "oauth")
    assert (anew.code, anew.out) == (0, "alice with mcp\n"), anew.err


async def test_who_says_no_is_not_logged_in(site: Site) -> None:
    site.issuer.is_denied = True
    denied = await site.call("--auth", "oauth")
    assert denied.code == 2
    assert "the login was refused: access_denied: alice does not want it" in denied.err


async def test_a_client_whose_port_is_taken_is_registered_anew(site: Site) -> None:
    await site.call("--auth", "oauth")
    kept = json.loads(site.login.read_text())
    [uri] = kept["client"]["redirect_uris"]
    del kept["tokens"]
    site.login.write_text(json.dumps(kept))
    taken = await asyncio.start_server(lambda *_: None, "127.0.0.1", urlsplit(uri).port)
    async with taken:
        again = await site.call("--auth", "oauth")
    assert (again.code, again.out) == (0, "alice with mcp\n"), again.err
    assert len(site.issuer.clients) == 2


async def test_a_damaged_login_is_as_none(site: Site) -> None:
    await site.call("--auth", "oauth")
    for damage in ("", "{", "[]", '{"url": 1}', '{"url": "http://other/mcp"}'):
        site.login.write_text(damage)
        assert (await site.call()).code == 4, damage
        assert (await site.call("--auth", "oauth")).out == "alice with mcp\n", damage


async def test_a_token_of_ones_own_wins(site: Site) -> None:
    await site.call("--auth", "oauth")
    token = site.issuer.issuer.token(aud=site.url, sub="bob")
    own = await site.call(HEADWAY_TOKEN=token)
    assert (own.code, own.out) == (0, "bob with mcp\n"), own.err
    both = await site.call("--auth", "oauth", HEADWAY_TOKEN=token)
    assert (both.code, "there is a token already" in both.err) == (2, True)
    target = await site.headway("call", f"{site.home}/server.py", "who", "--auth", "oauth")
    assert (target.code, "a TARGET needs no login" in target.err) == (2, True)
