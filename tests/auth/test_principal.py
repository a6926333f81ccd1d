"""An app that knows its users by itself says who calls: `asgi(principal=…)`."""

import logging
from typing import Any

import pytest
from mcp.server import MCPServer
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import AccessToken
from starlette.authentication import SimpleUser, UnauthenticatedUser
from tests.kit.auth import Verifier, bearer, guarded_tools
from tests.kit.http import Answer
from tests.kit.peers import Modern, Session, Wire, each_era, served, text_of

from headway import Headway, asgi, auth
from headway.errors import SetupError
from headway.tokens import AuthConfig, FileToken

pytestmark = pytest.mark.anyio


def by_header(scope: Any) -> str | AccessToken | None:
    """What an app with logins of its own would find: here a header says it."""
    name = dict(scope["headers"]).get(b"x-user", b"").decode()
    if name.startswith("token "):
        return AccessToken(token="", client_id="app", subject=name[6:], scopes=["net"])
    return name or None


def make() -> Headway:
    mcp = Headway("inside")

    @mcp.tool()
    async def who() -> str:
        token = get_access_token()
        return f"{token.subject}" if token else "nobody"

    @mcp.tool(scopes=["net"])
    async def guarded() -> str:
        return "secret"

    assert who
    assert guarded
    return mcp


class Users:
    """Callers of one era, who are known by a header."""

    def __init__(self, wire: Wire, era: str) -> None:
        self._wire = wire
        self._era = era

    async def call(self, user: str, tool: str = "who", key: str = "") -> Answer:
        extra = {"X-User": user} if user else {}
        extra |= {"Idempotency-Key": key} if key else {}
        if self._era == "2026":
            client = Modern(self._wire)
            return await client.post(client.call_message(tool), extra)
        session = await Session.open(self._wire, extra=extra)
        return await session.post(session.call_message(tool))


@each_era
async def test_each_user_is_a_caller(era: str) -> None:
    async with served(make(), principal=by_header) as wire:
        users = Users(wire, era)
        for user, said in (("alice", "alice"), ("bob", "bob"), ("", "nobody")):
            assert text_of(await (await users.call(user)).outcome()) == said
        # A key is its user's own.
        for user in ("alice", "bob", "alice"):
            assert text_of(await (await users.call(user, key="same")).outcome()) == user
        refused = await users.call("alice", "guarded")
        assert refused.status == 403
        assert text_of(await (await users.call("token carol", "guarded")).outcome()) == "secret"


async def test_a_session_is_its_users_own() -> None:
    async with served(make(), principal=by_header) as wire:
        session = await Session.open(wire, extra={"X-User": "alice"})
        assert (await session.request("ping")).status == 200
        for extra in ({"X-User": "bob"}, {}):
            other = Session(wire, session.version, session.id, extra)
            assert (await other.request("ping")).status == 404


def test_callers_are_found_in_one_way() -> None:
    tokens = {"ci": FileToken(sha256="0" * 64)}
    with pytest.raises(SetupError, match="leave out one"):
        asgi(make(), principal=by_header, auth=AuthConfig(tokens=tokens))
    with pytest.raises(SetupError, match="has its own auth"):
        asgi(guarded_tools().mcp, principal=by_header)


# What is told where nobody says it


@pytest.fixture
def warned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "_warned", set[str]())


def test_users_of_an_app_around_it_that_nobody_names_are_told_of_once(
    warned: None, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "headway"):
        for _ in range(2):
            assert auth.principal_of({"user": SimpleUser("alice")}) == ""
        assert auth.principal_of({"user": UnauthenticatedUser()}) == ""
    assert caplog.text.count("one anonymous caller here") == 1


async def counted(wire: Wire, era: str, extra: dict[str, str]) -> Answer:
    if era == "2026":
        client = Modern(wire)
        return await client.post(client.call_message("count"), extra)
    session = await Session.open(wire, extra=extra)
    return await session.post(session.call_message("count"))


@each_era
async def test_tokens_that_name_no_subject_are_each_a_caller_and_told_of_once(
    era: str, warned: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def verify(_self: Verifier, token: str) -> AccessToken:
        return AccessToken(token=token, client_id="app", scopes=["use"])

    runs: list[str] = []

    monkeypatch.setattr(Verifier, "verify_token", verify)
    server = guarded_tools().mcp
    assert isinstance(server, MCPServer)

    @server.tool()
    async def count() -> str:
        runs.append("run")
        return f"run {len(runs)}"

    assert count
    with caplog.at_level(logging.WARNING, "headway"):
        async with served(server) as wire:
            for token, said in (("one", "run 1"), ("two", "run 2"), ("one", "run 1")):
                extra = {**bearer(token), "Idempotency-Key": "same"}
                answer = await counted(wire, era, extra)
                assert text_of(await answer.outcome()) == said
    assert caplog.text.count("names no subject") == 1
