"""A reverse proxy that has logged people in says who calls, and proves it with a secret."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from mcp.server import MCPServer
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.mcpserver import Context
from pydantic import ValidationError
from tests.auth.issuer import RESOURCE, issuing
from tests.kit.auth import bearer
from tests.kit.http import Answer
from tests.kit.peers import Modern, Session, Wire, each_era, served, text_of

from headway.tokens import AuthConfig, FileToken, ProxyHeaders, parse_auth
from headway.toml_file import ConfigError, read_toml

pytestmark = pytest.mark.anyio

SECRET = "between the two of us"
PROXY = ProxyHeaders(user_header="X-User", secret=SECRET, scope_header="X-Scopes")
NOBODY_ELSE = AuthConfig(proxy=PROXY, tools={"guarded": ("net",)})


def sha256_of(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def make() -> MCPServer:
    server = MCPServer("behind")

    @server.tool()
    async def who() -> str:
        token = get_access_token()
        return f"{token.subject}" if token else "nobody"

    @server.tool()
    async def guarded() -> str:
        return "done"

    @server.tool()
    async def seen(ctx: Context) -> str:
        return " ".join(f"{name}: {value}" for name, value in (ctx.headers or {}).items())

    assert who
    assert guarded
    assert seen
    return server


def passed_on(user: str, **more: str) -> dict[str, str]:
    """The headers of the proxy for a user."""
    named = {name.replace("_", "-"): value for name, value in more.items()}
    return {"X-User": user, "X-Proxy-Secret": SECRET, **named}


async def call(wire: Wire, era: str, extra: Mapping[str, str], tool: str = "who") -> Answer:
    if era == "2026":
        client = Modern(wire)
        return await client.post(client.call_message(tool), dict(extra))
    session = await Session.open(wire, extra=dict(extra))
    return await session.post(session.call_message(tool))


async def first_answer(wire: Wire, era: str, headers: Mapping[str, str]) -> Answer:
    """The answer to the first message of a client of an era."""
    client = Modern(wire)
    message = client.call_message("who")
    if era == "2025":
        message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}}
    return await client.post(message, dict(headers))


@each_era
async def test_who_the_proxy_names_is_the_caller(era: str) -> None:
    async with served(make(), auth=NOBODY_ELSE) as wire:
        for user in ("alice", "Zoë Ångström"):
            extra = passed_on(user.encode().decode("latin-1"))
            assert text_of(await (await call(wire, era, extra)).outcome()) == user


async def test_a_session_is_its_users_own() -> None:
    async with served(make(), auth=NOBODY_ELSE) as wire:
        session = await Session.open(wire, extra=passed_on("alice"))
        bob = Session(wire, session.version, session.id, passed_on("bob"))
        assert (await bob.post(bob.call_message("who"))).status == 404
        assert (await session.post(session.call_message("who"))).status == 200


@each_era
async def test_the_proxys_scopes_count(era: str) -> None:
    async with served(make(), auth=NOBODY_ELSE) as wire:
        assert (await call(wire, era, passed_on("alice"), "guarded")).status == 403
        for scopes in ("net", "files, net", "files net"):
            answer = await call(wire, era, passed_on("alice", X_Scopes=scopes), "guarded")
            assert text_of(await answer.outcome()) == "done"


BAD: dict[str, tuple[dict[str, str], str]] = {
    "nothing": ({}, "Come through the proxy"),
    "a name alone": ({"X-User": "alice"}, "Come through the proxy"),
    "another secret": (
        {"X-User": "alice", "X-Proxy-Secret": "x" * len(SECRET)},
        "The secret of the proxy is wrong",
    ),
    "an empty secret": (
        {"X-User": "alice", "X-Proxy-Secret": ""},
        "The secret of the proxy is wrong",
    ),
    "no name": ({"X-Proxy-Secret": SECRET}, "The proxy names no callers in X-User"),
    "an empty name": (passed_on(""), "The name of the caller is empty"),
    "a name that is too long": (passed_on("a" * 1025), "The name of the caller is empty, too long"),
    "a name that is no UTF-8": (passed_on("\xff"), "The name of the caller is no UTF-8"),
    "a name that cannot be shown": (
        passed_on("a\u202eb".encode().decode("latin-1")),
        "The name of the caller is empty, too long or not printable",
    ),
}


@pytest.mark.parametrize("case", BAD)
@each_era
async def test_nobody_comes_in_with_less(era: str, case: str) -> None:
    headers, says = BAD[case]
    async with served(make(), auth=NOBODY_ELSE) as wire:
        answer = await first_answer(wire, era, headers)
        assert answer.status == 401
        assert (await answer.json())["error_description"].startswith(says)
        assert SECRET not in str(answer.headers)


@pytest.mark.parametrize("twice", ["X-User", "X-Proxy-Secret"])
async def test_a_header_that_is_there_twice_names_nobody(twice: str) -> None:
    async with served(make(), auth=NOBODY_ELSE) as wire:
        headers = {**passed_on("alice"), twice.lower(): passed_on("bob")[twice]}
        assert len(headers) == 3
        assert (await first_answer(wire, "2026", headers)).status == 401


async def test_handlers_see_no_header_between_the_proxy_and_the_server() -> None:
    auth = AuthConfig(proxy=PROXY, tokens={"ci": FileToken(sha256=sha256_of("hw_ci"))})
    async with served(make(), auth=auth) as wire:
        for extra in (passed_on("alice", X_Scopes="net"), {**bearer("hw_ci"), "X-User": "root"}):
            heard = text_of(await (await call(wire, "2026", extra, "seen")).outcome()).lower()
            assert "mcp-method" in heard
            assert "x-user" not in heard
            assert "x-proxy-secret" not in heard
            assert "x-scopes" not in heard


@each_era
async def test_tokens_let_in_besides_where_the_file_has_some(era: str) -> None:
    async with issuing() as issuer:
        auth = AuthConfig(proxy=PROXY, resource=RESOURCE, issuer=issuer.url)
        async with served(make(), auth=auth) as wire:
            own = await call(wire, era, bearer(issuer.token(sub="alice")))
            assert text_of(await own.outcome()) == "alice"
            # The proxy passes on what its users send; its own word is what counts.
            both = await call(wire, era, {**passed_on("bob"), **bearer(issuer.token(sub="alice"))})
            assert text_of(await both.outcome()) == "bob"
            assert (await first_answer(wire, era, {"X-User": "bob"})).status == 401


async def test_the_same_name_of_a_token_is_somebody_else() -> None:
    auth = AuthConfig(proxy=PROXY, tokens={"alice": FileToken(sha256=sha256_of("hw_a"))})
    async with served(make(), auth=auth) as wire:
        session = await Session.open(wire, extra=passed_on("alice"))
        other = Session(wire, session.version, session.id, bearer("hw_a"))
        assert (await other.post(other.call_message("who"))).status == 404


WRONG: dict[str, Callable[[], object]] = {
    "no name of a header": lambda: ProxyHeaders(user_header="X User", secret=SECRET),
    "has a meaning of its own": lambda: ProxyHeaders(user_header="Authorization", secret=SECRET),
    "must be different": lambda: ProxyHeaders(user_header="x-proxy-SECRET", secret=SECRET),
    "at least 16": lambda: ProxyHeaders(user_header="X-User", secret="short"),
}


@pytest.mark.parametrize("says", WRONG)
def test_what_cannot_be_meant_is_refused(says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        WRONG[says]()


def test_a_mistake_is_named_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "headway.toml"
    file.write_text('[auth.proxy]\nuser_heder = "X-User"\nsecret = "0123456789abcdef"\n')
    toml = read_toml(file)
    _, mistakes = parse_auth(toml)
    with pytest.raises(ConfigError, match=r"2.*user_heder.*did you mean 'user_header'"):
        toml.check(mistakes)
