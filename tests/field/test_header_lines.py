"""Headers in several lines: one list where they are one, a refusal where they contradict, and
nothing that is decided by the last line where something else reads the first."""

import json
from typing import Any

import pytest
from tests.kit.auth import bearer, guarded_tools
from tests.kit.http import Answer
from tests.kit.peers import (
    Client,
    Modern,
    Session,
    Wire,
    connect,
    each_era,
    served,
    text_of,
)

from headway import Headway, Settings

pytestmark = pytest.mark.anyio


def make() -> Headway:
    mcp = Headway("lines")

    @mcp.tool()
    async def echo(text: str = "hi") -> str:
        return text

    return mcp


async def ask(
    wire: Wire,
    headers: dict[str, str],
    message: Any,
    *lines: str,
    without: str = "",
    target: str = "/mcp",
    method: str = "POST",
) -> Answer:
    """Send a message with headers and further lines, names repeated as they are."""
    body = b"" if message is None else json.dumps(message).encode()
    kept = {n: v for n, v in headers.items() if n.lower() != without.lower()}
    host = [] if without.lower() == "host" else [f"Host: {wire.host}:{wire.port}"]
    head = [f"{method} {target} HTTP/1.1", *host, *(f"{n}: {v}" for n, v in kept.items()), *lines]
    head.append(f"Content-Length: {len(body)}")
    return await wire.raw("\r\n".join([*head, "", ""]).encode("latin-1") + body)


def headers_of(client: Client, message: dict[str, Any]) -> dict[str, str]:
    return client.headers(message) if isinstance(client, Modern) else client.headers()


ACCEPTS = [
    ("application/json", "text/event-stream"),
    ("text/event-stream", "application/json"),
    ("text/html, application/json;q=0.9", "text/event-stream;q=0.1", "image/*"),
    ("*/*",),
    ("", "application/json, text/event-stream"),
]


@each_era
@pytest.mark.parametrize("lines", ACCEPTS, ids=str)
async def test_a_list_in_several_lines_is_one_list(era: str, lines: tuple[str, ...]) -> None:
    async with served(make()) as wire:
        client = await connect(wire, era)
        message = client.call_message("echo")
        accepts = [f"Accept: {line}" for line in lines]
        headers = headers_of(client, message)
        answer = await ask(wire, headers, message, *accepts, without="Accept")
        assert text_of(await answer.outcome()) == "hi"


async def test_a_list_in_several_lines_is_one_list_for_a_get_too() -> None:
    async with served(make()) as wire:
        session = await Session.open(wire)
        lines = ["Accept: text/html", "Accept: text/event-stream"]
        headers = session.headers(**{"Content-Type": None})
        answer = await ask(wire, headers, None, *lines, without="Accept", method="GET")
        assert (answer.status, answer.is_stream) == (200, True)


ONE_VALUE = {
    "Mcp-Session-Id": "another",
    "MCP-Protocol-Version": "2025-03-26",
    "Content-Type": "text/plain",
    "Idempotency-Key": "another",
    "Last-Event-ID": "a.b.c",
    "Authorization": "Bearer another",
    "Origin": "http://127.0.0.1",
    "Host": "localhost",
}


@each_era
@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("name", ONE_VALUE)
async def test_two_values_of_what_has_one_are_refused_by_name(
    era: str, name: str, is_first: bool
) -> None:
    async with served(make()) as wire:
        client = await connect(wire, era)
        message = client.call_message("echo")
        extra = {"Idempotency-Key": "k", "Origin": "http://localhost", "Authorization": "Bearer x"}
        headers = {**headers_of(client, message), **extra, "Last-Event-ID": "x.y.z"}
        right = f"{wire.host}:{wire.port}" if name == "Host" else headers.get(name, "mine")
        pair = [f"{name}: {ONE_VALUE[name]}", f"{name.lower()}: {right}"]
        lines = pair if is_first else pair[::-1]
        answer = await ask(wire, headers, message, *lines, without=name)
        error = (await answer.json())["error"]
        assert answer.status == 400
        assert name in error["message"]
        assert error["code"] == (-32020 if name == "MCP-Protocol-Version" else -32600)
        assert not wire.app.engine.runs


@each_era
@pytest.mark.parametrize("name", [name for name in ONE_VALUE if name != "Host"])
async def test_one_value_that_a_proxy_said_twice_is_one(era: str, name: str) -> None:
    async with served(make()) as wire:
        client = await connect(wire, era)
        message = client.call_message("echo")
        extra = {"Idempotency-Key": "k", "Origin": "http://localhost", "Authorization": "Bearer x"}
        headers = {**headers_of(client, message), **extra, "Last-Event-ID": "x.y.z"}
        if name not in headers:
            pytest.skip("this era does not have it")
        answer = await ask(wire, headers, message, f"{name}:  {headers[name]} ")
        if name == "MCP-Protocol-Version" and era == "2026":  # a rule of that revision
            assert (await answer.json())["error"]["code"] == -32020
        else:
            assert text_of(await answer.outcome()) == "hi"


@pytest.mark.parametrize("path", ["/mcp", "/healthz", "/metrics", "/nothing"])
@pytest.mark.parametrize("hosts", [("localhost", "evil"), ("localhost", "localhost")])
async def test_two_lines_of_host_are_refused_on_every_path(
    path: str, hosts: tuple[str, str]
) -> None:
    async with served(make()) as wire:
        lines = [f"Host: {host}" for host in hosts]
        answer = await ask(wire, {}, None, *lines, without="Host", target=path, method="GET")
        assert answer.status == 400


