"""Where a server listens, what it says of that, and where its answers point."""

import asyncio
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from tests.kit.http import Answer, Connection
from tests.kit.peers import Modern, Wire, connect, each_era, served, text_of
from tests.kit.program import Programs, programs_in

from headway import Headway
from headway.cli.server.listener import bind, listening
from headway.errors import SetupError

pytestmark = pytest.mark.anyio

NAME = "two.example"
linux = pytest.mark.skipif(sys.platform != "linux", reason="127.0.0.2 is Linux's")


@pytest.fixture
def two_addresses(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A name that has two addresses, as `localhost` has on most machines."""
    addresses = ["127.0.0.2", "127.0.0.1"]
    real = socket.getaddrinfo

    def look_up(host: Any, port: Any, *args: Any, **options: Any) -> Any:
        names = addresses if host == NAME else [host]
        return [entry for name in names for entry in real(name, port, *args, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return addresses


def make() -> Headway:
    mcp = Headway("addresses")

    @mcp.tool()
    async def echo(text: str = "hi") -> str:
        return text

    @mcp.custom_route("/page", methods=["GET"])
    async def page(_request: Request) -> Response:
        return PlainTextResponse("page")

    @mcp.custom_route("/folder/", methods=["GET"])
    async def folder(_request: Request) -> Response:
        return PlainTextResponse("folder")

    @mcp.custom_route("/away", methods=["GET"])
    async def away(_request: Request) -> Response:
        return RedirectResponse("https://elsewhere.example/x")

    return mcp


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    with programs_in(tmp_path) as programs:
        yield programs


async def alive(host: str, port: int) -> bool:
    connection = await Connection.open(host, port)
    connection.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    is_alive = await (await connection.answer()).body() == b"alive"
    connection.cut()
    await asyncio.sleep(0)
    return is_alive


@linux
async def test_a_name_is_listened_on_at_all_its_addresses(two_addresses: list[str]) -> None:
    from headway import asgi
    from headway.cli.server.http_server import serving

    async with serving(asgi(make()), host=NAME) as origin:
        assert origin.startswith(f"http://{NAME}:")
        port = int(origin.rpartition(":")[2])
        assert [await alive(address, port) for address in two_addresses] == [True, True]
    for address in two_addresses:
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(address, port)


@linux
@pytest.mark.parametrize("taken", ["127.0.0.1", "127.0.0.2"])
async def test_a_port_that_is_taken_on_one_address_is_not_half_taken(
    taken: str, two_addresses: list[str]
) -> None:
    with listening(taken, 0) as other:
        with pytest.raises(SetupError, match=rf"port {other.port} on {NAME} \({taken}\) is in use"):
            bind(NAME, other.port)
        free = next(address for address in two_addresses if address != taken)
        with bind(free, other.port) as rest:
            assert rest.port == other.port


@linux
async def test_a_free_port_is_free_on_all_addresses(two_addresses: list[str]) -> None:
    with bind(NAME, 0) as listener:
        assert len({one.getsockname()[1] for one in listener.sockets}) == 1
        assert len(listener.sockets) == len(two_addresses)


@linux
async def test_an_address_that_this_machine_does_not_have_is_left_out(
    two_addresses: list[str],
) -> None:
    two_addresses[0] = "192.0.2.1"
    with bind(NAME, 0) as listener:
        assert [one.getsockname()[0] for one in listener.sockets] == ["127.0.0.1"]
    two_addresses[1] = "203.0.113.9"
    with pytest.raises(SetupError, match="is no address of this machine"):
        bind(NAME, 0)


def target(folder: Path) -> str:
    (folder / "own.py").write_text("from headway import Headway\nmcp = Headway('own')\n")
    return str(folder / "own.py")


def test_what_is_announced_is_an_address_that_a_client_can_use(
    programs: Programs, tmp_path: Path
) -> None:
    options = ["--host", "0.0.0.0", "--anonymous", "--port", "0", "--journal", "memory:"]
    program = programs.start("run", target(tmp_path), *options)
    said = program.wait_for("serving own at ")
    assert " at http://127.0.0.1:" in said
    assert "0.0.0.0" not in said
    assert "on all addresses" in said


async def test_all_processes_of_a_port_listen_on_all_addresses(
    programs: Programs, tmp_path: Path
) -> None:
    options = ["--host", "localhost", "--port", "0", "--workers", "2"]
    program, url = await asyncio.to_thread(programs.serve, "run", target(tmp_path), *options)
    assert url.startswith("http://localhost:")
    port = int(url.partition("localhost:")[2].partition("/")[0])
    found = socket.getaddrinfo("localhost", port, type=socket.SOCK_STREAM)
    for address in {entry[4][0] for entry in found}:
        assert await alive(str(address), port)
    program.interrupt()
    assert (await asyncio.to_thread(program.finish)).code == 0


# Where answers point


@each_era
async def test_the_endpoint_is_the_endpoint_with_a_slash_too(era: str) -> None:
    async with served(make()) as wire:
        client = await connect(wire, era)
        wire.path = "/mcp/"
        assert text_of(await (await client.call("echo")).outcome()) == "hi"


async def test_an_endpoint_that_ends_with_a_slash_is_one_without_it_too() -> None:
    async with served(make(), path="/tools/") as wire:
        for path in ("/tools/", "/tools"):
            wire.path = path
            assert text_of(await (await Modern(wire).call("echo")).outcome()) == "hi"


@pytest.mark.parametrize("path", ["/mcp/", "/page/", "/folder", "/page//", "/folder?x=http://e/"])
@pytest.mark.parametrize("host", ["evil.example", "localhost:1"])
@pytest.mark.parametrize("forwarded", [{}, {"X-Forwarded-Proto": "https"}])
async def test_no_answer_sends_a_client_to_what_it_said_of_the_address(
    path: str, host: str, forwarded: dict[str, str]
) -> None:
    headers = {"Host": host, "X-Forwarded-Host": "evil.example", **forwarded}
    async with served(make()) as wire:
        for method in ("GET", "POST"):
            answer = await wire.ask(method, headers, path=path)
            location = answer.headers.get("location", "")
            assert "//" not in location.partition("?")[0]
            assert "evil" not in location
            await answer.body()


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/page/", "../page"),
        ("/page///", "../../../page"),
        ("/folder", "./folder/"),
        ("/folder?a=b", "./folder/?a=b"),
    ],
)
async def test_a_redirect_to_the_same_page_is_right_whatever_a_proxy_took_away(
    path: str, location: str
) -> None:
    async with served(make()) as wire:
        answer = await wire.ask("GET", {}, path=path)
        assert (answer.status, answer.headers["location"]) == (307, location)


async def test_a_redirect_of_an_author_is_his_own() -> None:
    async with served(make()) as wire:
        answer = await wire.ask("GET", {}, path="/away")
        assert answer.headers["location"] == "https://elsewhere.example/x"


async def test_a_forwarded_address_opens_nothing() -> None:
    async with served(make()) as wire:
        for name, value in (("X-Forwarded-Host", "localhost"), ("Forwarded", "host=localhost")):
            answer = await _foreign(wire, {name: value, "X-Forwarded-For": "127.0.0.1"})
            assert answer.status == 421


async def _foreign(wire: Wire, headers: dict[str, str]) -> Answer:
    client = Modern(wire)
    return await client.post(client.call_message("echo"), {"Host": "evil.example", **headers})
