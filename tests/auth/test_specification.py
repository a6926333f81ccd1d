"""The specification's pages on authorization, sentence by sentence, in both eras."""

import json
import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.auth.callers import Known, connect, listed, policy
from tests.auth.issuer import RESOURCE, Issuer, issuing
from tests.kit.auth import bearer
from tests.kit.http import Answer
from tests.kit.peers import each_era, served, text_of

from headway import Headway
from headway.errors import SetupError
from headway.tokens import AuthConfig, FileToken, read_auth

pytestmark = pytest.mark.anyio


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with issuing() as issuer:
        yield issuer


def make() -> Headway:
    mcp = Headway("pages")

    @mcp.tool()
    async def look() -> str:
        return "seen"

    @mcp.tool(scopes=["net", "pay"])
    async def buy() -> str:
        return "bought"

    assert look
    assert buy
    return mcp


async def call(client: Known, tool: str = "look") -> Answer:
    return await client.call(tool)


BAD: dict[str, dict[str, Any]] = {
    "expired": {"exp": int(time.time()) - 3600},
    "of another key": {"name": "two"},
    "for another server": {"aud": "https://other.example/mcp"},
    "for nobody": {"aud": None},
    "of another issuer": {"iss": "https://evil.example"},
}


@pytest.mark.requirement("auth.validated", "auth.audience")
@each_era
@pytest.mark.parametrize("bad", BAD)
async def test_a_token_that_is_not_good_here_is_answered_401(
    era: str, bad: str, issuer: Issuer
) -> None:
    async with served(make(), auth=policy(issuer)) as wire:
        client = await connect(wire, era, issuer.token())
        refused = await call(client.with_token(issuer.token(**BAD[bad])))
        assert refused.status == 401
        assert 'error="invalid_token"' in refused.headers["www-authenticate"]
        assert text_of(await (await call(client)).outcome()) == "seen"


@pytest.mark.requirement("auth.every-request", "auth.not-in-the-query", "auth.malformed-400")
@each_era
async def test_each_request_has_its_one_token_in_its_head(era: str, issuer: Issuer) -> None:
    async with served(make(), auth=policy(issuer)) as wire:
        client = await connect(wire, era, issuer.token())
        assert (await call(client)).status == 200
        body = json.dumps(client.call_message("look")).encode()
        bare = {
            "Content-Type": "application/json", "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": "2026-07-28" if era == "2026" else "2025-11-25",
        }  # fmt: skip
        token = issuer.token()
        assert (await wire.ask("POST", bare, body, path=f"/mcp?access_token={token}")).status == 401
        two = {**bare, **bearer(token), "authorization": f"Bearer {token}"}
        assert (await wire.ask("POST", two, body)).status == 400
        for method in ("GET", "DELETE"):
            assert (await wire.ask(method, bare)).status == 401


@pytest.mark.requirement("auth.insufficient-scope", "auth.all-scopes-at-once")
@each_era
async def test_one_refusal_names_all_scopes_that_a_call_needs(era: str, issuer: Issuer) -> None:
    async with served(make(), auth=policy(issuer)) as wire:
        client = await connect(wire, era, issuer.token())
        refused = await call(client, "buy")
        assert refused.status == 403
        challenge = refused.headers["www-authenticate"]
        assert challenge.startswith('Bearer error="insufficient_scope"')
        assert 'scope="mcp net pay"' in challenge
        assert "/.well-known/oauth-protected-resource/mcp" in challenge
        rich = client.with_token(issuer.token(scope="mcp net pay"))
        assert text_of(await (await call(rich, "buy")).outcome()) == "bought"


@pytest.mark.requirement("auth.scope-hierarchy")
@each_era
async def test_a_broader_scope_stands_for_what_it_implies(era: str, issuer: Issuer) -> None:
    implies = {"admin": ("staff",), "staff": ("mcp", "net", "pay"), "pay": ("admin",)}
    tokens = {"root": FileToken(sha256="0" * 64, scopes=("admin",))}
    auth = AuthConfig(
        resource=RESOURCE, issuer=issuer.url, scopes=("mcp",), implies=implies, tokens=tokens
    )
    async with served(make(), auth=auth) as wire:
        client = await connect(wire, era, issuer.token(scope="admin"))
        assert text_of(await (await call(client, "buy")).outcome()) == "bought"
        assert sorted(await listed(client)) == ["buy", "look"]
        # It does not stand for what implies it.
        assert (await call(client.with_token(issuer.token(scope="mcp net")), "buy")).status == 403


@pytest.mark.requirement("auth.no-offline-access", era="2025 2026")
@pytest.mark.parametrize("where", ['scopes = ["mcp", "offline_access"]', "[auth.tools]"])
def test_a_wish_of_clients_is_no_scope_of_a_server(where: str, tmp_path: Path) -> None:
    file = tmp_path / "auth.toml"
    tools = 'look = ["offline_access"]' if where.startswith("[") else ""
    base = '[auth]\nresource = "https://a.example/mcp"\nissuer = "https://idp.example"\n'
    file.write_text(f"{base}{where}\n{tools}\n")
    with pytest.raises(SetupError, match="offline_access is a wish of clients"):
        read_auth(file)


def contents_of(directory: Path) -> bytes:
    return b"".join(file.read_bytes() for file in directory.iterdir() if file.is_file())


@pytest.mark.requirement("auth.not-passed-on")
@each_era
async def test_a_token_is_neither_logged_nor_stored(
    era: str, issuer: Issuer, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    token = issuer.token(scope="mcp net pay")
    journal = f"sqlite:///{tmp_path / 'j.db'}"
    with caplog.at_level(logging.DEBUG):
        async with served(make(), auth=policy(issuer), journal=journal) as wire:
            client = await connect(wire, era, token)
            assert text_of(await (await call(client, "buy")).outcome()) == "bought"
    stored = contents_of(tmp_path)
    assert b"alice" in stored
    for part in token.split(".")[1:]:
        assert part.encode() not in stored
        assert part not in caplog.text
