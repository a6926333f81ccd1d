"""Where requests of the tools may go: addresses by a list of our own, networks denied, a proxy."""

import asyncio
import base64
import ssl
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.kit.program import programs_in
from tests.tools.raw_servers import RawServer, Start, Turned, allowed, local, raw_servers, reply
from tests.tools.test_addresses import certificate, trusted

from headway import Headway
from headway.testing import Outcome, run_tool
from headway.tools.batch import BatchTool
from headway.tools.config import ConfigError, load
from headway.tools.search import Api, Endpoint, SearchTool
from headway.tools.timing import SystemClock
from headway.tools.web.addresses import is_in, is_public, network_of
from headway.tools.web.hosts import Egress, Host, Hosts, Resolver

pytestmark = pytest.mark.anyio

PRIVATE = """
    0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 100.100.100.200 127.0.0.1 127.255.255.254 169.254.169.254
    172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.9 192.0.0.10 192.0.0.170 192.0.0.192 192.0.2.1
    192.31.196.1 192.52.193.1 192.88.99.1 192.168.0.1 192.175.48.1 198.18.0.1 198.19.255.255
    198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255 168.63.129.16
    ::1 :: ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:a9fe:a9fe ::127.0.0.1 ::ffff:0:127.0.0.1
    64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 64:ff9b::192.0.0.192 64:ff9b:1::808:808 100::1 2001::1
    2001:0:7f00:1::1 2001:1::1 2001:2::1 2001:10::1 2001:20::1 2001:db8::1 2002:7f00:1::
    2002:a9fe:a9fe:: 2002:c000:c0:: 2620:4f:8000::1 3fff::1 3fff:fff::1 fc00::1 fd00:ec2::254
    fe80::1 fe80::1%eth0 fec0::1 ff02::1 ff0e::1 5f00::1 4000::1 nonsense 1.2.3 0x7f.1
"""

PUBLIC = """
    1.1.1.1 8.8.8.8 93.184.216.34 100.63.255.255 100.128.0.1 172.32.0.1 192.0.1.1 198.20.0.1
    223.255.255.255 168.63.129.17 2606:4700:4700::1111 2a00:1450::1 2001:4860:4860::8888
    2002:808:808::1 ::ffff:8.8.8.8 64:ff9b::808:808 3ffe:ffff::1 2600::1%lo
"""


@pytest.mark.parametrize("address", PRIVATE.split())
def test_an_address_that_is_not_everybody_s_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC.split())
def test_an_address_that_is_everybody_s_is_public(address: str) -> None:
    assert is_public(address)


@pytest.fixture
async def start() -> AsyncGenerator[Start]:
    async with raw_servers() as start:
        yield start


def at(*addresses: str) -> Resolver:
    async def resolver(name: str, port: int) -> Sequence[str]:
        return addresses

    return resolver


async def batch(
    hosts: dict[str, Host], items: list[Any], url: str, *, egress: Egress,
    resolver: Resolver = local, **request: Any,
) -> Outcome:  # fmt: skip
    mcp = Headway("s")
    tool = BatchTool(Hosts(hosts, egress), clock=Turned(), resolver=resolver)
    mcp.add_tool(tool.process_batch)
    return await run_tool(
        mcp, "process_batch", {"items": items, "request": {"url": url, **request}}
    )


DENIED = Egress(deny=(network_of("10.9.0.0/16"), network_of("127.0.0.1"), network_of("fd09::/16")))


@pytest.mark.parametrize(
    "address",
    ["10.9.1.1", "127.0.0.1", "::ffff:10.9.0.1", "64:ff9b::a09:1", "2002:a09:1::", "fd09::7",
     "::10.9.0.1", "2001:0:a09:1::"],
)  # fmt: skip
async def test_a_network_that_is_denied_is_not_connected_to_although_its_host_is_private(
    start: Start, address: str
) -> None:
    web = await start(lambda _: reply())
    hosts = {"api.test": allowed(web.port)}
    url = f"http://api.test:{web.port}/{{item}}"
    outcome = await batch(hosts, [1], url, egress=DENIED, resolver=at("8.8.8.8", address))
    assert "'api.test' is at an address that is denied" in outcome.result["failures"][0]["reason"]
    assert web.heads == []