async def test_two_tokens_are_refused_before_either_is_looked_at() -> None:
    mcp = guarded_tools().mcp
    async with served(mcp) as wire:
        client = Modern(wire)
        message = client.call_message("whoami")
        for first, second in (("alice:1", "mallory:1"), ("nobody", "alice:1")):
            lines = [f"Authorization: Bearer {token}" for token in (first, second)]
            answer = await ask(wire, client.headers(message), message, *lines)
            assert answer.status == 400
            assert "Bearer" not in (await answer.body()).decode()
        one = await ask(wire, {**client.headers(message), **bearer("alice:1")}, message)
        assert text_of(await one.outcome()) == "alice"


HOSTS = [
    ("localhost:80@evil.example", 400),
    ("[::1].evil.example", 400),
    ("[::1]evil.example:80", 400),
    ("localhost:evil", 400),
    ("localhost:evil.example", 400),
    ("[localhost]evil", 400),
    ("user@localhost", 400),
    ("evil.example#localhost", 400),
    ("evil/.example.com", 400),
    ("evil.com?.example.com", 400),
    ("localhost\\.evil.example", 400),
    ("local host", 400),
    ("\xeflocalhost", 400),
    ("evil.example", 421),
    ("localhost.evil.example", 421),
    ("a.example.com.evil", 421),
    ("", 421),
    (":80", 421),
    ("localhost", 200),
    ("LOCALHOST:8000", 200),
    ("localhost:", 200),
    ("[::1]:8000", 200),
    ("a.example.com", 200),
]


@each_era
@pytest.mark.parametrize(("host", "status"), HOSTS, ids=str)
async def test_a_host_is_a_name_and_a_port_and_nothing_else(
    era: str, host: str, status: int
) -> None:
    settings = Settings(allowed_hosts=("*.example.com",))
    async with served(make(), settings=settings) as wire:
        client = await connect(wire, era)
        message = client.call_message("echo")
        headers = headers_of(client, message)
        answer = await ask(wire, headers, message, f"Host: {host}", without="Host")
        assert answer.status == status


async def test_a_request_without_a_host_is_a_400() -> None:
    async with served(make()) as wire:
        client = Modern(wire)
        message = client.call_message("echo")
        answer = await ask(wire, client.headers(message), message, without="Host")
        assert answer.status == 400
        assert "Host is missing" in (await answer.body()).decode()


TARGETS = [
    ("http://{here}/mcp", "evil.example", 200),
    ("HTTP://LOCALHOST/mcp", "evil.example", 200),
    ("http://{here}/mcp?x=1#y", "localhost", 200),
    ("http://evil.example/mcp", "localhost", 421),
    ("https://evil.example/mcp", "localhost", 421),
    ("http://localhost@evil.example/mcp", "localhost", 400),
    ("http:///mcp", "localhost", 400),
    ("http://[::1/mcp", "localhost", 400),
    ("ftp://localhost/mcp", "localhost", 400),
    ("mcp", "localhost", 400),
    ("localhost:80", "localhost", 400),
]


@pytest.mark.parametrize(("target", "host", "status"), TARGETS, ids=str)
async def test_the_host_of_a_whole_url_as_target_is_the_one_that_counts(
    target: str, host: str, status: int
) -> None:
    async with served(make()) as wire:
        client = Modern(wire)
        message = client.call_message("echo")
        target = target.format(here=f"{wire.host}:{wire.port}")
        lines = [f"Host: {host}"]
        headers = client.headers(message)
        answer = await ask(wire, headers, message, *lines, without="Host", target=target)
        assert answer.status == status


async def test_a_url_as_target_does_not_hide_two_hosts() -> None:
    async with served(make()) as wire:
        client = Modern(wire)
        message = client.call_message("echo")
        target, lines = "http://localhost/mcp", ["Host: a", "Host: b"]
        headers = client.headers(message)
        answer = await ask(wire, headers, message, *lines, without="Host", target=target)
        assert answer.status == 400


ORIGINS = [
    ("http://localhost:3000", 200),
    ("https://a.example.com", 200),
    ("https://evil.com/.example.com", 403),
    ("https://evil.com#.example.com", 403),
    ("https://evil.com?.example.com", 403),
    ("https://user@x.example.com", 403),
    ("https://evil.com:1.example.com", 403),
    ("http://evil.example@localhost", 403),
    ("http://evil.example\\@localhost", 403),
    ("//localhost", 403),
    ("javascript://localhost", 403),
    ("localhost", 403),
    ("null", 403),
]


@pytest.mark.parametrize(("origin", "status"), ORIGINS)
async def test_an_origin_is_a_scheme_a_host_and_a_port_and_nothing_else(
    origin: str, status: int
) -> None:
    settings = Settings(allowed_origins=("https://*.example.com",))
    async with served(make(), settings=settings) as wire:
        client = Modern(wire)
        message = client.call_message("echo")
        answer = await ask(wire, client.headers(message), message, f"Origin: {origin}")
        assert answer.status == status


async def test_a_version_of_http_that_is_not_spoken_is_refused() -> None:
    async with served(make()) as wire:
        for line in (b"GET /healthz HTTP/2.0\r\nHost: localhost\r\n\r\n", b"GET /healthz\r\n\r\n"):
            answer = await wire.raw(line)
            assert answer.status == 505
        old = await wire.raw(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert old.status == 200
