"""Tokens that only their authorization server can read: it is asked, and its word is believed."""

import asyncio
import base64
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import pytest
from mcp.server.auth.middleware.auth_context import get_access_token
from tests.auth.issuer import RESOURCE, issuing, waited_for
from tests.kit.auth import bearer
from tests.kit.http import Answer
from tests.kit.peers import Modern, Wire, served, text_of
from tests.kit.waits import within

from headway import Headway
from headway.tokens import AuthConfig, Introspection, KeysUnavailable
from headway.tokens.introspection import MOST_ASKED, TokenIntrospection

pytestmark = pytest.mark.anyio

SECRET = "s:ec ret/ü"
GOOD = {"active": True, "sub": "alice", "client_id": "app", "scope": "mcp", "aud": RESOURCE}


@dataclass
class Endpoint:
    """The endpoint of an authorization server, and what it says of each token."""

    url: str = ""
    known: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    answer: bytes | None = None
    """What it answers instead, head and all."""
    asked: list[str] = field(default_factory=list[str])
    logins: set[str] = field(default_factory=set[str])
    speaks: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            size = int(head.partition("content-length: ")[2].partition("\r\n")[0])
            [token] = parse_qs((await reader.readexactly(size)).decode())["token"]
            self.asked.append(token)
            self.logins.add(head.partition("authorization: basic ")[2].partition("\r\n")[0])
            await self.speaks.wait()
            body = json.dumps(self.known.get(token, {"active": False})).encode()
            writer.write(self.answer or b"HTTP/1.1 200 OK\r\n\r\n" + body)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    endpoint = Endpoint(known={"good": GOOD})
    endpoint.speaks.set()
    server = await asyncio.start_server(endpoint.serve, "127.0.0.1", 0)
    endpoint.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/introspect"
    with waited_for():
        yield endpoint
    endpoint.speaks.set()
    server.close()


def auth_of(endpoint: Endpoint, cache: str | float = 30.0, **more: Any) -> AuthConfig:
    asked = Introspection.model_validate(
        {"url": endpoint.url, "client": "head way", "secret": SECRET, "cache": cache}
    )
    said: dict[str, Any] = {"issuer": "https://idp.example.com/", **more}
    return AuthConfig(resource=RESOURCE, introspection=asked, scopes=("mcp",), **said)


@asynccontextmanager
async def serving(auth: AuthConfig) -> AsyncGenerator[Wire]:
    mcp = Headway("asking")

    @mcp.tool()
    async def who() -> str:
        token = get_access_token()
        return f"{token.subject} of {token.client_id}" if token else "nobody"

    assert who
    async with served(mcp, auth=auth) as wire:
        yield wire


async def call(wire: Wire, token: str) -> Answer:
    client = Modern(wire)
    return await client.post(client.call_message("who"), bearer(token))


async def test_without_a_cache_a_token_is_asked_about_each_time(endpoint: Endpoint) -> None:
    async with serving(auth_of(endpoint, cache="0s")) as wire:
        assert text_of(await (await call(wire, "good")).outcome()) == "alice of app"
        endpoint.known.clear()
        assert (await call(wire, "good")).status == 401


async def test_a_token_is_asked_about_once_in_a_while(endpoint: Endpoint) -> None:
    async with serving(auth_of(endpoint)) as wire:
        for _ in range(3):
            assert text_of(await (await call(wire, "good")).outcome()) == "alice of app"
            assert (await call(wire, "revoked")).status == 401
    assert endpoint.asked == ["good", "revoked"]
    [login] = endpoint.logins
    # Each part is encoded as in a form (RFC 6749, 2.3.1).
    whole = base64.b64encode(b"head+way:s%3Aec+ret%2F%C3%BC").decode()
    assert login == whole.lower()


WRONG: dict[str, dict[str, Any]] = {
    "another audience": {"aud": "https://mcp.example.com/other"},
    "no audience": {"aud": None},
    "audiences without ours": {"aud": ["https://a.example/mcp", RESOURCE + "2"]},
    "another issuer": {"iss": "https://evil.example/"},
    "no subject": {"sub": None},
    "a subject that is no text": {"sub": 1},
    "an end that is no number": {"exp": "soon"},
    "an end without end": {"exp": float("inf")},
    "not active": {"active": False},
}