def test_what_is_no_address_counts_as_denied() -> None:
    assert is_in("nonsense", DENIED.deny)
    assert not is_in("8.8.8.8", DENIED.deny)


async def test_a_source_does_not_connect_to_what_is_denied(start: Start) -> None:
    web = await start(lambda _: reply(body=b"[]"))
    endpoint = Endpoint(
        url=f"http://127.0.0.1:{web.port}/?q={{query}}", hits="", title="t", link="l", private=True
    )
    mcp = Headway("s")
    mcp.add_tool(SearchTool([Api("web", endpoint, SystemClock(), egress=DENIED)]).search)
    outcome = await run_tool(mcp, "search", {"query": "x"})
    assert outcome.result["sources"][0]["status"] == "failed"
    assert web.heads == []


class Proxy:
    """A proxy that notes what it is asked, and connects everything to one port of this machine."""

    def __init__(self, target: int, status: int = 200) -> None:
        self.target = target
        self.status = status
        self.asked: list[str] = []
        self.heads: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.heads.append(head)
            first = head.split("\r\n")[0]
            self.asked.append(first)
            if not first.startswith("CONNECT"):
                writer.write(reply(body=b'"by the proxy"'))
                return
            writer.write(f"HTTP/1.1 {self.status} X\r\n\r\n".encode())
            if self.status == 200:
                await self._tunnel(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner, outer = await asyncio.open_connection("127.0.0.1", self.target)

        async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
            sink.close()

        await asyncio.gather(copy(reader, outer), copy(inner, writer), return_exceptions=True)


@asynccontextmanager
async def proxy_to(target: int, status: int = 200) -> AsyncGenerator[tuple[Proxy, str]]:
    proxy = Proxy(target, status)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    try:
        yield proxy, f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def unknown(name: str, port: int) -> Sequence[str]:
    raise OSError("no name is looked up here")


async def test_all_requests_go_through_the_proxy_which_looks_up_the_names() -> None:
    async with proxy_to(1) as (proxy, place):
        egress = Egress(proxy=f"http://user:opensesame@{place}")
        hosts = {"api.test": Host(), "inner.test": Host(private=True)}
        items = ["http://api.test/a", "http://inner.test/b", "http://evil.test/c"]
        outcome = await batch(hosts, items, "{item}", egress=egress, resolver=unknown)
    assert sorted(proxy.asked) == [
        "GET http://api.test/a HTTP/1.1", "GET http://inner.test/b HTTP/1.1",
    ]  # fmt: skip
    login = base64.b64encode(b"user:opensesame").decode()
    assert all(f"Basic {login}" in head for head in proxy.heads)
    bodies = {part["item"]: part.get("body") for part in outcome.parts}
    assert bodies["http://api.test/a"] == "by the proxy"
    assert "'evil.test' is not allowed" in outcome.result["failures"][0]["reason"]
    assert "opensesame" not in str(outcome)


async def test_behind_the_proxy_tls_is_for_the_name(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, secret = certificate(tmp_path, "api.test")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file, secret)
    web: RawServer = await start(lambda _: reply(body=b'"there"'), server)
    with trusted(file, monkeypatch):
        async with proxy_to(web.port) as (proxy, place):
            egress = Egress(proxy=f"http://{place}")
            hosts = {"api.test": Host(), "other.test": Host()}
            items = ["https://api.test/", "https://other.test/"]
            outcome = await batch(hosts, items, "{item}", egress=egress, resolver=unknown)
    assert sorted({line.split()[1] for line in proxy.asked}) == ["api.test:443", "other.test:443"]
    parts = {part["item"]: part for part in outcome.parts}
    assert parts["https://api.test/"]["body"] == "there"
    assert "certificate" in parts["https://other.test/"]["error"].lower()


async def test_this_machine_is_asked_without_the_proxy(start: Start) -> None:
    web = await start(lambda _: reply(body=b'"direct"'))
    async with proxy_to(1) as (proxy, place):
        hosts = {"localhost": allowed(web.port), "127.0.0.1": allowed(web.port)}
        items = [f"http://localhost:{web.port}/", f"http://127.0.0.1:{web.port}/"]
        outcome = await batch(hosts, items, "{item}", egress=Egress(proxy=f"http://{place}"))
    assert [part["body"] for part in outcome.parts] == ["direct", "direct"]
    assert proxy.asked == []


async def test_a_host_that_is_named_by_a_private_address_is_not_asked_by_a_proxy_either() -> None:
    async with proxy_to(1) as (proxy, place):
        egress = Egress(proxy=f"http://{place}", deny=(network_of("10.0.0.9"),))
        hosts = {"10.0.0.1": Host(), "10.0.0.9": Host(private=True), "10.0.0.2": Host(private=True)}
        items = ["http://10.0.0.1/", "http://10.0.0.9/", "http://10.0.0.2/"]
        outcome = await batch(hosts, items, "{item}", egress=egress, resolver=unknown)
    assert proxy.asked == ["GET http://10.0.0.2/ HTTP/1.1"]
    assert outcome.result["failed"] == 2


@pytest.mark.parametrize(("status", "attempts"), [(403, 1), (407, 1), (503, 4)])
async def test_a_proxy_that_refuses_is_named(status: int, attempts: int) -> None:
    async with proxy_to(1, status) as (_, place):
        egress = Egress(proxy=f"http://{place}")
        outcome = await batch({"api.test": Host()}, [1], "https://api.test/{item}", egress=egress)
    assert outcome.result["attempts"] == attempts
    assert f"the proxy: {status}" in outcome.result["failures"][0]["reason"]


async def test_a_proxy_that_is_away_is_named_without_its_address() -> None:
    egress = Egress(proxy="http://user:opensesame@127.0.0.1:1")
    outcome = await batch({"api.test": Host()}, [1], "http://api.test/{item}", egress=egress)
    reason = outcome.result["failures"][0]["reason"]
    assert reason == "the proxy: it cannot be reached"


async def test_proxies_of_the_environment_are_not_used(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    web = await start(lambda _: reply())
    for name in (
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "http_proxy",
        "https_proxy",
        "all_proxy",
    ):
        monkeypatch.setenv(name, "http://127.0.0.1:1/")
    monkeypatch.delenv("NO_PROXY", raising=False)
    hosts = {"api.test": allowed(web.port)}
    outcome = await batch(hosts, [1], f"http://api.test:{web.port}/{{item}}", egress=Egress())
    assert outcome.result["ok"] == 1


def test_a_proxy_of_the_environment_that_is_not_used_is_told_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "headway.toml").write_text('roots = ["."]\n[hosts."api.test"]\n')
    with programs_in(tmp_path) as programs:
        options = ("--config", "headway.toml", "--port", "0")
        program = programs.start("serve", *options, env={"HTTPS_PROXY": "http://u:pw@proxy:3128"})
        line = program.wait_for("HTTPS_PROXY is set")
        assert "write proxy =" in line
        assert "pw" not in line
        program.wait_for("headway: serving ")


def test_networks_and_the_proxy_are_in_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROXY_KEY", "opensesame")
    file = tmp_path / "headway.toml"
    file.write_text(
        'deny = ["10.0.0.0/8", "fd00::1"]\nproxy = "http://u:${PROXY_KEY}@egress:3128"\n'
    )
    config = load(file)
    assert list(map(str, config.egress.deny)) == ["10.0.0.0/8", "fd00::1/128"]
    assert config.egress.proxy == "http://u:opensesame@egress:3128"
    assert config.secrets.mask("with opensesame") == "with ***"
    file.write_text('deny = ["10.0.0.0/8", "intranet"]\nproxy = "socks5://u:opensesame@egress"\n')
    with pytest.raises(ConfigError) as refused:
        load(file)
    assert "headway.toml:1: deny.1: is no network" in str(refused.value)
    assert "headway.toml:2: proxy: it is no http or https proxy" in str(refused.value)
    assert "opensesame" not in str(refused.value)
