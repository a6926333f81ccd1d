"""`headway tools` and `headway call` ask this machine directly, and name a proxy that fails."""

import asyncio

import pytest
from tests.kit.waits import within

from headway.cli.client import peer
from headway.cli.client.http_client import ProxyRoute, route_to
from headway.cli.exit_codes import Refused, Unreachable

pytestmark = pytest.mark.anyio

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.1.2.3", "localhost", "LOCALHOST.", "api.localhost", "[::1]",
             "[::ffff:127.0.0.1]", "0.0.0.0"],
)  # fmt: skip
@pytest.mark.parametrize("proxy", ["http://proxy:1", "socks5://proxy:1", "nonsense://proxy"])
def test_this_machine_is_never_asked_through_a_proxy(
    host: str, proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in PROXIES[:3]:
        monkeypatch.setenv(name, proxy)
    url = f"http://{host}:8000/mcp"
    assert route_to(url) == ProxyRoute(url)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"HTTP_PROXY": "http://a:1"}, ("http://a:1", "HTTP_PROXY")),
        ({"http_proxy": "http://a:1"}, ("http://a:1", "http_proxy")),
        ({"HTTP_PROXY": "a:1"}, ("http://a:1", "HTTP_PROXY")),
        ({"ALL_PROXY": "http://a:1"}, ("http://a:1", "ALL_PROXY")),
        ({"HTTPS_PROXY": "http://a:1"}, ("", "")),
        ({"HTTP_PROXY": "http://a:1", "NO_PROXY": "mcp.example.com"}, ("", "")),
        ({"HTTP_PROXY": "http://a:1", "NO_PROXY": ".example.com"}, ("", "")),
        ({"HTTP_PROXY": "http://a:1", "NO_PROXY": "*"}, ("", "")),
        ({}, ("", "")),
    ],
)
def test_elsewhere_is_reached_as_the_variables_say(
    variables: dict[str, str], expected: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    way = route_to("http://mcp.example.com/mcp")
    assert (way.proxy, way.variable) == expected


@pytest.mark.parametrize(
    ("proxy", "words"),
    [
        ("socks5://proxy:1080", "socksio"),
        ("ftp://proxy:1", "not known"),
        ("http://[::1", "no URL of a proxy"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_a_usage_error_that_names_the_variable(
    proxy: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(Refused, match=words) as refused:
        route_to("http://mcp.example.com/mcp")
    assert "ALL_PROXY" in str(refused.value)
    assert "NO_PROXY" in str(refused.value)


async def listed(url: str) -> None:
    async with peer.connect_peer(url) as client:
        await peer.list_tools(client)


async def test_a_proxy_that_does_not_answer_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    monkeypatch.setenv("HTTP_PROXY", f"http://me:hunter2@127.0.0.1:{port}")
    with pytest.raises(Unreachable) as failed:
        await within(listed("http://mcp.example.com/mcp"))
    assert f"through the proxy http://127.0.0.1:{port} of HTTP_PROXY" in str(failed.value)
    assert "hunter2" not in str(failed.value)


async def test_what_a_proxy_answers_itself_is_told_with_its_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{port}")
        with pytest.raises(Unreachable, match="of ALL_PROXY"):
            await within(listed("http://mcp.example.com/mcp"))