@pytest.mark.parametrize("wrong", WRONG)
async def test_what_is_said_has_to_be_of_this_server(endpoint: Endpoint, wrong: str) -> None:
    said = {name: value for name, value in {**GOOD, **WRONG[wrong]}.items() if value is not None}
    endpoint.known["bad"] = said
    async with serving(auth_of(endpoint)) as wire:
        assert (await call(wire, "bad")).status == 401
        assert (await call(wire, "good")).status == 200


@pytest.mark.parametrize(("name", "bad", "fine"), [("exp", 1, 2**33), ("nbf", 2**33, 1)])
async def test_times_that_are_said_count(
    endpoint: Endpoint, name: str, bad: int, fine: int
) -> None:
    endpoint.known["bad"] = {**GOOD, name: bad}
    endpoint.known["fine"] = {**GOOD, name: fine}
    async with serving(auth_of(endpoint)) as wire:
        assert (await call(wire, "bad")).status == 401
        assert (await call(wire, "fine")).status == 200


async def test_a_scope_that_is_missing_is_asked_for(endpoint: Endpoint) -> None:
    endpoint.known["small"] = {**GOOD, "scope": "other"}
    async with serving(auth_of(endpoint)) as wire:
        refused = await call(wire, "small")
        assert refused.status == 403
        assert 'scope="mcp"' in refused.headers["www-authenticate"]


UNUSABLE = {
    "an error": b"HTTP/1.1 500 Oops\r\n\r\n",
    "wrong credentials": b"HTTP/1.1 401 Unauthorized\r\n\r\n{}",
    "another place": b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n",
    "no JSON": b"HTTP/1.1 200 OK\r\n\r\n<html>",
    "no object": b"HTTP/1.1 200 OK\r\n\r\n[true]",
    "nothing about it": b"HTTP/1.1 200 OK\r\n\r\n{}",
    "a word for yes": b'HTTP/1.1 200 OK\r\n\r\n{"active": "true"}',
    "depth": b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 100_000,
    "too much": b"HTTP/1.1 200 OK\r\n\r\n" + b" " * 300_000,
    "nothing": b"\r\n",
}


@pytest.mark.parametrize("kind", UNUSABLE)
async def test_nobody_is_let_in_or_sent_to_log_in_where_the_server_says_nothing(
    endpoint: Endpoint, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint.answer = UNUSABLE[kind]
    async with serving(auth_of(endpoint)) as wire:
        with caplog.at_level(logging.DEBUG):
            assert (await call(wire, "good")).status == 503
        endpoint.answer = None
        assert (await call(wire, "good")).status == 200
    assert "the authorization server says nothing of tokens" in caplog.text
    assert "ec ret" not in caplog.text
    assert "good" not in caplog.text


async def test_jwts_are_checked_by_keys_where_those_are_named(endpoint: Endpoint) -> None:
    async with issuing() as issuer:
        auth = auth_of(endpoint, issuer=issuer.url, jwks=f"{issuer.url}/keys")
        async with serving(auth) as wire:
            assert (await call(wire, issuer.token())).status == 200
            assert (await call(wire, issuer.token(name="two"))).status == 401
            assert (await call(wire, "good")).status == 200
        assert endpoint.asked == ["good"]
        token = issuer.token()
        endpoint.known[token] = GOOD
        async with serving(auth_of(endpoint, issuer=issuer.url)) as wire:
            assert (await call(wire, token)).status == 200
    assert endpoint.asked == ["good", token]


async def test_who_asks_together_asks_once_and_who_asks_too_much_waits(endpoint: Endpoint) -> None:
    endpoint.speaks.clear()
    options = auth_of(endpoint).introspection
    assert options is not None
    asking = TokenIntrospection(options)
    same = [asyncio.create_task(asking.find_claims("good", "good")) for _ in range(3)]
    others = [
        asyncio.create_task(asking.find_claims(f"t{number}", f"t{number}"))
        for number in range(MOST_ASKED - 1)
    ]
    await asyncio.sleep(0)
    with pytest.raises(KeysUnavailable, match="too many"):
        await asking.find_claims("one more", "one more")
    endpoint.speaks.set()
    assert await within(asyncio.gather(*same)) == [GOOD] * 3
    assert set(await within(asyncio.gather(*others))) == {None}
    assert endpoint.asked.count("good") == 1
    assert (await asking.find_claims("one more", "one more")) is None
